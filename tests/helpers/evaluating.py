"""An evaluator on real storage, datasets and models made by hand, and a plain loop to compare with."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from modyn.core.arrow import batch_of
from modyn.core.catalog import Catalog
from modyn.core.config.pipeline import ModelSection
from modyn.core.jobs import Job, JobDescription, JobLauncher
from modyn.core.peers import Addresses, Peers
from modyn.core.rpc import RpcServer
from modyn.core.state import StateDirectory
from modyn.core.values import to_value
from modyn.evaluator.service import EvaluatorService
from modyn.models.building import build_model
from modyn.models.weights import dump
from modyn.proto.common_pb2 import CodeOrigin, Interval
from modyn.proto.evaluator_pb2 import (
    EvaluateDone,
    EvaluateEvent,
    EvaluateRequest,
    EvaluationWindow,
    ModelWindows,
    WindowScores,
)
from modyn.proto.storage_pb2 import RegisterDatasetRequest
from modyn.storage.reader import append, store_model
from modyn.storage.service import StorageService

MODEL: dict[str, Any] = {"id": "MLP", "config": {"in_features": 4, "hidden": [8], "num_classes": 3}}
ACCURACY: list[dict[str, Any]] = [{"name": "Accuracy"}]


class CountingLauncher(JobLauncher):
    """Counts the jobs that a real launcher starts."""

    def __init__(self, inner: JobLauncher) -> None:
        self._inner = inner
        self.launched = 0

    def launch(self, description: JobDescription) -> Job:
        self.launched += 1
        return self._inner.launch(description)

    def close(self) -> None:
        """The inner one lives on."""


@dataclass
class Answer:
    """An evaluation's events, sorted."""

    scores: dict[tuple[str, int], WindowScores] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    failed_windows: dict[tuple[str, int], str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    done: EvaluateDone | None = None

    def value(self, subject: str, window: int, metric: str = "Accuracy") -> float | None:
        values = {m.name: (m.value if m.HasField("value") else None) for m in self.scores[subject, window].metrics}
        return values[metric]

    def values(self) -> dict[tuple[str, int, str], tuple[int, int, float | None]]:
        """Everything that was scored, for comparisons."""
        return {
            (subject, window, metric.name): (
                score.num_samples,
                score.num_unlabelled,
                metric.value if metric.HasField("value") else None,
            )
            for (subject, window), score in self.scores.items()
            for metric in score.metrics
        }

    @property
    def predictions(self) -> int:
        assert self.done is not None
        return self.done.predictions

    @property
    def reused(self) -> int:
        assert self.done is not None
        return self.done.reused_predictions


def collect(events: Iterable[EvaluateEvent]) -> Answer:
    answer = Answer()
    for event in events:
        assert answer.done is None, "nothing comes after done"
        match event.WhichOneof("kind"):
            case "scores":
                subject = event.scores.model or event.scores.baseline
                assert (subject, event.scores.window) not in answer.scores
                answer.scores[subject, event.scores.window] = event.scores
            case "failure" if event.failure.HasField("window") and not event.failure.metric:
                assert (event.failure.model, event.failure.window) not in answer.failed_windows
                answer.failed_windows[event.failure.model, event.failure.window] = event.failure.message
            case "failure":
                answer.failures[event.failure.model] = event.failure.message
            case "notice":
                answer.notices.append(event.notice)
            case "progress":
                answer.progress.append((event.progress.samples, event.progress.total))
            case "done":
                answer.done = event.done
    assert answer.done is not None
    return answer


class EvaluationServer:
    """Storage and an evaluator on one Unix socket."""

    def __init__(self, folder: Path, launcher: JobLauncher, *, allow_user_code: bool = True) -> None:
        self.state = StateDirectory(folder / "state").create()
        self.catalog = Catalog(self.state.default_catalog_url)
        self.launcher = CountingLauncher(launcher)
        self._address = f"unix:{folder / 'socket'}"
        self._allow_user_code = allow_user_code
        self._names = itertools.count()
        self._start()

    def _start(self) -> None:
        self.peers = Peers(Addresses.all_at(self._address))
        self._storage = StorageService(self.state, self.catalog)
        self._evaluator = EvaluatorService(
            self.state, self.catalog, self.peers, launcher=self.launcher, allow_user_code=self._allow_user_code
        )
        self._server = RpcServer(self._address, [self._storage.add_to, self._evaluator.add_to])
        self._server.start()

    def _stop(self) -> None:
        self.peers.close()
        self._server.stop()
        self._evaluator.close()
        self._storage.close()

    def restart(self) -> None:
        """All services anew on the same state."""
        self._stop()
        self._start()

    def close(self) -> None:
        self._stop()
        self.catalog.close()

    def dataset(self, labels: pa.Array | npt.ArrayLike, timestamps: npt.ArrayLike, **payload: Any) -> str:
        """A new dataset whose keys are 0 to n - 1."""
        name = f"data{next(self._names)}"
        self.peers.storage.RegisterDataset(RegisterDatasetRequest(name=name))
        self.extend(name, labels, timestamps, **payload)
        return name

    def extend(self, name: str, labels: pa.Array | npt.ArrayLike, timestamps: npt.ArrayLike, **payload: Any) -> None:
        stamps = np.asarray(timestamps, dtype=np.int64)
        batch = batch_of(timestamp=stamps, label=labels, **payload)
        append(self.peers.storage, name, f"batch{next(self._names)}", [batch])

    def model(self, seed: int, section: dict[str, Any] | None = None) -> str:
        """Digest of a stored model with random weights."""
        return store_model(self.peers.storage, dump(module(seed, section)))

    def request(
        self,
        dataset: str,
        windows: Sequence[tuple[int | None, int | None]],
        models: Mapping[str, Sequence[int]],
        *,
        metrics: Sequence[dict[str, Any]] = ACCURACY,
        model: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        root: Path | None = None,
        **fields: Any,
    ) -> EvaluateRequest:
        fields = {"batch_size": 16, "device": "cpu", "pipeline_id": "7", "reuse": False, **fields}
        return EvaluateRequest(
            dataset=dataset,
            data=to_value({"dataset_id": dataset, **(data or {})}),
            model=to_value(model or MODEL),
            metrics=[to_value(metric) for metric in metrics],
            windows=[EvaluationWindow(interval=Interval(start=start, end=end)) for start, end in windows],
            models=[ModelWindows(model=digest, windows=indices) for digest, indices in models.items()],
            code=CodeOrigin(root=str(root)) if root else None,
            **fields,
        )

    def evaluate(self, *arguments: Any, **options: Any) -> Answer:
        return collect(self.peers.evaluator.Evaluate(self.request(*arguments, **options)))


def module(seed: int, section: dict[str, Any] | None = None) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(ModelSection.model_validate(section or MODEL), None)


def plain_loop(seed: int, features: npt.NDArray[np.float32], section: dict[str, Any] | None = None) -> npt.NDArray[Any]:
    """Raw outputs of a model for all samples, one by one."""
    model = module(seed, section).eval()
    with torch.no_grad():
        return np.concatenate([model(torch.from_numpy(row[None])).numpy() for row in features])
