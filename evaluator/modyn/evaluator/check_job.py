"""The job behind a check: one batch through parser, model and metrics. The model has random weights."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
import torch

from modyn.core.arrow import Int64Array, batch_of, encode_batch
from modyn.core.config.pipeline import ModelSection
from modyn.core.config.problems import parse_section
from modyn.core.errors import ModynError
from modyn.core.keysets import KeySet
from modyn.core.plugins.evaluation import Float64Array, Metric, Outcomes
from modyn.core.rpc import connect
from modyn.core.values import from_value
from modyn.evaluator.forwarding import class_scores, moved, predicted_classes
from modyn.evaluator.job import Emit, configure, seed_all, transformed_classes
from modyn.evaluator.metric_checks import stored_labels, try_metrics
from modyn.evaluator.metric_code import MetricCode
from modyn.evaluator.request import parse_data, parse_metrics
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.models.shapes import misfit
from modyn.proto.evaluator_pb2 import CheckEvaluationJob, CheckEvaluationRequest, CheckEvaluationResult, MetricValue
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import SampleBatch, read_samples


def run(payload: bytes, emit: Emit) -> None:
    """Entry point: does what a serialised :class:`CheckEvaluationJob` says and emits one result.

    Raises:
        ModynError: what an evaluation would fail with.
    """
    job = CheckEvaluationJob.FromString(payload)
    emit(check(job.request, job.storage_address).SerializeToString())


def check(request: CheckEvaluationRequest, storage_address: str) -> CheckEvaluationResult:
    """One batch through everything that an evaluation would run."""
    begin = time.perf_counter()
    root = request.code.root if request.code.HasField("root") else None
    device = configure(request)
    seed_all(request.seed, device)
    decoder = Decoder(parse_data(request), root)
    metrics = parse_metrics(request)
    module = build_model(parse_section(ModelSection, from_value(request.model), "model"), root).to(device).eval()
    with connect(storage_address) as channel:
        samples = _samples(StorageStub(channel), request, decoder)
    if samples is None:
        return CheckEvaluationResult(seconds=time.perf_counter() - begin)
    scores = _scores(module, decoder, samples, device)
    labelled = samples.labels.is_valid().to_numpy(zero_copy_only=False)
    values: list[MetricValue] = []
    if labelled.any():
        classes, targets = _labels(request, decoder, samples, metrics)
        known = scores[torch.from_numpy(labelled)]
        outcomes = Outcomes(classes, predicted_classes(known).cpu().numpy(), known.cpu().numpy(), targets)
        code = MetricCode(root, lambda: seed_all(request.seed, device))
        values = try_metrics(metrics, outcomes, lambda metric, some: code.values(metric, some).value)
    count = int(np.count_nonzero(labelled))
    return CheckEvaluationResult(metrics=values, num_samples=count, seconds=time.perf_counter() - begin)


def _samples(stub: StorageStub, request: CheckEvaluationRequest, decoder: Decoder) -> SampleBatch | None:
    keys = KeySet.from_proto(request.keys)
    batches = read_samples(stub, request.dataset, keys, batch_size=max(1, len(keys)), columns=decoder.columns)
    return next((batch for batch in batches if len(batch)), None)


def _scores(module: torch.nn.Module, decoder: Decoder, samples: SampleBatch, device: torch.device) -> torch.Tensor:
    inputs = moved(decoder.inputs(samples.columns), device)
    with torch.inference_mode():
        try:
            output = module(inputs)
        except (ModynError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise misfit(module, inputs, error) from error
        return class_scores(output, len(samples))


def _labels(
    request: CheckEvaluationRequest, decoder: Decoder, samples: SampleBatch, metrics: Sequence[Metric]
) -> tuple[Int64Array, Float64Array | None]:
    """Labels of the labelled samples as metrics take them: classes, int64 [n], and numbers, float64 [n, k]."""
    labels = pc.drop_null(samples.labels)
    if not parse_data(request).label_transformer_function.strip():
        return stored_labels(labels, metrics, request.dataset)
    kinds = {metric.labels_are for metric in metrics}
    classes, targets = np.zeros(len(labels), dtype=np.int64), None
    if "classes" in kinds:
        packed = transformed_classes(decoder, encode_batch(batch_of(label=labels)))
        classes = np.frombuffer(packed, dtype="<i8").astype(np.int64, copy=False)
    if "numbers" in kinds:
        targets = decoder.labels(labels).reshape(len(labels), -1).to(torch.float64).numpy()
    return classes, targets
