"""Which stored outcomes may stand for a new prediction: those of the same inputs on the same data."""

from __future__ import annotations

from collections.abc import Mapping

from modyn.core.arrow import Int64Array
from modyn.core.digests import digest_bytes, digest_inputs
from modyn.core.versions import OUTCOME_FORMAT_VERSION, distribution_version
from modyn.evaluator.outcomes import OutcomeFile
from modyn.evaluator.predictions import Predictions
from modyn.evaluator.request import Evaluation
from modyn.evaluator.store import OutcomeStore, StoredOutcomes, Use
from modyn.models.usercode import CodeIdentity, code_identity
from modyn.proto.common_pb2 import KeyRange, KeyRanges
from modyn.proto.storage_pb2 import InspectSamplesRequest, LabelsAsOf
from modyn.proto.storage_pb2_grpc import StorageStub


class Reuse:
    """Finds stored outcomes for one evaluation, and describes new ones.

    Attributes:
        notice: for the user, why nothing can be reused; None if it can.
        made: outcomes that were recorded.
    """

    def __init__(self, evaluation: Evaluation, store: OutcomeStore, storage: StorageStub) -> None:
        identity = code_identity(evaluation.model, evaluation.data, evaluation.root)
        self.notice = identity.notice if identity.digest is None else None
        self._evaluation = evaluation
        self._store = store
        self._storage = storage
        self._identity = identity
        self._contents: dict[tuple[int, int], str] = {}
        self._expected: tuple[int, int] | None = None
        self._digests = {model: self._input_digest(model, identity) for model in evaluation.models}
        self._stored: dict[str, list[StoredOutcomes]] = {}
        self._files: dict[str, OutcomeFile | None] = {}
        self._uses: list[Use] = []
        self.made: list[StoredOutcomes] = []
        if evaluation.reuse and identity.digest is not None:
            self._stored = store.find(self._digests.values(), with_scores=evaluation.needs_scores)

    def fill(self, model: str, predictions: Predictions) -> int:
        """Fills in what is stored about a model.

        Which of several stored predictions of a sample is taken does not depend on what was asked in between: those
        made for exactly the missing keys come first, then the oldest.

        Returns:
            How many predictions were filled in.
        """
        candidates = self._stored.get(self._digests[model], [])
        if not candidates or not predictions.missing.any():
            return 0
        keys = predictions.keys[predictions.missing]
        first, end = int(keys.min()), int(keys.max()) + 1
        candidates = [stored for stored in candidates if stored.first_key < end and stored.end_key > first]
        if len(candidates) > 1:
            exact = coverage_of(keys)
            candidates.sort(key=lambda stored: stored.coverage != exact)
        count = 0
        for stored in candidates:
            if self._content(stored.first_key, stored.end_key) != stored.content_digest:
                continue
            file = self._open(stored)
            if file is None:
                continue
            new = sum(predictions.add(part, keep_scores=self._evaluation.needs_scores) for part in file.parts_of(model))
            count += new
            if new:
                self._uses.append(Use(stored, new))
            if not predictions.missing.any():
                break
        return count

    def seconds(self) -> float:
        """What making all that was filled in once took, as far as the costs of this pipeline do not contain it yet.

        Asked once, when they are about to contain it, and what it has made.
        """
        if not self._uses and not self.made:
            return 0.0
        return self._store.pay(self.made, self._uses, self._evaluation.pipeline_id)

    def _open(self, stored: StoredOutcomes) -> OutcomeFile | None:
        if stored.file not in self._files:  # it may hold outcomes of many models
            self._files[stored.file] = self._store.open(stored)
        return self._files[stored.file]

    def still_holds(self) -> bool:
        """Whether the code is the same as at the beginning. A job may have waited long and imported it only then."""
        evaluation = self._evaluation
        return code_identity(evaluation.model, evaluation.data, evaluation.root) == self._identity

    def expect(self, keys: Int64Array) -> None:
        """Outcomes of these keys are about to be made; called before the samples are read."""
        if self._identity.digest is not None and len(keys):
            self._expected = int(keys.min()), int(keys.max()) + 1
            self._content(*self._expected)

    def describe(self, made: Mapping[str, Int64Array]) -> list[StoredOutcomes]:
        """The records of outcomes that were made, but for their file and seconds; none of what must not be reused.

        Args:
            made: model -> keys, int64 [n], some of those that were expected.
        """
        if self._identity.digest is None or not self.still_holds():
            return []
        spans = {(int(keys.min()), int(keys.max()) + 1) for keys in made.values()}
        if unseen := spans - self._contents.keys():
            for span in unseen:
                self._content(*span)
            # Read now, these may be of other samples than those that were predicted, unless nothing changed at all.
            assert self._expected is not None
            before = self._contents.pop(self._expected)
            if self._content(*self._expected) != before:
                self._contents = {self._expected: before}
                return []
        return [self._record(model, keys) for model, keys in made.items()]

    def _record(self, model: str, keys: Int64Array) -> StoredOutcomes:
        first, end = int(keys.min()), int(keys.max()) + 1
        return StoredOutcomes(
            input_digest=self._digests[model],
            model=model,
            dataset=self._evaluation.dataset,
            first_key=first,
            end_key=end,
            content_digest=self._content(first, end),
            coverage=coverage_of(keys),
            num_samples=len(keys),
            has_scores=self._evaluation.needs_scores,
            seconds=0.0,
            file="",
        )

    def _content(self, first: int, end: int) -> str:
        """Digest of the samples of a span of keys: some may be deleted, and the dataset may be another one."""
        span = (first, end)
        if span not in self._contents:
            ranges = KeyRanges(ranges=[KeyRange(start=first, end=end)])
            # Predictions do not depend on labels: later ones do not outdate them.
            request = InspectSamplesRequest(
                dataset=self._evaluation.dataset, ranges=ranges, labels=LabelsAsOf(version=0)
            )
            self._contents[span] = self._storage.InspectSamples(request).content_digest
        return self._contents[span]

    def _input_digest(self, model: str, identity: CodeIdentity) -> str:
        evaluation = self._evaluation
        return digest_inputs(
            {
                "format": OUTCOME_FORMAT_VERSION,
                "weights": model,
                "dataset": evaluation.dataset,
                "data": evaluation.data.model_dump(mode="json", exclude={"source", "dataset_id"}),
                "model": evaluation.model.model_dump(mode="json"),
                "code": identity.digest,
                "torch": distribution_version("torch"),
                "device": evaluation.device.partition(":")[0],
                "threads": evaluation.threads,
                "batch_size": evaluation.batch_size,
                "seed": evaluation.seed,
            }
        )


def coverage_of(keys: Int64Array) -> str:
    """Digest of a list of keys, in order."""
    return digest_bytes(keys.astype("<i8", copy=False).tobytes())
