"""Journals what the evaluator says while it says it, so that a supervisor that is killed keeps what was scored."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from modyn.core.plugins.evaluation import Window
from modyn.proto import evaluator_pb2 as evaluator_pb
from modyn.supervisor.failures import NOTICES, failure_message
from modyn.supervisor.journal import Journal
from modyn.supervisor.rows import (
    CertificationKind,
    ConfusionRow,
    EvaluationCost,
    FailureRow,
    MetricRow,
    OffsetRow,
    ScoreRow,
    WindowRow,
    baseline_subject,
    trigger_subject,
)
from modyn.supervisor.score_tables import Scored

PORTION_ROWS = 5_000
PORTION_SECONDS = 2.0
"""Scores are journaled when there are so many, or the oldest is so old."""

_CERTIFICATION: Mapping[int, CertificationKind] = {
    evaluator_pb.CERTIFIED: "certified",
    evaluator_pb.CROSS_VALIDATION: "cross_validation",
}


@dataclass(frozen=True)
class Target:
    """A window of a handler, and the triggers whose models are to be scored on it.

    Attributes:
        window: its place.
        offsets: how it lies to the training data of triggers, where it belongs to their models.
    """

    handler: str
    window: Window
    triggers: frozenset[int]
    offsets: tuple[tuple[int, str], ...] = ()


class Answers:
    """The answer to one request, on its way to the journal.

    Args:
        journal: takes it.
        pipeline_id: of the pipeline.
        dataset: that was evaluated on.
        targets: what was asked for.
        models: digest by trigger.
        again: scores that are known already are replaced, also by none.
        later: the pipeline has ended.
        digests: of the data of windows when models were scored on them before, by handler, dataset and window.
    """

    def __init__(
        self,
        journal: Journal,
        pipeline_id: int,
        dataset: str,
        targets: Sequence[Target],
        models: Mapping[int, str],
        *,
        again: bool = False,
        later: bool = False,
        digests: Mapping[tuple[str, str, Window], str] | None = None,
    ) -> None:
        self._journal = journal
        self._pipeline_id = pipeline_id
        self._dataset = dataset
        self._targets = targets
        self._triggers: dict[str, list[int]] = {}
        """Ascending, by the digest of the model: two triggers may have trained the same one."""
        for index, model in sorted(models.items()):
            self._triggers.setdefault(model, []).append(index)
        self._again = again
        self._later = later
        self._digests = digests or {}
        self.outdated: set[tuple[str, Window]] = set()
        """Windows by handler that hold other data than when models were scored on them before."""
        self.intervals = sorted({(target.window.start, target.window.end) for target in targets})
        """The windows of the request, [start, end), each once."""
        self._at: dict[tuple[int, int], list[Target]] = {}
        for target in targets:
            self._at.setdefault((target.window.start, target.window.end), []).append(target)
        self._known: dict[tuple[str, Window], WindowRow] = {}
        self._changed: dict[tuple[str, Window], WindowRow] = {}
        self._scores: list[ScoreRow] = []
        self._confusions: list[ConfusionRow] = []
        self._replaced: list[tuple[str, str, Window, str]] = []
        self._failed: Counter[tuple[str, str]] = Counter()
        self._written_at = time.monotonic()
        journal.add_offsets(
            pipeline_id,
            [OffsetRow(t.handler, dataset, t.window, index, offset) for t in targets for index, offset in t.offsets],
        )

    def metrics(self, said: evaluator_pb.EvaluateMetrics) -> None:
        """What the scores mean."""
        handlers = sorted({target.handler for target in self._targets})
        self._journal.add_metrics(
            self._pipeline_id,
            [
                MetricRow(handler, self._dataset, metric.name, metric.digest, metric.greater_is_better)
                for handler in handlers
                for metric in said.metrics
            ],
        )

    def scores(self, said: evaluator_pb.WindowScores) -> None:
        """One subject on one window."""
        for target in self._at[self.intervals[said.window]]:
            self._take_window(target, said)
            for subject in self._subjects(target, said):
                place = (target.handler, self._dataset, target.window, subject)
                if self._again:
                    self._replaced.append(place)
                self._scores += [ScoreRow(*place, metric.name, *_numbers(metric)) for metric in said.metrics]
                if said.HasField("confusion") and said.WhichOneof("subject") == "model":
                    self._confusions.append(ConfusionRow(*place, _counts(said.confusion)))
        if len(self._scores) >= PORTION_ROWS:
            self.write()
        self.write_if_due()

    def failure(self, said: evaluator_pb.EvaluateFailure) -> str | None:
        """What could not be scored.

        Returns:
            A message for people; None: there were enough like it, and :meth:`more_failures` counts it.
        """
        indices = self._triggers.get(said.model, [])
        span = self.intervals[said.window] if said.HasField("window") else None
        targets = self._targets if span is None else self._at[span]
        start, end = (None, None) if span is None else span
        message = failure_message(
            said.message,
            self._dataset,
            metric=said.metric or None,
            triggers=indices if said.model else None,
            windows=[] if span is None else [span],
            model=said.model,
        )
        self._journal.add_failures(
            self._pipeline_id,
            [
                FailureRow(
                    message,
                    handler=handler,
                    dataset=self._dataset,
                    trigger_index=index,
                    start=start,
                    end=end,
                    metric=said.metric or None,
                )
                for handler in sorted({target.handler for target in targets})
                for index in indices or (None,)
            ],
        )
        self._failed[said.metric, said.message] += 1
        return message if self._failed[said.metric, said.message] <= NOTICES else None

    def more_failures(self) -> Iterator[str]:
        """Messages for people about those that were like others."""
        for (metric, reason), count in self._failed.items():
            if (more := count - NOTICES) > 0:
                what = f" of metric {metric}" if metric else ""
                yield f"{more} more evaluation{'s' if more > 1 else ''}{what} on {self._dataset!r} failed: {reason}"

    def done(self, said: evaluator_pb.EvaluateDone) -> None:
        """Everything was said."""
        for target in self._targets:
            place = (target.handler, target.window)
            if place in self._known:
                self._known[place] = self._changed[place] = replace(self._known[place], baselines=True)
        self.write()
        self._journal.add_evaluation_cost(
            self._pipeline_id,
            EvaluationCost(
                seconds=said.predict_seconds + said.score_seconds,
                reused_seconds=said.reused_seconds,
                bytes_read=said.bytes_read,
                samples=said.predictions + said.reused_predictions,
                samples_reused=said.reused_predictions,
                later=self._later,
            ),
        )

    def write_if_due(self) -> None:
        """Journals what has waited long enough."""
        if time.monotonic() - self._written_at > PORTION_SECONDS:
            self.write()

    def write(self) -> None:
        """Journals what has come so far."""
        scored = Scored(list(self._changed.values()), self._scores, self._confusions, self._replaced)
        self._changed, self._scores, self._confusions, self._replaced = {}, [], [], []
        self._written_at = time.monotonic()
        if scored.windows or scored.scores or scored.confusions or scored.replaced:
            self._journal.add_scored(self._pipeline_id, scored)

    def _take_window(self, target: Target, said: evaluator_pb.WindowScores) -> None:
        place = (target.handler, target.window)
        before = self._digests.get((target.handler, self._dataset, target.window))
        if before is not None and said.data_digest and said.data_digest != before:
            self.outdated.add(place)
        known = self._known.get(place)
        row = WindowRow(
            target.handler,
            self._dataset,
            target.window,
            said.num_samples,
            said.num_unlabelled,
            _CERTIFICATION.get(said.certification) or (known.certification if known else None),
            said.data_digest or (known.data_digest if known else None),
        )
        if row != known:
            self._known[place] = self._changed[place] = row

    def _subjects(self, target: Target, said: evaluator_pb.WindowScores) -> list[str]:
        if said.WhichOneof("subject") == "baseline":
            return [baseline_subject(said.baseline)]
        return [trigger_subject(i) for i in self._triggers[said.model] if i in target.triggers]


def _numbers(metric: evaluator_pb.MetricValue) -> Iterator[float | None]:
    """Value and interval; what is not finite is undefined, as JSON has no infinities."""
    for name in ("value", "low", "high"):
        number = getattr(metric, name) if metric.HasField(name) else None
        yield number if number is not None and math.isfinite(number) else None


def _counts(confusion: evaluator_pb.Confusion) -> list[tuple[int, int, int]]:
    return list(zip(confusion.labels, confusion.predictions, confusion.counts, strict=True))
