"""One evaluation from request to scores: find the samples, predict what is not stored, score."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.devices import Caller
from modyn.core.errors import InternalError
from modyn.evaluator.baselines import Labelled
from modyn.evaluator.finding import deleted_of, read_evaluation_samples
from modyn.evaluator.labels import Labels
from modyn.evaluator.metric_infos import metric_infos
from modyn.evaluator.needs import Need
from modyn.evaluator.predicting import Predicting
from modyn.evaluator.predictor import Predictor
from modyn.evaluator.recent import RecentColumns
from modyn.evaluator.request import Evaluation
from modyn.evaluator.reuse import Reuse
from modyn.evaluator.samples import Samples
from modyn.evaluator.scoring import ScoringOptions, score_baselines, score_model
from modyn.evaluator.store import OutcomeStore
from modyn.evaluator.truth import Truth
from modyn.evaluator.unscored import windows_without_labels, without_lost
from modyn.evaluator.user_scoring import ScoringSession, UserScoring, code_digests
from modyn.proto.evaluator_pb2 import EvaluateDone, EvaluateEvent, EvaluateFailure, WindowScores
from modyn.proto.storage_pb2_grpc import StorageStub

NEVER = 2**63 - 1
"""When a label is known that could not be transformed."""


class EvaluationRun:
    """One evaluation; :meth:`events` runs it."""

    def __init__(
        self,
        evaluation: Evaluation,
        storage: StorageStub,
        store: OutcomeStore,
        predictor: Predictor,
        *,
        user_scoring: UserScoring,
        recent: RecentColumns,
        caller: Caller,
    ) -> None:
        self._evaluation = evaluation
        self._storage = storage
        self._store = store
        self._predictor = predictor
        self._user_scoring = user_scoring
        self._recent = recent
        self._caller = caller
        self._reuse = Reuse(evaluation, store, storage)
        self._done = EvaluateDone()

    def events(self) -> Iterator[EvaluateEvent]:
        """Everything the caller is told; scores come as soon as they are known.

        Raises:
            ModynError: the evaluation failed as a whole.
        """
        with self._user_scoring.session(self._evaluation, self._caller) as elsewhere:
            yield from self._events(elsewhere)

    def _events(self, elsewhere: ScoringSession) -> Iterator[EvaluateEvent]:
        evaluation = self._evaluation
        digests = code_digests(evaluation.metrics, evaluation.root)
        yield EvaluateEvent(metrics=metric_infos(evaluation.metrics, digests))
        if evaluation.reuse and self._reuse.notice is not None:
            yield EvaluateEvent(notice=self._reuse.notice)
        samples = read_evaluation_samples(
            self._storage,
            evaluation.dataset,
            evaluation.windows,
            evaluation.end_key,
            history=evaluation.baselines,
            test_only=evaluation.test_only,
            labels_as_known=evaluation.labels_as_known,
            label_delay=evaluation.label_delay,
            slices=evaluation.slices,
            recent=self._recent,
        )
        scoring: Scoring | None = None
        if not evaluation.data.label_transformer_function.strip() or not len(samples):
            stored = Labels.of_stored(samples, evaluation)
            scoring = Scoring(evaluation, samples, stored, elsewhere=elsewhere, done=self._done)

        pending: list[Need] = []
        for model, windows in evaluation.models.items():
            need = self._need(model, windows, samples)
            if scoring is not None and not need.is_open:
                yield from scoring.model(need)
            else:
                pending.append(need)
        if pending or scoring is None:
            scoring, pending = yield from self._predicted(samples, pending, scoring, elsewhere)
            while pending:  # what was said by one that was scored need not stay in memory
                yield from scoring.model(pending.pop(0))
        if evaluation.baselines:
            yield from scoring.baselines()
        self._done.reused_seconds = self._reuse.seconds()
        yield EvaluateEvent(done=self._done)

    def _predicted(
        self, samples: Samples, needs: Sequence[Need], scoring: Scoring | None, elsewhere: ScoringSession
    ) -> Generator[EvaluateEvent, None, tuple[Scoring, list[Need]]]:
        """Runs the jobs.

        Args:
            needs: what is missing.
            scoring: of the samples; None: labels have to be transformed first.

        Returns:
            What scores the samples that are still there, and the needs of the models that did not fail, with the
            windows of which everything is known.
        """
        evaluation = self._evaluation
        jobs = Predicting(evaluation, self._store, self._predictor, self._reuse, caller=self._caller, done=self._done)
        yield from jobs.run(samples, needs, samples.all_labels if scoring is None else None)
        left = [need for need in needs if need.model not in jobs.failed]
        labels = Labels.of_transformed(jobs.labels, samples, evaluation) if scoring is None else scoring.labels
        kept = self._kept(samples, left, jobs)
        if gone := np.count_nonzero(~kept):
            yield EvaluateEvent(notice=f"{gone} samples were deleted while models were evaluated on them")
            samples, labels = samples.only(kept), labels.only(kept)
            for need in left:
                need.keep(kept)
        if scoring is None or gone:
            scoring = Scoring(evaluation, samples, labels, elsewhere=elsewhere, done=self._done)
        yield from scoring.bad_windows()
        for need in left:
            need.windows = tuple(scoring.good(need.windows))
        yield from self._failures(samples, left, jobs)
        return scoring, left

    def _need(self, model: str, windows: Sequence[int], samples: Samples) -> Need:
        """What is not stored about a model."""
        need = Need.of(model, windows, samples)
        self._done.reused_predictions += self._reuse.fill(model, need.predictions)
        return need

    def _kept(self, samples: Samples, needs: Sequence[Need], jobs: Predicting) -> npt.NDArray[np.bool_]:
        """All samples but those without a prediction because they were deleted before a job read them, bool [samples].

        Raises:
            ModynError: nothing at all could be read or decoded.
        """
        lost = jobs.lost.keys
        missing = [need.missing_keys for need in needs if need.is_open]
        if not missing:  # if there are no needs, that is because all models failed
            return np.ones(len(samples), dtype=np.bool_)
        if len(lost) and not self._done.predictions and not self._done.reused_predictions:
            raise jobs.lost.error
        keys: Int64Array = np.setdiff1d(np.concatenate(missing), lost)
        deleted = deleted_of(self._storage, self._evaluation.dataset, keys)
        if len(deleted) < len(keys):
            left = len(keys) - len(deleted)
            raise InternalError(f"the evaluation job left {left} samples without prediction")
        return ~np.isin(samples.keys, deleted)

    def _failures(self, samples: Samples, needs: Sequence[Need], jobs: Predicting) -> Iterator[EvaluateEvent]:
        """Says which windows are not scored, because some of their samples could not be read or decoded."""
        if jobs.lost.first is None:
            return
        asked = (own for model, own in self._evaluation.models.items() if model not in jobs.failed)
        models = Counter(index for own in asked for index in own)
        for failure in without_lost(needs, samples, jobs.lost.first.reason, models):
            yield EvaluateEvent(failure=failure)


class Scoring:
    """Scores what was said of some samples.

    Args:
        samples: of the request.
        labels: all of theirs.
        elsewhere: scores with code of the user.
        done: counts what it takes.
    """

    def __init__(
        self, evaluation: Evaluation, samples: Samples, labels: Labels, *, elsewhere: ScoringSession, done: EvaluateDone
    ) -> None:
        self.labels = labels
        self._samples = samples
        self._done = done
        self._elsewhere = elsewhere
        self._metrics = evaluation.metrics
        self._options = ScoringOptions(
            confidence=evaluation.confidence,
            confusion=evaluation.confusion and evaluation.needs_classes,
            seed=evaluation.seed,
        )
        self._truth = Truth.of(samples, labels.classes, labels.numbers)
        self._bad: dict[int, str] = {}
        if len(labels.failed):
            self._bad = windows_without_labels(labels.failed, samples, labels.reason)
        self._digests: dict[int, str] = {}

    def bad_windows(self) -> Iterator[EvaluateEvent]:
        """Says which windows nothing is scored on, because some of their labels are not known."""
        for index, message in self._bad.items():
            yield EvaluateEvent(failure=EvaluateFailure(window=index, message=message))

    def model(self, need: Need) -> Iterator[EvaluateEvent]:
        """The scores of a model of which all predictions are known that its windows need."""
        begin = self._clock()
        said = score_model(
            need.model,
            need.windows,
            truth=self._truth,
            hull=need.hull,
            predictions=need.predictions,
            metrics=self._metrics,
            options=self._options,
            elsewhere=self._elsewhere.score,
        )
        yield from self._told(said, begin)

    def baselines(self) -> Iterator[EvaluateEvent]:
        """The scores of all baselines on all windows."""
        if self.labels.classes is None:
            return
        begin = self._clock()
        samples = self._samples
        count = len(samples)
        known_at = samples.known_at
        if len(unknown := self.labels.failed[self.labels.failed < count]):
            known_at = known_at.copy()
            known_at[unknown] = NEVER
        data = Labelled(samples.timestamps, self.labels.classes[:count], known_at)
        windows = self.good(range(len(samples.windows)))
        said = score_baselines(
            data,
            windows,
            truth=self._truth,
            metrics=self._metrics,
            options=self._options,
            elsewhere=self._elsewhere.score,
        )
        yield from self._told(said, begin)

    def good(self, windows: Iterable[int]) -> list[int]:
        """Those that can be scored."""
        return [index for index in windows if index not in self._bad]

    def _told(self, said: Iterable[WindowScores | EvaluateFailure], begin: float) -> Iterator[EvaluateEvent]:
        """With what the scores are about. Everything is computed before the first is told."""
        events: list[EvaluateEvent] = []
        for each in said:
            if isinstance(each, EvaluateFailure):
                events.append(EvaluateEvent(failure=each))
                continue
            each.data_digest = self._digest(each.window)
            each.certification = self._samples.certification(each.window)
            events.append(EvaluateEvent(scores=each))
        self._done.score_seconds += self._clock() - begin
        yield from events

    def _clock(self) -> float:
        """Seconds, of which none pass while a job waits for its slot."""
        return time.perf_counter() - self._elsewhere.waited_seconds

    def _digest(self, window: int) -> str:
        if window not in self._digests:
            self._digests[window] = self._samples.data_digest(window)
        return self._digests[window]
