"""The handshake: one batch of real data through everything that a pipeline will run, before anything is trained."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import pyarrow as pa

from modyn.core.arrow import int64_column
from modyn.core.config.pipeline import DataSection, EvaluationDataset, evaluation_datasets
from modyn.core.errors import CancelledError, InvalidInputError, ModynError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES
from modyn.core.plugins.evaluation import METRICS
from modyn.core.values import to_value
from modyn.proto import evaluator_pb2 as evaluator_pb
from modyn.proto import supervisor_pb2 as pb
from modyn.proto import trainer_server_pb2 as trainer_pb
from modyn.proto.common_pb2 import CodeOrigin, Interval
from modyn.proto.storage_pb2 import PURPOSE_UNSPECIFIED, TRAINING, InspectSamplesRequest, Purpose
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import Column, stream_columns
from modyn.supervisor.context import RunContext
from modyn.supervisor.datasets import Datasets, interval_of
from modyn.supervisor.options import RunOptions

POLL_SECONDS = 0.1
"""How often whoever waits for a check looks whether the pipeline was stopped; the end of a check wakes it at once."""


@dataclass(frozen=True)
class Found:
    """What came of one check.

    Attributes:
        text: for people.
        notices: what could not be tried, and why.
    """

    text: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One thing to try.

    Attributes:
        what: such as ``training`` or ``evaluation on elec2``.
        run: tries it, or raises a ModynError that says what is wrong.
    """

    what: str
    run: Callable[[], Found]


class Checks:
    """What can be tried of a pipeline.

    Args:
        run: the pipeline.
        name: under which the jobs keep their output.
    """

    def __init__(self, run: RunContext, name: str) -> None:
        self._config = run.config
        self._options = run.options
        self._peers = run.peers
        self._trainers = run.trainers
        self._stop = run.stop
        self._name = name
        self._num_outputs: int | None = None
        """Of the model, once the training was tried and if there is one for each sample."""
        self._model = to_value(self._config.model.model_dump(mode="json"))

    def chains(self, keys: KeySet | Interval, end_key: int) -> list[list[Check]]:
        """Checks of the training and of every evaluation dataset; those of a chain have to follow each other.

        Args:
            keys: where samples of the training dataset may be taken from.
            end_key: only below this key.
        """
        chains = [[Check("training", partial(self._training, keys, end_key))]]
        for dataset in evaluation_datasets(self._config):
            check = Check(f"evaluation on {dataset.dataset_id}", partial(self._evaluation, dataset))
            if self._is_like_training(dataset):
                chains[0].append(check)  # parser and model are known by then
            else:
                chains.append([check])
        return chains

    def _is_like_training(self, dataset: EvaluationDataset) -> bool:
        """Whether the training's samples become inputs and labels in the same way, and labels need no user code."""
        data, names = self._config.data, DataSection.model_fields.keys() - {"source"}
        same = dataset.model_dump(include=names) == data.model_dump(include=names)
        return same and not data.label_transformer_function.strip()

    def _training(self, keys: KeySet | Interval, end_key: int) -> Found:
        config, training = self._config, self._config.training
        dataset = config.data.dataset_id
        batch = one_batch(self._peers.storage, dataset, keys, training.batch_size, end_key=end_key, purpose=TRAINING)
        request = trainer_pb.TrainRequest(
            pipeline_id=self._name,
            dataset=dataset,
            training=to_value(training.model_dump(mode="json")),
            model=self._model,
            data=to_value(config.data.model_dump(mode="json")),
            seed=training.seed,
            code=CodeOrigin(root=self._options.code_root),
        )
        if training.initial_model == "pretrained" and training.initial_model_id is not None:
            request.initial_model = training.initial_model_id
        strategy = config.selection_strategy.downsampling(0)
        if strategy is not None:
            request.downsampling.CopyFrom(to_value(DOWNSAMPLING_STRATEGIES.dump(strategy)))
        asked = trainer_pb.CheckRequest(training=request, keys=batch.to_proto())
        result = self._trainers.check(asked, self._stop)
        shapes = [list(output.shape) for output in result.outputs]
        if len(shapes) == 1 and len(shapes[0]) in (1, 2):
            self._num_outputs = shapes[0][1] if len(shapes[0]) == 2 else 1
        return Found(_described(result), tuple(result.notices))

    def _evaluation(self, dataset: EvaluationDataset) -> Found:
        evaluation = self._config.evaluation
        assert evaluation is not None, "there are no evaluation datasets without the section"
        batch = one_batch(self._peers.storage, dataset.dataset_id, Interval(), dataset.batch_size)
        if not len(batch):
            return Found("nothing was tried", ("there are no samples yet",))
        request = evaluator_pb.CheckEvaluationRequest(
            dataset=dataset.dataset_id,
            data=to_value(dataset.model_dump(mode="json", exclude={"metrics", "batch_size"})),
            model=self._model,
            metrics=[to_value(METRICS.dump(metric)) for metric in dataset.metrics],
            batch_size=dataset.batch_size,
            device=evaluation.device,
            threads=self._config.training.threads,
            code=CodeOrigin(root=self._options.code_root),
            keys=batch.to_proto(),
            seed=self._config.training.seed,
            pipeline_id=self._name,
            num_outputs=self._num_outputs if self._is_like_training(dataset) else None,
        )
        call = self._peers.evaluator.CheckEvaluation.future(request)
        with self._stop.cancellable(call, on_stop=True):
            result = call.result()
        if not result.num_samples:
            return Found("parser and model", ("no sample of the batch has a label yet; metrics were not tried",))
        values = ", ".join(f"{m.name} {m.value:.4g}" if m.HasField("value") else m.name for m in result.metrics)
        return Found(f"{values} on {result.num_samples:,} samples, untrained")


class Handshake:
    """The checks of a pipeline that runs, beside whatever it does until its first training.

    Args:
        run: the pipeline.
    """

    def __init__(self, run: RunContext) -> None:
        self._checks = Checks(run, str(run.pipeline_id))
        self._stop = run.stop
        self._results: list[Future[None]] | None = None

    def begin(self, keys: KeySet | Interval, end_key: int) -> None:
        """Starts the checks, if there are samples to try; once.

        Args:
            keys: where samples of the training dataset may be taken from.
            end_key: only below this key.
        """
        if self._results is not None:
            return
        chains = self._checks.chains(keys, end_key)
        pool = ThreadPoolExecutor(len(chains), thread_name_prefix="handshake")
        self._results = [pool.submit(_run_all, chain) for chain in chains]
        pool.shutdown(wait=False)

    def wait(self) -> None:
        """Returns when every check is done, if they were begun.

        Raises:
            ModynError: what is wrong with the pipeline.
            CancelledError: the pipeline was stopped meanwhile.
        """
        for result in self._results or ():
            while not wait([result], POLL_SECONDS).done:
                if self._stop.stopped:
                    raise CancelledError("the pipeline is stopping")
            result.result()


def _run_all(chain: Sequence[Check]) -> None:
    for check in chain:
        check.run()


def check_steps(run: RunContext) -> Iterator[pb.CheckedStep]:
    """Everything that can be tried of a pipeline, one after the other; ends after the first that fails."""
    datasets = Datasets(run)
    first = _step(Check("data", partial(_ensure, run, datasets)))
    yield first
    if first.HasField("error"):
        return
    end_key = datasets.end_key(run.config.data.dataset_id)
    chains = Checks(run, "check").chains(stretch(run.options, end_key), end_key)
    for check in itertools.chain.from_iterable(chains):
        step = _step(check)
        yield step
        if step.HasField("error"):
            return


def stretch(options: RunOptions, end_key: int) -> KeySet | Interval:
    """Where a pipeline takes its samples from, as far as it is known at its start; live: what is there already."""
    if not options.live and options.order == "event" and not (options.start is None and options.stop is None):
        return interval_of(options.start, options.stop)
    start = 0 if options.live else options.start_key or 0
    return KeySet.from_ranges([KeyRange(start, end_key)])


def one_batch(
    storage: StorageStub,
    dataset: str,
    part: KeySet | Interval,
    size: int,
    *,
    end_key: int | None = None,
    purpose: Purpose.ValueType = PURPOSE_UNSPECIFIED,
) -> KeySet:
    """Keys of some of the first samples of a part of a dataset, at most ``size``; those with a label come first."""
    stream = stream_columns(storage, dataset, part, columns=[Column.LABEL], end_key=end_key, purpose=purpose)
    with closing(cast("Generator[pa.RecordBatch]", stream)):
        found = next(stream, None)
    if found is None:
        return KeySet.from_ranges([])
    keys = int64_column(found, "key")
    labelled = found.column("label").is_valid().to_numpy(zero_copy_only=False)
    return KeySet.from_array(np.concatenate((keys[labelled], keys[~labelled]))[:size])


def _ensure(run: RunContext, datasets: Datasets) -> Found:
    """All datasets of a pipeline, ingested."""
    sections = {"data": run.config.data} | {
        f"evaluation.datasets[{i}]": dataset for i, dataset in enumerate(evaluation_datasets(run.config))
    }
    for section, data in sections.items():
        datasets.ensure(data, section)
    counts, notices = {}, {}
    for section, data in sections.items():
        name = data.dataset_id
        request = InspectSamplesRequest(dataset=name, interval=Interval())
        counts[name] = run.peers.storage.InspectSamples(request).num_samples
        if not (reasons := datasets.set_aside(name)):
            continue
        if not counts[name]:
            raise InvalidInputError(f"{section}.dataset_id: dataset {name!r} has no samples; {reasons}")
        notices[name] = f"dataset {name!r}: {reasons}"
    return Found(", ".join(f"{name}: {count:,} samples" for name, count in counts.items()), tuple(notices.values()))


def _described(result: trainer_pb.CheckResult) -> str:
    """What a training's check found, on one line."""
    parts = []
    if result.inputs:
        parts.append(f"{_shapes(result.inputs)} → {_shapes(result.outputs)}")
    if result.num_samples:
        labels = _shape(result.labels_dtype, result.labels_shape)
        parts.append(f"labels {labels}, loss {result.loss:.4g}")
    return "; ".join([*parts, f"{result.num_parameters:,} parameters"])


def _shapes(tensors: Sequence[trainer_pb.TensorShape]) -> str:
    return ", ".join(f"{part.name}: " * bool(part.name) + _shape(part.dtype, part.shape) for part in tensors)


def _shape(dtype: str, shape: Sequence[int]) -> str:
    return f"{dtype} {list(shape)}"


def _step(check: Check) -> pb.CheckedStep:
    began = time.perf_counter()
    step = pb.CheckedStep(what=check.what)
    try:
        found = check.run()
        step.found = found.text
        step.notices.extend(found.notices)
    except ModynError as error:
        step.error.CopyFrom(pb.PipelineError(message=error.message, input_error=error.exit_status == 2))
    step.seconds = time.perf_counter() - began
    return step
