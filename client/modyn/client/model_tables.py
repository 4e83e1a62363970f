"""Models on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modyn.client.dataset_tables import DIGEST_CHARS
from modyn.client.markdown import number
from modyn.client.models import EpochSummary
from modyn.client.options import format_time
from modyn.client.tables import console, new_table
from modyn.proto.trainer_server_pb2 import DownsamplingResult, ModelDescription, ModelUse, TrainResult

EPOCHS_SHOWN = 20

USES_SHOWN = 3


def print_models(models: Sequence[ModelDescription]) -> None:
    """A row for each."""
    if not models:
        console().print("no model was trained yet")
        return
    table = new_table(None, "model", "dataset", "samples", "passes", "final loss", "trained", "warm start", "triggers")
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
            _uses(m.uses),
        )
    console().print(table)


def print_model(model: ModelDescription, epochs: Sequence[EpochSummary]) -> None:
    """Where a model came from, and what it was really trained on."""
    out = console()
    table = new_table(None, "", "")
    for row in _facts(model):
        table.add_row(*row)
    out.print(table)
    whole = not model.HasField("trained")
    title = "trained on its whole training set in every epoch" if whole else "really trained, where an epoch differs"
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


def _facts(m: ModelDescription) -> Iterator[tuple[str, str]]:
    yield "model", m.model
    yield "dataset", m.dataset
    yield "training set", m.training_set
    yield "record of what was trained", m.trained if m.HasField("trained") else "none: the whole training set"
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
    if result.HasField("downsampling"):
        yield from _downsampling(result.downsampling)


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
