"""One evaluation from request to scores: find the samples, predict what is not stored, score."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.devices import Caller
from modyn.core.errors import InternalError, InvalidInputError
from modyn.evaluator.outcomes import OutcomeFile
from modyn.evaluator.plan import plan_tasks, runs_of_mask
from modyn.evaluator.predictor import Predicted, Prediction, Predictor
from modyn.evaluator.request import Evaluation
from modyn.evaluator.reuse import Reuse
from modyn.evaluator.samples import Samples, class_labels, deleted_of, read_evaluation_samples
from modyn.evaluator.scoring import Predictions, WindowSlices, score_baselines, score_model
from modyn.evaluator.store import OutcomeStore
from modyn.proto.evaluator_pb2 import (
    EvaluateDone,
    EvaluateEvent,
    EvaluateFailure,
    EvaluateProgress,
    PredictResult,
)
from modyn.proto.storage_pb2_grpc import StorageStub


@dataclass(eq=False)
class _Need:
    """A model, its windows, and what is known of its predictions.

    Attributes:
        hull: positions of the labelled samples that ``predictions`` is about.
    """

    model: str
    windows: tuple[int, ...]
    hull: slice
    predictions: Predictions

    @property
    def runs(self) -> Int64Array:
        """Positions of labelled samples still to be predicted, as runs [k, 2]."""
        runs: Int64Array = runs_of_mask(self.predictions.missing) + self.hull.start
        return runs

    @property
    def missing_keys(self) -> Int64Array:
        return self.predictions.keys[self.predictions.missing]

    def only(self, kept: npt.NDArray[np.bool_]) -> _Need:
        """The same about those of all labelled samples that are kept, bool [samples]."""
        start = int(np.count_nonzero(kept[: self.hull.start]))
        within = kept[self.hull]
        hull = slice(start, start + int(np.count_nonzero(within)))
        return _Need(self.model, self.windows, hull, self.predictions.only(within))


class EvaluationRun:
    """One evaluation; :meth:`events` runs it."""

    def __init__(
        self, evaluation: Evaluation, storage: StorageStub, store: OutcomeStore, predictor: Predictor, caller: Caller
    ) -> None:
        self._evaluation = evaluation
        self._storage = storage
        self._store = store
        self._predictor = predictor
        self._caller = caller
        self._reuse = Reuse(evaluation, store, storage)
        self._done = EvaluateDone()

    def events(self) -> Iterator[EvaluateEvent]:
        """Everything the caller is told; scores come as soon as they are known.

        Raises:
            ModynError: the evaluation failed as a whole.
        """
        evaluation = self._evaluation
        if evaluation.reuse and self._reuse.notice is not None:
            yield EvaluateEvent(notice=self._reuse.notice)
        samples = read_evaluation_samples(
            self._storage, evaluation.dataset, evaluation.windows, evaluation.end_key, history=evaluation.baselines
        )
        slices = WindowSlices.of(samples, evaluation.windows)
        transforms = bool(evaluation.data.label_transformer_function.strip()) and len(samples) > 0
        labels = None if transforms else class_labels(samples.labels, evaluation.dataset)

        pending: list[_Need] = []
        for model, windows in evaluation.models.items():
            need = self._need(model, windows, samples, slices)
            if labels is not None and not need.predictions.missing.any():
                yield from self._score(need, slices, labels)
            else:
                pending.append(need)
        if pending or labels is None:
            predicted = Predicted(labels=labels)
            yield from self._predict(samples, pending, predicted, transforms=labels is None)
            labels = predicted.labels
            if labels is None or len(labels) != len(samples):
                raise InternalError("the evaluation job did not answer one label for each sample")
            pending = [need for need in pending if need.model not in predicted.failures]
            deleted = self._deleted(pending)
            if len(deleted):
                yield EvaluateEvent(notice=f"{len(deleted)} samples were deleted while models were evaluated on them")
                kept = ~np.isin(samples.keys, deleted)
                samples, labels = samples.only(kept), labels[kept]
                slices = WindowSlices.of(samples, evaluation.windows)
                pending = [need.only(kept) for need in pending]
            for need in pending:
                yield from self._score(need, slices, labels)
        if evaluation.baselines:
            yield from self._score_baselines(samples, slices, labels)
        yield EvaluateEvent(done=self._done)

    def _need(self, model: str, windows: tuple[int, ...], samples: Samples, slices: WindowSlices) -> _Need:
        hull, needed = slices.needed(windows)
        predictions = Predictions(samples.keys[hull], needed)
        reused, seconds = self._reuse.fill(model, predictions)
        self._done.reused_predictions += reused
        self._done.reused_seconds += seconds
        return _Need(model, windows, hull, predictions)

    def _predict(
        self, samples: Samples, pending: list[_Need], predicted: Predicted, *, transforms: bool
    ) -> Iterator[EvaluateEvent]:
        """Runs the job and fills in what it found."""
        open_needs = [need for need in pending if need.predictions.missing.any()]
        keys, tasks = plan_tasks(samples.keys, [(need.model, need.runs) for need in open_needs])
        # Before the samples are read: if the data were replaced meanwhile, the record must not match the new ones.
        records = {need.model: self._reuse.describe(need.model, need.missing_keys) for need in open_needs}
        total = sum(len(task) for task in tasks)
        yield EvaluateEvent(progress=EvaluateProgress(samples=0, total=total))

        output = self._store.temporary_path()
        try:
            labels = samples.labels if transforms else None
            prediction = Prediction(self._evaluation, keys, tasks, labels, output)
            yield from self._predictor.run(prediction, self._caller, predicted)
            result = predicted.result
            assert result is not None  # the predictor raises otherwise
            made = sum(model.num_samples for model in result.models)
            self._done.predictions += made
            self._done.predict_seconds += result.seconds
            if not result.models:
                return
            same_code = self._reuse.still_holds()
            rows = [
                replace(
                    record,
                    file=result.file,
                    seconds=result.seconds * model.num_samples / made,
                    num_samples=model.num_samples,
                )
                for model in result.models
                if (record := records[model.model]) is not None and same_code
            ]
            file = self._store.adopt(output, result.file, rows)
        finally:
            output.unlink(missing_ok=True)
        self._fill(open_needs, file, result)

    def _fill(self, needs: list[_Need], file: OutcomeFile, result: PredictResult) -> None:
        for need in needs:
            if any(model.model == need.model for model in result.models):
                need.predictions.add(file.of(need.model), keep_scores=self._evaluation.needs_scores)

    def _deleted(self, needs: list[_Need]) -> Int64Array:
        """Keys without a prediction, because the samples were deleted before the job read them."""
        missing = [need.missing_keys for need in needs]
        keys = np.unique(np.concatenate(missing)) if missing else np.empty(0, dtype=np.int64)
        deleted = deleted_of(self._storage, self._evaluation.dataset, keys)
        if len(deleted) < len(keys):
            left = len(keys) - len(deleted)
            raise InternalError(f"the evaluation job left {left} samples without prediction")
        return deleted

    def _score(self, need: _Need, slices: WindowSlices, labels: Int64Array) -> Iterator[EvaluateEvent]:
        begin = time.perf_counter()
        try:
            scores = list(
                score_model(
                    need.model,
                    need.windows,
                    slices=slices,
                    labels=labels,
                    hull=need.hull,
                    predictions=need.predictions,
                    metrics=self._evaluation.metrics,
                )
            )
        except InvalidInputError as error:  # a metric that does not fit this model; the others may be fine
            yield EvaluateEvent(failure=EvaluateFailure(model=need.model, message=error.message))
            return
        finally:
            self._done.score_seconds += time.perf_counter() - begin
        for score in scores:
            yield EvaluateEvent(scores=score)

    def _score_baselines(self, samples: Samples, slices: WindowSlices, labels: Int64Array) -> Iterator[EvaluateEvent]:
        begin = time.perf_counter()
        scores = list(score_baselines(samples, labels, slices, self._evaluation.metrics))
        self._done.score_seconds += time.perf_counter() - begin
        for score in scores:
            yield EvaluateEvent(scores=score)
