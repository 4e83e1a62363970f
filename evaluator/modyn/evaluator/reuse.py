"""Which stored outcomes may stand for a new prediction: those of the same inputs on the same data."""

from __future__ import annotations

from modyn.core.arrow import Int64Array
from modyn.core.digests import digest_bytes, digest_inputs
from modyn.core.versions import OUTCOME_FORMAT_VERSION, distribution_version
from modyn.evaluator.request import Evaluation
from modyn.evaluator.scoring import Predictions
from modyn.evaluator.store import OutcomeStore, StoredOutcomes
from modyn.models.usercode import CodeIdentity, code_identity
from modyn.proto.common_pb2 import KeyRange, KeyRanges
from modyn.proto.storage_pb2 import InspectSamplesRequest, LabelsAsOf
from modyn.proto.storage_pb2_grpc import StorageStub


class Reuse:
    """Finds stored outcomes for one evaluation, and describes new ones.

    Attributes:
        notice: for the user, why nothing can be reused; None if it can.
    """

    def __init__(self, evaluation: Evaluation, store: OutcomeStore, storage: StorageStub) -> None:
        identity = code_identity(evaluation.model, evaluation.data, evaluation.root)
        self.notice = identity.notice if identity.digest is None else None
        self._evaluation = evaluation
        self._store = store
        self._storage = storage
        self._identity = identity
        self._contents: dict[tuple[int, int], str] = {}
        self._digests = {model: self._input_digest(model, identity) for model in evaluation.models}
        self._stored: dict[str, list[StoredOutcomes]] = {}
        if evaluation.reuse and identity.digest is not None:
            self._stored = store.find(self._digests.values(), with_scores=evaluation.needs_scores)

    def fill(self, model: str, predictions: Predictions) -> tuple[int, float]:
        """Fills in what is stored about a model.

        Which of several stored predictions of a sample is taken does not depend on what was asked in between: those
        made for exactly the missing keys come first, then the oldest.

        Returns:
            How many predictions were filled in, and what making them once took, in seconds.
        """
        keys = predictions.keys[predictions.missing]
        candidates = [stored for stored in self._stored.get(self._digests[model], ()) if _overlaps(stored, keys)]
        exact = coverage_of(keys) if candidates else ""
        count, seconds = 0, 0.0
        for stored in sorted(candidates, key=lambda s: s.coverage != exact):
            if self._content(stored.first_key, stored.end_key) != stored.content_digest:
                continue
            file = self._store.open(stored)
            if file is None:
                continue
            new = predictions.add(file.of(model), keep_scores=self._evaluation.needs_scores)
            count += new
            seconds += stored.seconds * new / stored.num_samples
            if not predictions.missing.any():
                break
        return count, seconds

    def still_holds(self) -> bool:
        """Whether the code is the same as at the beginning. A job may have waited long and imported it only then."""
        evaluation = self._evaluation
        return code_identity(evaluation.model, evaluation.data, evaluation.root) == self._identity

    def describe(self, model: str, keys: Int64Array) -> StoredOutcomes | None:
        """The record of outcomes about to be made, but for its file; None if they can never be reused."""
        if self._identity.digest is None:
            return None
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


def _overlaps(stored: StoredOutcomes, keys: Int64Array) -> bool:
    return len(keys) > 0 and stored.first_key <= int(keys.max()) and stored.end_key > int(keys.min())
