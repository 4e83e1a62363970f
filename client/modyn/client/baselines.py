"""What a downsampling strategy is compared with: the same pipeline and as many passes over samples, without it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from modyn.core.config.pipeline import PipelineConfig
from modyn.core.config.reader import load_pipeline_text, resolved_yaml
from modyn.core.config.source import write_yaml
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, NoDownsampling
from modyn.core.report import BaselineKind, Report

BASELINES: Mapping[BaselineKind, str] = {
    "uniform": "as many samples, drawn uniformly",
    "fewer_epochs": "all samples, in fewer epochs",
}
"""All kinds, in words."""

_STRATEGIES: Mapping[BaselineKind, str] = {"uniform": "Uniform", "fewer_epochs": "FewerEpochs"}

_MAX_NAME_CHARS = 200
"""Of a pipeline."""


def check_has_downsampling(config: PipelineConfig) -> None:
    """
    Raises:
        InvalidInputError: there is nothing to compare a baseline with.
    """
    if not any(map(_downsamples, _entries(config.model_dump(mode="json")["selection_strategy"]))):
        raise InvalidInputError(
            "--baselines compares a downsampling strategy with training on as many samples without it, but "
            f"selection_strategy ({config.selection_strategy.plugin_name}) has none; "
            "name one in selection_strategy.downsampling_config, or leave --baselines out"
        )


def baseline_yaml(report: Report, pipeline: str, kind: BaselineKind) -> str:
    """A pipeline that trains on as many samples as another one did, without its strategies.

    Each strategy is replaced; warm-up and the thresholds of a schedule stay. The share is the one really trained over
    all triggers of the strategy, so that both cost the same: strategies such as ``InfoBatch`` do not train on their
    ``ratio``. Where every trigger did train on exactly that, it stays as it is written.

    Args:
        report: of the pipeline that is compared.
        pipeline: its YAML, every default filled in.
        kind: which baseline.

    Returns:
        YAML.

    Raises:
        InvalidInputError: that pipeline cannot be compared.
    """
    if report.run.mode == "live":
        raise InvalidInputError(
            f"pipeline {report.pipeline.id} ran live; baselines are compared with a replay: run it as one"
        )
    if report.downsampling is None:
        raise InvalidInputError(
            f"pipeline {report.pipeline.id} trained nothing with a downsampling strategy; there is nothing to compare"
        )
    config = load_pipeline_text(pipeline, f"pipeline {report.pipeline.id}").require_runnable()
    shares = _trained_shares(report, config)
    tree = config.model_dump(mode="json")
    suffix = f" (baseline: {kind.replace('_', ' ')})"
    tree["pipeline"]["name"] = tree["pipeline"]["name"][: _MAX_NAME_CHARS - len(suffix)] + suffix
    for entry in _entries(tree["selection_strategy"]):
        if not _downsamples(entry):
            continue
        share = shares.get(_identity(entry))
        ratio, ratio_max = share.as_integer_ratio() if share else (entry["ratio"], entry["ratio_max"])
        period = {"period": _period(entry)} if kind == "uniform" else {}
        entry.clear()
        entry.update(strategy=_STRATEGIES[kind], ratio=ratio, ratio_max=ratio_max, **period)
    text = write_yaml(tree)
    return resolved_yaml(load_pipeline_text(text, tree["pipeline"]["name"]).require_runnable())


def _entries(tree: Any) -> Iterator[dict[str, Any]]:
    """All downsampling strategies in a section, those of schedules one by one."""
    if isinstance(tree, list):
        for item in tree:
            yield from _entries(item)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key == "downsampling_config":
                yield from value.get("downsampling_list", [value])
            else:
                yield from _entries(value)


def _period(entry: Mapping[str, Any]) -> int:
    """How many epochs a strategy keeps its choice for; one that chooses batch by batch chooses in each."""
    return int(entry.get("period", 1)) if entry.get("sample_then_batch", True) else 1


def _downsamples(entry: Mapping[str, Any]) -> bool:
    return not issubclass(DOWNSAMPLING_STRATEGIES.get(entry["strategy"]), NoDownsampling)


def _trained_shares(report: Report, config: PipelineConfig) -> dict[str, Fraction]:
    """Which part of the passes each strategy trained; left out where that is what its ratio says.

    Triggers that ``num_samples_to_pass`` limits say nothing of it: whatever the ratio, they pass that many.
    """
    trained: dict[str, int] = defaultdict(int)
    offered: dict[str, int] = defaultdict(int)
    off: set[str] = set()
    for trigger in report.triggers:
        strategy = config.selection_strategy.downsampling(trigger.index)
        limited = trigger.index < len(config.training.num_samples_to_pass or ())
        if trigger.downsampling is None or strategy is None or not trigger.samples or limited:
            continue
        name = _identity(DOWNSAMPLING_STRATEGIES.dump(strategy))
        trained[name] += trigger.samples_trained
        offered[name] += trigger.downsampling.samples_offered
        expected = Fraction(strategy.target_size(trigger.samples), trigger.samples)
        if trigger.samples_trained != expected * trigger.downsampling.samples_offered:
            off.add(name)
    return {name: min(Fraction(trained[name], offered[name]), Fraction(1)) for name in off if trained[name]}


def _identity(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)
