"""Longer studies of drift tests for ``benchmarks/RESULTS.md``: false alarms, power, known changes of real streams.

    python -m benchmarks.triggers.studies FOLDER [PROCESSES]

keeps what is made in FOLDER, so that a study that was cut short goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.results import save_section
from benchmarks.triggers import calibration, known_drift


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    false_alarms = calibration.study(folder, processes=int(arguments[1]) if len(arguments) > 1 else 2)
    save_section("drift-1-false-alarms", _FALSE_ALARMS + calibration.table(false_alarms))
    save_section("drift-2-power", _POWER + calibration.power_table(calibration.power()))
    save_section("drift-3-known-changes", _KNOWN + known_drift.table(known_drift.rows()))
    missed = [row for row in false_alarms if not calibration.holds(row)]
    for row in missed:
        print(f"false alarms: {row.case}, {row.metric}, alpha {row.alpha:g}: {row.flagged:.4f}", file=sys.stderr)
    return 1 if missed else 0


_FALSE_ALARMS = """## Drift tests without drift

Share of runs in which `HypothesisTestCriterion` fires although nothing changed: independent samples, AR(1) streams
(φ in the name) and the same with a season of 48 samples whose variance is that of the rest; windows of n samples each,
d features, 100 permutations. *Without blocks* is the same test with `block_length: 1`, the usual permutation test, on
every fifth run. *Too short*: windows that the test refuses because they hold too few blocks; they do not fire.
A row holds if independent samples are flagged within 1.5 (α = .05) or .7 points (α = .01) of α, dependent ones in at
most 2 or 1 points more than α.

"""

_POWER = """## Drift tests on known drift

Share of 200 runs in which drift was found at α = .05: windows of 200 samples of 64 correlated features.

"""

_KNOWN = """## Drift triggers on streams whose changes are known

`share` of the changes after which the trigger fired before the next one, mean delay in samples, and firings that no
change accounts for. The changes of `sea` are of labels alone: nothing is to be found in its inputs.

"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
