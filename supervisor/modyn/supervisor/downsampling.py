"""Whether downsampling paid: its part of the report, from the journal alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from modyn.core.config.reader import load_pipeline_text
from modyn.core.report import (
    BaselineKind,
    BaselinePart,
    CompositeScore,
    DownsamplingPart,
    DownsamplingSeconds,
    TriggerDownsamplingPart,
)
from modyn.core.scores import ScoreName
from modyn.supervisor.composites import cells_of, composite_scores, directions, trained_triggers
from modyn.supervisor.handlers import known_handlers
from modyn.supervisor.journal import COMPLETED, Journal, PipelineRow, TriggerRow

INSIGNIFICANT = 0.005
"""Differences of composite scores up to this are called no difference."""

_IN_WORDS: Mapping[BaselineKind, str] = {"uniform": "a uniform sample", "fewer_epochs": "all samples in fewer epochs"}

Composite = Mapping[str, Mapping[str, Mapping[str, CompositeScore]]]


def trigger_downsampling_part(row: TriggerRow) -> TriggerDownsamplingPart | None:
    """What the strategy did at a trigger; None if there was none."""
    if row.downsampling is None:
        return None
    return TriggerDownsamplingPart(
        strategy=row.downsampling,
        samples_offered=row.samples_offered,
        samples_scored=row.samples_scored,
        scores_reused=row.scores_reused,
        auxiliary_samples=row.auxiliary_samples,
        trained=row.trained,
        seconds=DownsamplingSeconds(
            score=row.score_seconds, choose=row.choose_seconds, auxiliary=row.auxiliary_seconds
        ),
    )


def downsampling_part(
    journal: Journal, pipeline: PipelineRow, triggers: Sequence[TriggerRow], composite: Composite
) -> DownsamplingPart | None:
    """The section of a pipeline; None if no training set was downsampled.

    Args:
        journal: has the baselines.
        pipeline: whose report it is.
        triggers: of it, in order.
        composite: its scores by handler, dataset and metric.
    """
    used = [trigger for trigger in triggers if trigger.downsampling is not None]
    if not used:
        return None
    saved, spent = sum(map(_seconds_saved, used)), sum(map(_seconds_spent, used))
    newest = {row.baseline: row for row in journal.baselines(pipeline.id)}
    baselines = [_baseline_part(journal, newest[kind]) for kind in _IN_WORDS if kind in newest]
    return DownsamplingPart(
        strategies=list(dict.fromkeys(trigger.downsampling for trigger in used if trigger.downsampling is not None)),
        triggers=len(used),
        samples_offered=sum(trigger.samples_offered for trigger in used),
        samples_trained=sum(trigger.samples_trained for trigger in used),
        samples_scored=sum(trigger.samples_scored for trigger in used),
        scores_reused=sum(trigger.scores_reused for trigger in used),
        auxiliary_samples=sum(trigger.auxiliary_samples for trigger in used),
        train_seconds=sum(trigger.train_seconds for trigger in used),
        score_seconds=sum(trigger.score_seconds for trigger in used),
        choose_seconds=sum(trigger.choose_seconds for trigger in used),
        auxiliary_seconds=sum(trigger.auxiliary_seconds for trigger in used),
        seconds_saved=saved,
        seconds_net=saved - spent,
        total_seconds=_total_seconds(triggers),
        verdict=" ".join((_of_time(saved, spent), _of_scores(composite, baselines), *_of_other_passes(used))),
        baselines=baselines,
    )


def _seconds_spent(row: TriggerRow) -> float:
    """On what training on all samples would have done without."""
    return row.score_seconds + row.choose_seconds + row.auxiliary_seconds


def _seconds_saved(row: TriggerRow) -> float:
    """What the passes left out would have taken, at the pace of those that were trained."""
    if row.samples_trained == 0:
        return 0.0
    training = row.train_seconds - _seconds_spent(row)
    return (row.samples_offered - row.samples_trained) * training / row.samples_trained


def _total_seconds(triggers: Sequence[TriggerRow]) -> float:
    return sum(trigger.select_seconds + trigger.train_seconds + trigger.store_seconds for trigger in triggers)


def _baseline_part(journal: Journal, row: PipelineRow) -> BaselinePart:
    assert row.baseline is not None, "the query asks for baselines"
    triggers = journal.triggers(row.id)
    trained = trained_triggers(triggers)
    config = load_pipeline_text(row.resolved_yaml, row.name).require_runnable()
    known = known_handlers(config, row.evaluated_extents, journal.handlers(row.id))
    groups = cells_of(journal, row.id, known, trained)
    composite = composite_scores(groups, known, directions(journal.metrics(row.id)))
    return BaselinePart(
        kind=row.baseline,
        id=str(row.id),
        status=row.status,
        error=row.error,
        trainings=len(trained),
        trainings_reused=sum(trigger.reused for trigger in trained),
        samples_trained=sum(trigger.samples_trained for trigger in trained),
        train_seconds=sum(trigger.train_seconds for trigger in trained),
        total_seconds=_total_seconds(triggers),
        composite={
            handler: {
                dataset: {metric: score.currently_active for metric, score in metrics.items()}
                for dataset, metrics in datasets.items()
            }
            for handler, datasets in composite.items()
        },
    )


def _of_time(saved: float, spent: float) -> str:
    if saved > spent:
        return f"It saved an estimated {saved - spent:.2f} s: {saved:.2f} s of training for {spent:.2f} s of its own."
    return (
        f"It saved no time: an estimated {saved:.2f} s of training for {spent:.2f} s of its own, "
        f"{spent - saved:.2f} s more than training on everything."
    )


def _of_scores(composite: Composite, baselines: Sequence[BaselinePart]) -> str:
    completed = [baseline for baseline in baselines if baseline.status == COMPLETED]
    if not completed:
        return "What the same number of passes is worth without it, a run with --baselines shows."
    compared = list(_compared(composite, completed))
    if not compared:
        return "No score can be compared with a baseline."
    if len(compared) == 1:
        [(score, kind, best, gain)] = compared
        outcome = "no difference" if abs(gain) <= INSIGNIFICANT else "better" if gain > 0 else "worse"
        of = f"the best baseline ({_IN_WORDS[kind]})" if len(completed) > 1 else _IN_WORDS[kind]
        return f"With as many passes it scores {score:.4f} and {of} {best:.4f}: {outcome}."
    better = sum(gain > INSIGNIFICANT for *_, gain in compared)
    worse = sum(gain < -INSIGNIFICANT for *_, gain in compared)
    return (
        f"With as many passes it is better than every baseline in {better} of {len(compared)} scores, "
        f"worse than one in {worse}."
    )


def _of_other_passes(used: Sequence[TriggerRow]) -> Iterator[str]:
    """What a strategy runs models for besides training, which its baselines do not."""
    scored = sum(trigger.samples_scored for trigger in used)
    auxiliary = sum(trigger.auxiliary_samples for trigger in used)
    if scored or auxiliary:
        models = f" and trained models for comparison on {auxiliary:,}" if auxiliary else ""
        yield f"Besides those passes it scored {scored:,} samples{models}, which baselines do not."


def _compared(
    composite: Composite, baselines: Sequence[BaselinePart]
) -> Iterator[tuple[float, BaselineKind, float, float]]:
    """Of each score of all samples and classes that the pipeline and a baseline have: its own, the best baseline, that
    one's, and by how much the own is better."""
    for handler, datasets in composite.items():
        for dataset, metrics in datasets.items():
            for metric, score in metrics.items():
                known = [
                    (value, baseline.kind)
                    for baseline in baselines
                    if (value := baseline.composite.get(handler, {}).get(dataset, {}).get(metric)) is not None
                ]
                if known and score.currently_active is not None and ScoreName.parse(metric).is_whole:
                    sign = 1 if score.greater_is_better else -1
                    best, kind = max(known, key=lambda one: sign * one[0])
                    yield score.currently_active, kind, best, sign * (score.currently_active - best)
