"""Every downsampling strategy on growing data, beside uniform sampling and fewer epochs at the same compute.

    python -m benchmarks.selection.study FOLDER [DATASET ...]

runs the pipelines that FOLDER does not have yet, writes `docs/studies/downsampling.md` from what it has, and can be cut
short at any time.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image
from pyarrow import parquet

from benchmarks.storage.timing import say
from modyn.client import Client
from modyn.core.report import Report

SHARED = Path(__file__).parents[3] / "shared" / "data"
PAGE = Path(__file__).parents[2] / "docs" / "studies" / "downsampling.md"
SEEDS = range(5)
RATIOS = (125, 250, 500)
"""In parts of 1,000."""

IL: dict[str, Any] = {"epochs_per_trigger": 20, "batch_size": 16, "use_previous_model": True}
ONCE: dict[str, Any] = {"sample_then_batch": True, "period": 0}
EACH: dict[str, Any] = {"sample_then_batch": True}

POLICIES: dict[str, dict[str, Any]] = {
    "Uniform": {"strategy": "Uniform"},
    "FewerEpochs": {"strategy": "FewerEpochs"},
    "RS2": {"strategy": "RS2", "with_replacement": False},
    "InfoBatch": {"strategy": "InfoBatch"},
    "Loss": {"strategy": "Loss", **EACH},
    "Loss, batch-then-sample": {"strategy": "Loss"},
    "GradNorm": {"strategy": "GradNorm", **EACH},
    "Uncertainty (margin)": {"strategy": "Uncertainty", "score_metric": "Margin", **EACH},
    "RHOLoss": {"strategy": "RHOLoss", "holdout_set_strategy": "Simple", "holdout_set_ratio": 10, **EACH},
    "KcenterGreedy": {"strategy": "KcenterGreedy", **ONCE},
    "Craig": {"strategy": "Craig", **ONCE},
    "GradMatch": {"strategy": "GradMatch", "balance": True, **ONCE},
    "Submodular (facility location)": {
        "strategy": "Submodular",
        "submodular_function": "FacilityLocation",
        "balance": True,
        **ONCE,
    },
}


@dataclass(frozen=True)
class Stream:
    """A growing dataset and how it is trained."""

    title: str
    model: dict[str, Any]
    data: dict[str, Any]
    trigger: dict[str, Any]
    training: dict[str, Any]
    window: str

    def pipeline(self, name: str, strategy: dict[str, Any] | None, seed: int) -> dict[str, Any]:
        selection: dict[str, Any] = {"name": "CoresetStrategy", "tail_triggers": 0}
        if strategy is not None:
            if strategy["strategy"] == "RHOLoss":
                il = {"il_model_id": self.model["id"], "il_model_config": self.model["config"]}
                strategy = {**strategy, "il_training_config": {**self.training, **IL, **il}}
            selection["downsampling_config"] = strategy
        source = {"format": "parquet", "path": "data", "timestamp": "timestamp", "label": "label", "settle_seconds": 0}
        windows = {"type": "SlicingEvalStrategy", "eval_every": self.window}
        return {
            "pipeline": {"name": name},
            "data": {"dataset_id": "stream", "source": source, **self.data},
            "model": self.model,
            "trigger": self.trigger,
            "selection_strategy": selection,
            "training": {**self.training, "seed": seed},
            "evaluation": {"handlers": [{"name": "next", "models": "active", "strategy": windows}]},
        }


STREAMS = {
    "elec2": Stream(
        "Elec2 (45,312 samples, a trigger every 30 days, scored on the weeks that follow)",
        {"id": "MLP", "config": {"in_features": 6, "hidden": [64, 64], "num_classes": 2}},
        {},
        {"id": "TimeTrigger", "every": "30d"},
        {
            "epochs_per_trigger": 8,
            "batch_size": 128,
            "optimizers": [{"algorithm": "AdamW", "param_groups": [{"config": {"lr": 0.003}}]}],
        },
        "1w",
    ),
    "mnist": Stream(
        "Rotated MNIST (10,000 digits turned further every 1,000, a trigger after each of them, scored on the next)",
        {"id": "SmallCNN", "config": {"in_channels": 1, "channels": [8, 16], "hidden": 64, "num_classes": 10}},
        {"parser": {"name": "image", "encoding": "raw", "height": 28, "width": 28, "channels": 1}},
        {"id": "DataAmountTrigger", "num_samples": 1000},
        {"epochs_per_trigger": 8, "optimizers": [{"algorithm": "AdamW", "param_groups": [{"config": {"lr": 0.003}}]}]},
        "1000s",
    ),
}


@dataclass(frozen=True)
class Run:
    """What one pipeline was worth, and what it took."""

    dataset: str
    policy: str
    ratio: int
    seed: int
    accuracy: float
    seconds: float
    passes: int


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    for dataset in arguments[1:] or STREAMS:
        _run_missing(folder / dataset, dataset)
    write_page(folder)
    return 0


def _run_missing(folder: Path, dataset: str) -> None:
    data = folder / "data" / "stream.parquet"
    if not data.exists():
        table = {"elec2": _elec2, "mnist": _rotated_digits}[dataset]()
        data.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, data)
    with Client.embedded(folder / "state") as client:
        for policy, ratio, seed, strategy in _cases():
            path = folder / f"{policy}-{ratio}-{seed}.json"
            if not path.exists():
                report = _report(client, folder, STREAMS[dataset].pipeline(policy, strategy, seed))
                run = _result(report, dataset, policy, ratio, seed)
                path.write_text(json.dumps(asdict(run)))
                say(f"{dataset} {policy} {ratio / 10:g} % seed {seed}: {run.accuracy:.4f}, {run.seconds:.1f} s")


def _cases() -> Iterator[tuple[str, int, int, dict[str, Any] | None]]:
    for seed in SEEDS:  # seed by seed, so that a study that was cut short compares all policies
        yield "All data", 1000, seed, None
        for ratio, (policy, strategy) in itertools.product(RATIOS, POLICIES.items()):
            yield policy, ratio, seed, {**strategy, "ratio": ratio, "ratio_max": 1000}


def _report(client: Client, folder: Path, pipeline: dict[str, Any]) -> Report:
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(pipeline))
    pipeline_id = client.submit(path, reuse=False)
    client.wait(pipeline_id)
    return client.report(pipeline_id)


def _result(report: Report, dataset: str, policy: str, ratio: int, seed: int) -> Run:
    assert report.pipeline.status == "completed", report.pipeline.error
    score = report.composite["next"]["stream"]["Accuracy"].currently_active
    assert score is not None
    seconds = sum(trigger.seconds.start + trigger.seconds.train + trigger.seconds.store for trigger in report.triggers)
    return Run(dataset, policy, ratio, seed, score, seconds, report.cost.samples_trained)


def _elec2() -> pa.Table:
    columns = ["timestamp", "day", "period", "nswdemand", "vicprice", "vicdemand", "transfer", "label"]
    return parquet.read_table(SHARED / "elec2.parquet").select(columns)


def _rotated_digits() -> pa.Table:
    """Every 1,000 digits are turned 15 degrees further."""
    digits = np.load(SHARED / "mnist_test_10k.npz")
    images, targets = digits["images"], digits["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(targets))
    pixels = []
    for place, index in enumerate(order.tolist()):
        image = Image.fromarray(images[index])
        pixels.append(image.rotate(15 * (place // 1000), resample=Image.Resampling.BILINEAR).tobytes())
    return pa.table(
        {"image": pa.array(pixels, pa.binary()), "label": targets[order], "timestamp": np.arange(len(order))}
    )


# ------------------------------------------------------------------------------------------------------- the page


def write_page(folder: Path) -> None:
    """Tables of all runs in a folder."""
    runs = [Run(**json.loads(path.read_text())) for path in sorted(folder.glob("*/*.json"))]
    parts = [_INTRODUCTION]
    for dataset, stream in STREAMS.items():
        here = [run for run in runs if run.dataset == dataset]
        if here:
            parts += [f"## {stream.title}\n", *_table(here)]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(parts).rstrip() + "\n")


def _table(runs: list[Run]) -> Iterator[str]:
    whole = [run for run in runs if run.policy == "All data"]
    counts = Counter((run.policy, run.ratio) for run in runs).values()
    seeds = f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    yield f"All data: {_accuracy(whole)}, {_seconds(whole)}; {seeds} seeds, ± the standard deviation over them.\n"
    yield "| strategy | " + " | ".join(f"{r / 10:g} %: accuracy | seconds | passes" for r in RATIOS) + " |"
    yield "|---|" + "---|---|---|" * len(RATIOS)
    all_passes = np.mean([run.passes for run in whole])
    for policy in POLICIES:
        cells = []
        for ratio in RATIOS:
            here = [run for run in runs if run.policy == policy and run.ratio == ratio]
            share = np.mean([run.passes for run in here]) / all_passes if here else 0
            cells.append(f"{_accuracy(here)} | {_seconds(here)} | {share:.0%}" if here else "– | – | –")
        yield f"| {policy} | " + " | ".join(cells) + " |"
    yield ""


def _accuracy(runs: list[Run]) -> str:
    values = [100 * run.accuracy for run in runs]
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=min(1, len(values) - 1)):.2f}"


def _seconds(runs: list[Run]) -> str:
    return f"{np.mean([run.seconds for run in runs]):.1f} s"


_INTRODUCTION = """# Does downsampling pay?

Each strategy at three ratios, beside the two baselines of the same compute: *Uniform* (another random part of the data
in each epoch) and *FewerEpochs* (all data, for a part of the epochs). Accuracy is that of the composite model in per
cent: each window is scored by the model that would have been live. Seconds are those of all trainings, with scoring,
choosing and the fixed cost of each job; passes are samples trained, relative to training on all data. Strategies with
scores choose anew in each epoch, the greedy ones once at each trigger. Every trigger trains on the data since the last
one, starting from the last model. The irreducible losses of RHOLoss come from a model of the same kind, trained for 20
epochs on a tenth of the data that is held out. `make study-selection` runs it again.
"""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
