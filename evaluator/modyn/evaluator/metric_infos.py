"""What the scores of an answer mean: names, digests and directions of its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modyn.core.digests import digest_inputs
from modyn.core.plugins.evaluation import METRICS, Metric
from modyn.proto.evaluator_pb2 import EvaluateMetrics, MetricInfo

METRICS_VERSION = 1
"""Raised whenever a metric of this package gives another value for the same outcomes."""


def metric_digest(metric: Metric, code_digest: str | None) -> str:
    """Of a metric's configuration and, if it runs code of the user, of that code.

    Args:
        code_digest: of the user's code that it runs; None where it cannot be known, which gives it the digest of its
            configuration alone.
    """
    code = None if metric.user_code is None else {"source": metric.user_code, "digest": code_digest}
    return digest_inputs({"version": METRICS_VERSION, "metric": METRICS.dump(metric), "code": code})


def metric_infos(metrics: Sequence[Metric], code_digests: Mapping[str, str | None]) -> EvaluateMetrics:
    """The first event of an evaluation.

    Args:
        code_digests: as for :func:`metric_digest`, by result name, of the metrics that run code of the user.
    """
    return EvaluateMetrics(
        metrics=[
            MetricInfo(
                name=metric.result_name,
                digest=metric_digest(metric, code_digests.get(metric.result_name)),
                greater_is_better=metric.greater_is_better,
            )
            for metric in metrics
        ]
    )
