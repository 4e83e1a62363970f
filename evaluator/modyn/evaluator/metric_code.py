"""Metrics with code of the user, run. Only jobs do that."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.plugins.evaluation import Metric, Outcomes
from modyn.evaluator.forwarding import predicted_classes
from modyn.evaluator.metrics.classification import ClassificationMetric
from modyn.evaluator.metrics.user import UserMetric
from modyn.models.usercode import describe_error, load_function

_TRANSFORMER = "evaluation_transformer_function"


@dataclass(frozen=True)
class MetricValues:
    """Of one window.

    Attributes:
        value: None where it is undefined.
        classes: of single classes, if the metric has them and was asked for them.
    """

    value: float | None
    classes: Mapping[int, float | None] = field(default_factory=dict)


class MetricCode:
    """Metrics with their code of the user.

    Args:
        root: folder that it may be imported from, or None.
        seed: what random generators start from, before every call: a value must not depend on what came before.
    """

    def __init__(self, root: str | None, seed: Callable[[], None]) -> None:
        self._root = root
        self._seed = seed
        self._functions: dict[str, Callable[..., Any] | ModynError] = {}

    def values(self, metric: Metric, outcomes: Outcomes) -> MetricValues:
        """Of one window.

        Raises:
            InvalidInputError: the code cannot be loaded, raises, or returns what it should not. The message names the
                metric.
        """
        self._seed()
        if isinstance(metric, UserMetric):
            function = self._function(metric.function, "metrics[].function")
            value = self._call(metric, function, outcomes, **metric.config)
            return MetricValues(_number(metric, value))
        if isinstance(metric, ClassificationMetric) and metric.evaluation_transformer_function is not None:
            function = self._function(metric.evaluation_transformer_function, f"metrics[].{_TRANSFORMER}")
            outcomes = self._transformed(metric, function, outcomes)
            metric = metric.model_copy(update={_TRANSFORMER: None})
            if metric.needs_scores and outcomes.scores is None:
                raise InvalidInputError(
                    f"{_name(metric)}: {_TRANSFORMER} returned classes; expected scores [samples, k], a floating-point "
                    "tensor, because this metric looks at scores"
                )
        try:
            return MetricValues(_number(metric, metric.score(outcomes)), metric.score_classes(outcomes))
        except ModynError:
            raise
        except Exception as error:
            raise InvalidInputError(f"{_name(metric)} raised {describe_error(error)}") from error

    def _function(self, code: str, key: str) -> Callable[..., Any]:
        """Loaded once, as importing may take long and printing what went wrong once is enough."""
        if code not in self._functions:
            try:
                self._functions[code] = load_function(code, key, self._root)
            except ModynError as error:
                self._functions[code] = error
        function = self._functions[code]
        if isinstance(function, ModynError):
            raise function
        return function

    def _call(self, metric: Metric, function: Callable[..., Any], *arguments: Any, **config: Any) -> Any:
        try:
            return function(*arguments, **config)
        except (Exception, SystemExit) as error:
            raise InvalidInputError(f"{_name(metric)} raised {describe_error(error)}") from error

    def _transformed(self, metric: Metric, function: Callable[..., Any], outcomes: Outcomes) -> Outcomes:
        assert outcomes.scores is not None  # such a metric needs them
        count = len(outcomes)
        with torch.inference_mode():
            # A copy, because the function may work in place.
            made = self._call(metric, function, torch.from_numpy(np.array(outcomes.scores)))
            if not isinstance(made, torch.Tensor):
                raise InvalidInputError(f"{_name(metric)}: {_TRANSFORMER} returned {_shown(made)}; {_EXPECTED}")
            is_classes = made.ndim == 1 and not made.is_floating_point() and not made.is_complex()
            is_scores = made.ndim == 2 and made.shape[1] > 0 and made.is_floating_point()
            if len(made.shape) == 0 or len(made) != count or not (is_classes or is_scores):
                raise InvalidInputError(
                    f"{_name(metric)}: {_TRANSFORMER} returned {made.dtype} of shape {list(made.shape)} for {count} "
                    f"samples; {_EXPECTED}"
                )
            made = made.cpu()
            if is_classes:
                return Outcomes(outcomes.labels, made.to(torch.int64).numpy(), None, outcomes.targets)
            scores = made.to(torch.float32).contiguous()
            return Outcomes(outcomes.labels, predicted_classes(scores).numpy(), scores.numpy(), outcomes.targets)


_EXPECTED = "expected a tensor: integer classes [samples], or floating-point scores [samples, k]"


def _number(metric: Metric, value: object) -> float | None:
    """NaN is undefined, too.

    Raises:
        InvalidInputError: it is no number, or infinite.
    """
    if value is None:
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise InvalidInputError(f"{_name(metric)} returned {_shown(value)}; expected a number, or None where undefined")
    number = float(value)
    if math.isinf(number):
        raise InvalidInputError(f"{_name(metric)} returned {number}; expected a finite number, or None where undefined")
    return None if math.isnan(number) else number


def _name(metric: Metric) -> str:
    return f"metric {metric.function if isinstance(metric, UserMetric) else metric.plugin_name}"


def _shown(value: object) -> str:
    """What came instead, in a few words."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {list(shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:57]}…"
