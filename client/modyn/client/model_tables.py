"""Models on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from modyn.client.costs import readable_bytes
from modyn.client.dataset_tables import DIGEST_CHARS
from modyn.client.models import EpochSummary
from modyn.client.options import format_time
from modyn.client.tables import console, new_table
from modyn.client.wording import number
from modyn.proto.common_pb2 import Garbage
from modyn.proto.storage_pb2 import StoredModel
from modyn.proto.trainer_server_pb2 import DownsamplingResult, ModelDescription, ModelUse, Telemetry, TrainResult

EPOCHS_SHOWN = 20

USES_SHOWN = 3


GARBAGE_SHOWN = 30

CURVE_SHOWN = 6
"""Points of a loss curve."""

PARTS = {
    "wait": "waiting for data",
    "parse": "parsing",
    "forward": "forward",
    "backward": "backward",
    "step": "optimizer step",
    "checkpoint": "checkpoints",
    "validation": "validation",
    "callback": "callbacks",
}
"""Parts of a training by the names of their fields."""


def print_models(models: Sequence[ModelDescription], stored: Mapping[str, StoredModel] | None = None) -> None:
    """A row for each.

    Args:
        models: to show.
        stored: what storage has, by digest; None: not known.
    """
    if not models:
        console().print("no model was trained yet")
        return
    table = new_table(
        None, "model", "dataset", "samples", "passes", "final loss", "trained", "warm start", "stored", "triggers"
    )
    for m in models:
        known = m.HasField("result")
        table.add_row(
            m.model[:DIGEST_CHARS],
            m.dataset,
            f"{m.result.num_samples:,}" if known else "-",
            f"{m.result.samples_trained:,}" if known else "-",
            number(m.result.final_loss) if m.result.HasField("final_loss") else "-",
            format_time(m.trained_at),
            m.initial_model[:DIGEST_CHARS] if m.HasField("initial_model") else "-",
            "-" if stored is None else _size(stored.get(m.model)),
            _uses(m.uses),
        )
    console().print(table)


def print_model(
    model: ModelDescription, epochs: Sequence[EpochSummary], stored: Mapping[str, StoredModel] | None = None
) -> None:
    """Where a model came from, and what it was really trained on; ``stored`` as of :func:`print_models`."""
    out = console()
    table = new_table(None, "", "")
    for row in _facts(model):
        table.add_row(*row)
    if stored is not None:
        table.add_row("stored", _stored(stored.get(model.model)))
    out.print(table)
    title = "really trained, where an epoch differs"
    if not model.HasField("trained"):
        held_out = ", but for what early stopping held out" if model.result.validation_losses else ""
        title = f"trained on its whole training set in every epoch{held_out}"
    shown = new_table(title, "from epoch", "samples", "sum of weights", "smallest", "largest", "first keys")
    for epoch in epochs[:EPOCHS_SHOWN]:
        more = ", …" if epoch.num_samples > len(epoch.first_keys) else ""
        shown.add_row(
            "auxiliary models only" if epoch.epoch < 0 else str(epoch.epoch),
            f"{epoch.num_samples:,}",
            *(f"{value:,.6g}" for value in (epoch.weight_sum, epoch.weight_min, epoch.weight_max)),
            ", ".join(map(str, epoch.first_keys)) + more,
        )
    out.print(shown)
    if len(epochs) > EPOCHS_SHOWN:
        out.print(f"{len(epochs) - EPOCHS_SHOWN:,} more; --json shows all of them, --keys FILE writes every key")


def print_garbage(garbage: Sequence[Garbage], *, dry_run: bool) -> None:
    """What was, or would be, removed; the largest first."""
    out = console()
    if not garbage:
        out.print("nothing to remove")
        return
    table = new_table(None, "kind", "name", "size", "days old", "why")
    for one in sorted(garbage, key=lambda one: -one.num_bytes)[:GARBAGE_SHOWN]:
        name = one.name if "/" in one.name else one.name[:DIGEST_CHARS]
        table.add_row(one.kind, name, readable_bytes(one.num_bytes), f"{one.age_seconds / 86_400:.1f}", one.reason)
    out.print(table)
    if len(garbage) > GARBAGE_SHOWN:
        out.print(f"{len(garbage) - GARBAGE_SHOWN:,} more; --json shows all of them")
    kinds = Counter(one.kind for one in garbage)
    size = readable_bytes(sum(one.num_bytes for one in garbage))
    counts = ", ".join(f"{kind}: {count:,}" for kind, count in kinds.items())
    out.print(f"{size} {'would be freed' if dry_run else 'freed'} ({counts})")


def _size(stored: StoredModel | None) -> str:
    if stored is None:
        return "removed"
    size = readable_bytes(stored.stored_bytes)
    return f"{size} (difference)" if stored.HasField("delta_of") else size


def _stored(stored: StoredModel | None) -> str:
    if stored is None:
        return "its weights were removed"
    size = readable_bytes(stored.num_bytes)
    if not stored.HasField("delta_of"):
        return f"{size}, whole"
    return f"{readable_bytes(stored.stored_bytes)} of {size}, as the difference from {stored.delta_of}"


def _facts(m: ModelDescription) -> Iterator[tuple[str, str]]:
    yield "model", m.model
    yield "dataset", m.dataset
    yield "training set", m.training_set
    whole = "none: the whole training set"
    if m.result.validation_losses:
        whole += ", but for what early stopping held out"
    yield "record of what was trained", m.trained if m.HasField("trained") else whole
    yield "initial model", m.initial_model if m.HasField("initial_model") else "none: random weights"
    yield "used by", _uses(m.uses, len(m.uses))
    yield "trained", format_time(m.trained_at)
    if m.HasField("result"):
        yield from _numbers(m.result)
    else:
        yield "its training", "numbers were not kept"


def _numbers(result: TrainResult) -> Iterator[tuple[str, str]]:
    yield "training set size", f"{result.num_samples:,}"
    yield "passes over samples", f"{result.samples_trained:,} in {result.epochs:,} epochs, {result.batches:,} batches"
    yield "final loss", number(result.final_loss) if result.HasField("final_loss") else "-"
    yield "seconds", f"{result.train_seconds:.2f} training, {result.job_seconds:.2f} from request to result"
    if result.HasField("telemetry"):
        yield from _telemetry(result.telemetry)
    if result.validation_losses:
        best = f", the best after epoch {result.best_epoch}" if result.HasField("best_epoch") else ""
        lowest, last = min(result.validation_losses), result.validation_losses[-1]
        yield "validation loss", f"{number(lowest)} at the lowest{best}; {number(last)} at the end"
    if result.HasField("downsampling"):
        yield from _downsampling(result.downsampling)


def _telemetry(telemetry: Telemetry) -> Iterator[tuple[str, str]]:
    """Where the time went, in a line, and how the loss fell, in another."""
    seconds = {part: getattr(telemetry, f"{part}_seconds") for part in PARTS}
    total = sum(seconds.values())
    if total > 0:
        shares = ", ".join(f"{PARTS[part]} {spent / total:.0%}" for part, spent in seconds.items() if spent)
        yield "of its time", f"{shares}; {telemetry.samples_per_second:,.0f} samples/s"
    if telemetry.HasField("gpu_memory_bytes"):
        used = f", {telemetry.gpu_utilisation:.0%} in use" if telemetry.HasField("gpu_utilisation") else ""
        yield "GPU", f"{readable_bytes(telemetry.gpu_memory_bytes)} of memory{used}"
    points = telemetry.losses
    if len(points) > 1:
        step = max(1, (len(points) - 1) // (CURVE_SHOWN - 1))
        shown = [*points[:-1:step][: CURVE_SHOWN - 1], points[-1]]
        yield "loss by batch", " → ".join(f"{number(point.loss)} ({point.batch:,})" for point in shown)


def _downsampling(result: DownsamplingResult) -> Iterator[tuple[str, str]]:
    yield "passes without downsampling", f"{result.samples_offered:,}"
    yield "scored", f"{result.samples_scored:,} samples, {result.scores_reused:,} scores reused"
    spent = f"{result.score_seconds:.2f} scoring, {result.choose_seconds:.2f} choosing"
    yield "seconds of downsampling", f"{spent}, {result.auxiliary_seconds:.2f} auxiliary models"
    if result.HasField("scores"):
        yield "scores for the next trigger", result.scores
    for model in result.auxiliary_models:
        yield "auxiliary model", model


def _uses(uses: Sequence[ModelUse], limit: int = USES_SHOWN) -> str:
    """References that ``models show`` takes."""
    shown = [f"{use.pipeline_id}:{use.trigger_index}{' (reused)' if use.reused else ''}" for use in uses[:limit]]
    return ", ".join(shown) + (f" and {len(uses) - limit:,} more" if len(uses) > limit else "")
