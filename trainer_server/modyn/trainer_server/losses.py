"""Any criterion of ``torch.nn`` as a weighted mean, with labels checked against what the model puts out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from modyn.core.arrow import Int64Array
from modyn.core.config.pipeline import CriterionSection
from modyn.core.config.problems import nearest
from modyn.core.errors import InvalidInputError
from modyn.trainer_server.parallel import ALONE, Parallel, reading

_KEY = "training.optimization_criterion"
_INDEX_TARGETS = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)
"""Criteria whose integer labels are class indices."""

_PROBABILITY_TARGETS = (nn.BCELoss, nn.BCEWithLogitsLoss)
"""Criteria whose labels lie between 0 and 1."""

_TENSOR_OPTIONS = ("weight", "pos_weight")


class Loss:
    """The criterion of a training.

    Without weights it is the criterion with its own reduction. Weights w multiply the losses l of the samples before
    they are averaged as the criterion does it: ``sum(w * l) / n``, or ``sum(w * l)`` with ``reduction: sum``. The
    divisor does not depend on w: with weights of inverse probabilities, a batch's loss is then an unbiased estimate.
    With class weights c of the criterion (0 for ignored labels) it is ``sum(w * c * l) / sum(w * c) * mean(w)``.

    Where several processes share each batch, sums and means are those over all of them: the loss of each process has
    the value of the loss of the whole batch, and the mean of their gradients is its gradient.

    Args:
        section: name of a class in ``torch.nn`` and its keyword arguments.
        device: where losses are computed.
        parallel: the processes of the training.

    Raises:
        InvalidInputError: no such criterion, or it does not take this config.
    """

    def __init__(self, section: CriterionSection, device: torch.device, parallel: Parallel = ALONE) -> None:
        self._parallel = parallel
        self._name = section.name
        self._sum = section.config.get("reduction", "mean") == "sum"
        self._plain = _criterion(section, {}).to(device)
        self._per_sample = _criterion(section, {"reduction": "none"}).to(device)
        self._unweighted = getattr(self._plain, "weight", None) is None
        self._ignored: int | None = getattr(self._plain, "ignore_index", None)

    def __call__(
        self,
        outputs: Any,
        labels: torch.Tensor,
        weights: torch.Tensor | None,
        keys: Int64Array,
        *,
        label_range: tuple[int, int] | None = None,
        padding: bool = False,
    ) -> torch.Tensor:
        """The loss of one batch, a scalar on the outputs' device.

        Args:
            outputs: of the model, [n, …].
            labels: on the CPU, [n] or [n, …].
            weights: of the samples, float32 [n], on the outputs' device; None: all 1.
            keys: of the samples, for messages.
            label_range: no label, all of which are integers, is below the first or above the second; None: not known.
            padding: the samples are those of no batch: they count for nothing.

        Raises:
            InvalidInputError: outputs and labels do not fit each other or the criterion; the message has all shapes.
        """
        target = self._checked(outputs, labels, keys, label_range)
        if self._parallel.size > 1:
            return self._shared(self._each(outputs, labels, target), target, weights, padding)
        if weights is None:
            with self._fitting(outputs, labels):
                return self._plain(outputs, target)  # type: ignore[no-any-return]
        return self._average(self._each(outputs, labels, target), target, weights, label_range)

    def with_each(
        self,
        outputs: Any,
        labels: torch.Tensor,
        weights: torch.Tensor | None,
        keys: Int64Array,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of one batch, and beside it that of each sample, without weights, [n], detached."""
        target = self._checked(outputs, labels, keys)
        losses = self._each(outputs, labels, target)
        if weights is None:
            weights = torch.ones(len(losses), device=losses.device)
        return self._average(losses, target, weights), _sample_means(losses.detach())

    def each(self, outputs: Any, labels: torch.Tensor, keys: Int64Array) -> torch.Tensor:
        """The loss of each sample, [n]: the mean over all but the first dimension."""
        target = self._checked(outputs, labels, keys)
        return _sample_means(self._each(outputs, labels, target))

    @property
    def takes_probabilities(self) -> bool:
        """Whether the model's outputs are probabilities already."""
        return isinstance(self._plain, nn.BCELoss)

    @property
    def one_label(self) -> bool:
        """Whether a label is one class."""
        return isinstance(self._plain, _INDEX_TARGETS)

    @property
    def ignored(self) -> int | None:
        """The label that counts for nothing; None: there is none."""
        return self._ignored

    @property
    def binary(self) -> bool:
        """Whether labels lie between 0 and 1."""
        return isinstance(self._plain, _PROBABILITY_TARGETS)

    @property
    def name(self) -> str:
        return self._name

    def _checked(
        self, outputs: Any, labels: torch.Tensor, keys: Int64Array, label_range: tuple[int, int] | None = None
    ) -> torch.Tensor:
        """The labels as the criterion takes them, on the outputs' device."""
        if not isinstance(outputs, torch.Tensor):
            raise InvalidInputError(f"the model returned a {type(outputs).__name__}; expected one tensor of scores")
        return self._target(outputs, labels, keys, label_range).to(outputs.device, non_blocking=True)

    def _each(self, outputs: torch.Tensor, labels: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Unreduced losses, [n, …]."""
        with self._fitting(outputs, labels):
            losses: torch.Tensor = self._per_sample(outputs, target)
        return losses

    def _average(
        self,
        losses: torch.Tensor,
        target: torch.Tensor,
        weights: torch.Tensor,
        label_range: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        total = _times(losses, weights).sum()
        if self._sum:
            return total
        if self._counts_alike(label_range):  # looking at the labels would make the CPU wait for a GPU
            return total.div(losses.numel())
        return total.div(self._divisor(losses, target, weights))

    def _counts_alike(self, label_range: tuple[int, int] | None) -> bool:
        """Whether labels of a range are known to count all the same."""
        if label_range is None or not self._unweighted:
            return False
        return self._ignored is None or not label_range[0] <= self._ignored <= label_range[1]

    def _shared(
        self, losses: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None, padding: bool
    ) -> torch.Tensor:
        """The loss of the batch of which this process has a part."""
        if weights is None:
            weights = torch.ones(len(losses), device=losses.device)
        if padding:
            weights = torch.zeros_like(weights)
        mine = _times(losses, weights).sum()
        extent = self._extent(losses, target, weights, samples=0 if padding else len(weights))
        sums = self._parallel.total(torch.stack([mine.detach(), *extent]).double())
        divisor = torch.ones((), device=sums.device) if self._sum else _global_divisor(sums[1:])
        return reading(mine * (self._parallel.size / divisor).to(mine.dtype), sums[0] / divisor)

    def _extent(
        self, losses: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, *, samples: int
    ) -> list[torch.Tensor]:
        """Numbers of a part of a batch whose sums over all parts say what to divide by.

        Returns:
            How many losses there are; or, where they count differently, the sum of what the weighted ones count, the
            number of samples and the sum of their weights.
        """
        counts = self._counts(target, weights)
        if counts is None:
            return [torch.tensor(float(samples * losses[0].numel()), device=losses.device)]
        number = torch.tensor(float(samples), device=losses.device)
        return [_times(counts, weights).sum(), number, weights.sum()]

    def _counts(self, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor | None:
        """How much each loss counts in the criterion's mean, by its class; None: all alike."""
        if not isinstance(self._plain, (nn.CrossEntropyLoss, nn.NLLLoss)) or target.is_floating_point():
            return None
        counts = (target != self._plain.ignore_index).to(weights.dtype)
        if self._plain.weight is not None:
            counts *= self._plain.weight[target.clamp(min=0)]
        return counts

    def _divisor(self, losses: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor | int:
        """What the criterion itself would divide by for all samples for which the weighted ones stand.

        Where it counts every loss alike, that is how many there are. Class weights and labels to be ignored may depend
        on what was chosen, so there the batch's own weights say how large their mean is.
        """
        counts = self._counts(target, weights)
        if counts is None or (self._unweighted and bool((counts == 1).all())):
            return losses.numel()
        tiny = torch.finfo(weights.dtype).tiny
        weighted = _times(counts, weights).sum() * len(weights) / weights.sum().clamp(min=tiny)
        return weighted.clamp(min=tiny)

    @contextmanager
    def _fitting(self, outputs: torch.Tensor, labels: torch.Tensor) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise self._misfit(outputs, labels, str(error).splitlines()[0]) from error

    def _target(
        self,
        outputs: torch.Tensor,
        labels: torch.Tensor,
        keys: Int64Array,
        label_range: tuple[int, int] | None,
    ) -> torch.Tensor:
        """The labels in the shape and type that the criterion takes."""
        if len(outputs) != len(labels):
            raise self._misfit(outputs, labels, "there must be one output row for each label")
        if isinstance(self._plain, _INDEX_TARGETS) and not labels.is_floating_point():
            if outputs.ndim < 2:
                raise self._misfit(outputs, labels, "expected one score per class, [n, classes]")
            if label_range is None or label_range[0] < 0 or label_range[1] >= outputs.shape[1]:
                self._check_classes(outputs.shape[1], labels, keys)
            return labels
        if isinstance(self._plain, nn.MultiLabelMarginLoss):
            return labels
        if isinstance(self._plain, _INDEX_TARGETS) and labels.shape != outputs.shape:
            raise self._misfit(outputs, labels, "expected integer class labels")
        if outputs.shape != labels.shape:
            if outputs.numel() != labels.numel():
                raise self._misfit(outputs, labels, "expected both in the same shape")
            labels = labels.reshape(outputs.shape)  # [n] labels for [n, 1] outputs; torch would broadcast to [n, n]
        if isinstance(self._plain, _PROBABILITY_TARGETS):
            self._check_probabilities(labels, keys)
        return labels.to(outputs.dtype)

    def _check_classes(self, num_classes: int, labels: torch.Tensor, keys: Int64Array) -> None:
        if labels.numel() == 0:
            return
        low, high = torch.aminmax(labels)
        if low >= 0 and high < num_classes:
            return
        outside = (labels < 0) | (labels >= num_classes)
        if self._ignored is not None:
            outside &= labels != self._ignored
        if outside.any():
            position = int(outside.reshape(len(labels), -1).any(dim=1).nonzero()[0])
            label = int(labels[outside][0])
            raise InvalidInputError(
                f"label {label} (sample key {keys[position]}) is outside the model's {num_classes} classes; expected "
                f"0 to {num_classes - 1}. Set the model's number of classes (model.config), let the model grow with "
                "training.new_classes: grow, or map labels with data.label_transformer_function"
            )

    def _check_probabilities(self, labels: torch.Tensor, keys: Int64Array) -> None:
        outside = (labels < 0) | (labels > 1)
        if outside.any():
            position = int(outside.reshape(len(labels), -1).any(dim=1).nonzero()[0])
            raise InvalidInputError(
                f"label {labels[outside][0]:g} (sample key {keys[position]}) is outside [0, 1], which {self._name} "
                "expects; map labels with data.label_transformer_function"
            )

    def _misfit(self, outputs: torch.Tensor, labels: torch.Tensor, reason: str) -> InvalidInputError:
        return InvalidInputError(
            f"{_KEY} {self._name} does not fit: the model puts out {_described(outputs)}, the labels are "
            f"{_described(labels)}: {reason}"
        )


def _times(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Values of samples, [n, …], times the weights of these, [n]."""
    return values.flatten(1).T * weights if values.ndim > 1 else values * weights


def _global_divisor(extent: torch.Tensor) -> torch.Tensor:
    """What a weighted sum of losses is divided by (see :meth:`Loss._extent`); at least the smallest positive number."""
    tiny = torch.finfo(torch.float32).tiny
    if len(extent) == 1:
        return extent[0].clamp(min=tiny)
    counted, samples, weights = extent.unbind()
    return (counted * samples / weights.clamp(min=tiny)).clamp(min=tiny)


def _sample_means(losses: torch.Tensor) -> torch.Tensor:
    return losses.reshape(len(losses), -1).mean(dim=1)


def _criterion(section: CriterionSection, overrides: dict[str, Any]) -> nn.Module:
    cls = getattr(nn, section.name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.modules.loss._Loss)):
        names = [name for name in dir(nn) if name.endswith("Loss")]
        raise InvalidInputError(
            f"{_KEY}.name: no loss {section.name!r} in torch.nn{nearest(section.name, names)}; "
            "expected one such as CrossEntropyLoss, BCEWithLogitsLoss or MSELoss"
        )
    if section.config.get("reduction", "mean") not in {"mean", "sum"}:
        raise InvalidInputError(f"{_KEY}.config.reduction: {section.config['reduction']!r}; expected mean or sum")
    try:
        config = {
            key: torch.tensor(value, dtype=torch.float32) if key in _TENSOR_OPTIONS and value is not None else value
            for key, value in section.config.items()
        }
        return cls(**{**config, **overrides})
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{_KEY}.config of {section.name}: {error}") from error


def _described(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
