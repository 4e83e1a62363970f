"""Predicting what an evaluation needs: one job, or more if it is killed; what it has made counts part by part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.devices import Caller
from modyn.core.errors import ERRORS_BY_NAME, InternalError, ModynError
from modyn.evaluator.labels import integers
from modyn.evaluator.needs import Need
from modyn.evaluator.outcomes import ModelOutcomes, OutcomeFile
from modyn.evaluator.plan import plan_tasks
from modyn.evaluator.predictor import JobKilledError, Prediction, Predictor
from modyn.evaluator.request import Evaluation
from modyn.evaluator.reuse import Reuse
from modyn.evaluator.samples import Samples
from modyn.evaluator.store import OutcomeStore
from modyn.proto.evaluator_pb2 import (
    EvaluateDone,
    EvaluateEvent,
    EvaluateProgress,
    EvaluateQueued,
    LostSamples,
    PredictedLabels,
    PredictEvent,
    PredictPart,
)

MAX_RESTARTS = 2
"""Jobs that may follow one that was killed. Each of those before has made at least one part."""


@dataclass(eq=False)
class LostKeys:
    """Samples without prediction because they cannot be read or decoded.

    Attributes:
        first: what the job said first of them; None: there are none.
    """

    first: LostSamples | None = None
    _keys: list[Int64Array] = field(default_factory=list)

    @property
    def keys(self) -> Int64Array:
        """Of all of them, int64, ascending."""
        return np.unique(np.concatenate(self._keys)) if self._keys else np.empty(0, dtype=np.int64)

    @property
    def error(self) -> ModynError:
        """Of the first of them."""
        assert self.first is not None
        return ERRORS_BY_NAME.get(self.first.error, InternalError)(self.first.reason)

    def add(self, message: LostSamples) -> None:
        self.first = self.first or message
        self._keys.append(integers(message.keys))


class Predicting:
    """Runs the jobs of one evaluation and fills in what they find.

    Args:
        done: counts what was made and what it took.

    Attributes:
        labels: what came of the labels sent; None: none were.
        failed: models that failed; their predictions are not complete.
        lost: samples that no model can be shown.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        store: OutcomeStore,
        predictor: Predictor,
        reuse: Reuse,
        *,
        caller: Caller,
        done: EvaluateDone,
    ) -> None:
        self._evaluation = evaluation
        self._store = store
        self._predictor = predictor
        self._reuse = reuse
        self._caller = caller
        self._done = done
        self._needs: dict[str, Need] = {}
        self._total = 0
        self._before = 0  # predictions when the job started
        self._parts = 0
        self._said: defaultdict[str, list[ModelOutcomes]] = defaultdict(list)
        self.labels: PredictedLabels | None = None
        self.failed: set[str] = set()
        self.lost = LostKeys()

    def run(self, samples: Samples, needs: Sequence[Need], labels: pa.Array | None) -> Iterator[EvaluateEvent]:
        """Predicts what is missing.

        Args:
            samples: all labelled ones, which the needs are about.
            needs: what is missing is filled in.
            labels: what to send through the label transformer, or None.

        Raises:
            ModynError: a job failed as a whole, or was killed too often.
        """
        self._needs = {need.model: need for need in needs}
        self._total = sum(int(np.count_nonzero(need.predictions.missing)) for need in needs)
        yield EvaluateEvent(progress=EvaluateProgress(samples=0, total=self._total))
        for restarts in range(MAX_RESTARTS + 1):
            self._before, self._parts = self._done.predictions, 0
            try:
                yield from self._run_job(samples, labels if self.labels is None else None)
                return
            except JobKilledError as killed:
                if not self._parts or restarts == MAX_RESTARTS or not self._reuse.still_holds():
                    raise killed.error from killed
                what = f"the evaluation on {self._evaluation.dataset!r}"
                yield EvaluateEvent(notice=f"{what}: {killed.how}; it is started again for what is missing")

    def _run_job(self, samples: Samples, labels: pa.Array | None) -> Iterator[EvaluateEvent]:
        lost = self.lost.keys  # by a job that was killed: this one need not look at them
        needs = [need for need in self._needs.values() if need.model not in self.failed]
        keys, tasks = plan_tasks(samples.keys, [(need.model, need.runs(lost)) for need in needs])
        if not tasks and labels is None:
            return  # the job before was killed after its last prediction
        # Before the samples are read: if the data are replaced meanwhile, what is recorded must not match the new ones.
        self._reuse.expect(keys)
        output = self._store.temporary_output()
        try:
            prediction = Prediction(self._evaluation, keys, tasks, labels, output)
            for event in self._predictor.run(prediction, self._caller):
                if isinstance(event, EvaluateQueued):
                    yield EvaluateEvent(queued=event)
                else:
                    yield from self._received(event)
        finally:
            self._store.discard(output)
            self._take()

    def _received(self, event: PredictEvent) -> Iterator[EvaluateEvent]:
        match event.WhichOneof("kind"):
            case "progress":
                count = self._before + event.progress.samples
                yield EvaluateEvent(progress=EvaluateProgress(samples=count, total=self._total))
            case "failure":
                self.failed.add(event.failure.model)
                yield EvaluateEvent(failure=event.failure)
            case "labels":
                self.labels = event.labels
            case "lost":
                self.lost.add(event.lost)
            case "part":
                self._adopt(event.part)

    def _adopt(self, part: PredictPart) -> None:
        """Records an outcome file, so that no later request predicts it again, and takes what it says."""
        self._done.predict_seconds += part.seconds
        self._done.samples_read += part.samples_read
        self._done.bytes_read += part.bytes_read
        made = sum(model.num_samples for model in part.models)
        self._done.predictions += made
        if not made:
            return
        self._parts += 1
        file = OutcomeFile(Path(part.path))
        said = {model.model: file.of(model.model) for model in part.models}
        rows = [
            replace(row, file=part.file, seconds=part.seconds * row.num_samples / made)
            for row in self._reuse.describe({model: outcomes.keys for model, outcomes in said.items()})
        ]
        self._store.adopt(Path(part.path), part.file, rows)
        self._reuse.made += rows
        for model, outcomes in said.items():
            self._said[model].append(outcomes)

    def _take(self) -> None:
        """Fills in what a job said, all at once: it may have done so in thousands of parts."""
        for model, parts in self._said.items():
            self._needs[model].predictions.add(*parts, keep_scores=self._evaluation.needs_scores)
        self._said.clear()
