"""Training with samples that count differently, by class, by age or by a column."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field, PositiveInt, ValidationInfo, WithJsonSchema, field_validator

from modyn.core.arrow import Int64Array
from modyn.core.durations import Duration
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import SELECTION_POLICIES, Selection, SelectionInput
from modyn.core.pps import inclusion_probabilities, systematic_sample
from modyn.selector.ages import age_strata, timestamps_of
from modyn.selector.policies.base import TailPolicy
from modyn.selector.sampling import take
from modyn.selector.strata import Float64Array, Strata, drawn_budgets, group_probabilities, label_strata

UNIFORM_SHARE = 0.1
"""Of the chances of an unbiased sample, so much is the same for all: no weight is above its inverse."""

NEGLIGIBLE = 1e-300
"""A weight below this share of the largest one counts as 0."""


def _class_weights(value: Any) -> Any:
    if value is None or value == "balanced":
        return value
    expected = 'expected "balanced", or weights of at least 0 by label such as {0: 1, 7: 2.5}'
    if not isinstance(value, Mapping):
        raise ValueError(expected)
    try:
        weights = {_label(label): float(weight) for label, weight in value.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(expected) from error
    if len(weights) < len(value):
        raise ValueError(f"value {dict(value)}: expected every label once")
    if not weights or not all(0 <= weight < np.inf for weight in weights.values()):
        raise ValueError(expected)
    return weights


def _label(value: Any) -> str:
    """How a label is written: whole numbers exactly, whatever their size."""
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, str):
        with suppress(ValueError):
            return str(int(value))
    number = float(value)
    return str(int(number)) if number.is_integer() else str(number)


ClassWeights = Annotated[
    Literal["balanced"] | dict[str, float] | None,
    BeforeValidator(_class_weights),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "balanced"},
                {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}, "minProperties": 1},
                {"type": "null"},
            ]
        }
    ),
]
"""A weight of a sample by its label, written as in YAML; ``balanced``: one over the samples with that label."""


@SELECTION_POLICIES.register("WeightedStrategy")
class WeightedStrategy(TailPolicy):
    """Let samples count by their label, age or a column: as a chance to be chosen, or as a weight of the loss.

    A sample weighs ``class_weights[label]`` (1 for labels that are not listed), one over the number of candidates with
    its label (``balanced``), 2^(-age / half life), in 64 steps a half life, its age in event time being that before
    the newest candidate, or what its own ``weight_column`` says. Weights below 1e-300 of the largest count as 0.
    Labels are compared in the type of the label column: 0.1 is the label 0.1 of a float32 column too.

    * ``apply: sampling``: the training set has ``ratio/ratio_max`` of the candidates (rounded down, at least one), or
      ``limit`` if that is fewer, without replacement; each is chosen with probability min(1, c · weight), exactly, by
      systematic sampling (Madow, 1949). Samples of weight 0 are never chosen, whatever the size; where there are no
      others, the training set is empty.
    * With ``unbiased`` too, their losses are multiplied by size / (n · probability), which is 1 on average, so that the
      expected loss is that of all n candidates (Horvitz and Thompson, JASA 1952). A tenth of the chances is spread
      evenly then, so that no weight is above 10; all of them where all weights are 0.
    * ``apply: loss``: the training set is a uniform sample of that size, and the losses are multiplied by the weights,
      scaled to a mean of 1 over all candidates, so that the expected loss is the weighted mean over these. Where all
      weights are 0, the training set is empty.

    >>> WeightedStrategy(class_weights={0: 1, 1: 9.5}, limit=100).class_weights
    {'0': 1.0, '1': 9.5}
    """

    class_weights: ClassWeights = Field(
        None, description="Weight of a sample by label (1 where none is given), or balanced: the same for each class."
    )
    half_life: Duration | None = Field(
        None, description="By how much older a sample must be to weigh half; instead of class_weights."
    )
    weight_column: str | None = Field(
        None,
        min_length=1,
        validate_default=True,
        description="Column of the samples with the weight of each; instead of class_weights.",
    )
    apply: Literal["sampling", "loss"] = Field(
        "sampling", description="What weights are for: the chance of a sample to be chosen, or the weight of its loss."
    )
    unbiased: bool = Field(
        False, description="With apply: sampling, weigh losses so that their expectation is that over all candidates."
    )
    ratio: PositiveInt = Field(100, description="Share of the candidates to train on, in parts of ratio_max.")
    ratio_max: PositiveInt = Field(100, validate_default=True, description="What ratio is a part of; 100: per cent.")

    @field_validator("weight_column")
    @classmethod
    def _check_one(cls, weight_column: str | None, info: ValidationInfo) -> str | None:
        given = [weight_column, *(info.data.get(key, ...) for key in ("class_weights", "half_life"))]
        if ... not in given and sum(value is not None for value in given) != 1:
            raise ValueError("expected one of class_weights, half_life and weight_column")
        return weight_column

    @field_validator("unbiased")
    @classmethod
    def _check_unbiased(cls, unbiased: bool, info: ValidationInfo) -> bool:
        if unbiased and info.data.get("apply") == "loss":
            raise ValueError("value true: expected false with apply: loss, which changes the expected loss on purpose")
        return unbiased

    @field_validator("ratio_max")
    @classmethod
    def _check_ratio(cls, ratio_max: int, info: ValidationInfo) -> int:
        ratio = info.data.get("ratio", 0)
        if ratio > ratio_max:
            raise ValueError(f"expected at least the ratio ({ratio})")
        if ratio == ratio_max and info.data.get("apply") == "sampling" and info.data.get("limit", 0) is None:
            raise ValueError(
                f"expected more than the ratio ({ratio}), or a limit: of all samples, none can be left out"
            )
        return ratio_max

    def target_size(self, num_candidates: int) -> int:
        """How many samples to train on."""
        return self.limited(min(num_candidates, max(1, num_candidates * self.ratio // self.ratio_max)))

    def select(self, data: SelectionInput) -> Selection:
        candidates = self.tail(data.history)
        size = self.target_size(len(candidates))
        if size == 0:
            return Selection(candidates)
        if self.weight_column is not None:
            return self._by_column(data, candidates, size, self.weight_column)
        strata, weights = self._strata(data, candidates)
        if self.unbiased:
            weights = _mixed(strata.counts, weights)
        total = float((strata.counts * weights).sum())
        if total == 0:
            return Selection(KeySet(ranges=()))
        if self.apply == "loss":
            positions = self.sample_positions(data, len(candidates), size)
            scaled = (weights * (len(candidates) / total)).astype(np.float32)
            return Selection(take(candidates, positions), scaled[strata.codes[positions]])
        size = min(size, int(strata.counts[weights > 0].sum()))
        probabilities = group_probabilities(strata.counts, weights, size)
        random = self.random(data)
        positions = strata.draw(drawn_budgets(strata.counts, probabilities, size, random), random)
        keys = take(candidates, positions)
        if not self.unbiased:
            return Selection(keys)
        chances = probabilities[strata.codes[positions]]
        return Selection(keys, (size / (len(candidates) * chances)).astype(np.float32))

    def _by_column(self, data: SelectionInput, candidates: KeySet, size: int, column: str) -> Selection:
        """The same where each sample has a weight of its own."""
        weights = self._column(data, candidates, column)
        num_weighty = int(np.count_nonzero(weights))
        if num_weighty == 0 and not self.unbiased:
            return Selection(KeySet(ranges=()))
        if self.apply == "loss":
            positions = self.sample_positions(data, len(candidates), size)
            return Selection(take(candidates, positions), (weights / weights.mean()).astype(np.float32)[positions])
        if not self.unbiased:
            size = min(size, num_weighty)
        floor = UNIFORM_SHARE if self.unbiased else 0.0
        probabilities = inclusion_probabilities(weights, size, floor=floor, what="weight")
        positions = systematic_sample(probabilities, self.random(data))
        factors = (size / (len(candidates) * probabilities[positions])).astype(np.float32) if self.unbiased else None
        return Selection(take(candidates, positions), factors)

    def _column(self, data: SelectionInput, keys: KeySet, column: str) -> Float64Array:
        """Weights of samples, at most 1."""
        weights = data.columns.values(keys, column)
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(wrong):
            first = int(keys.to_array()[wrong[0]])
            raise InvalidInputError(
                f"selection_strategy.weight_column {column!r}: sample key {first} has {weights[wrong[0]]}, and "
                f"{len(wrong) - 1} others have no weight either; expected a finite number of at least 0"
            )
        largest = float(weights.max(initial=0.0)) or 1.0
        scaled: Float64Array = weights / largest
        scaled[scaled < NEGLIGIBLE] = 0.0
        return scaled

    def _strata(self, data: SelectionInput, keys: KeySet) -> tuple[Strata, Float64Array]:
        """Groups of samples that weigh the same, and what one of each group weighs: at most 1."""
        if self.half_life is not None:
            return age_strata(timestamps_of(data.columns, keys), self.half_life)
        strata, labels, kind = label_strata(data.columns, keys)
        if self.class_weights == "balanced":
            return strata, 1.0 / strata.counts
        given = _in_type(self.class_weights or {}, kind)
        weights = np.array([given.get(_label(label), 1.0) for label in labels])
        largest = float(weights.max())
        # Relative to the largest, so that no sum of them is too large for a float, nor an inverse.
        return strata, np.where(weights < NEGLIGIBLE * largest, 0.0, weights / (largest or 1.0))


def _in_type(weights: Mapping[str, float], kind: pa.DataType) -> dict[str, float]:
    """Weights by label as a column of some type has them: only floats of 32 or 16 bits differ.

    Raises:
        InvalidInputError: two labels are the same one in that type.
    """
    if not pa.types.is_floating(kind):
        return dict(weights)
    with np.errstate(over="ignore"):  # such labels are infinite in the column too
        labels = [_label(float(kind.to_pandas_dtype()(float(label)))) for label in weights]
    if len(set(labels)) < len(labels):
        raise InvalidInputError(
            f"class_weights: of {', '.join(weights)}, some are the same label of type {kind}; expected every label once"
        )
    return dict(zip(labels, weights.values(), strict=True))


def _mixed(counts: Int64Array, weights: Float64Array) -> Float64Array:
    """Weights with a part that is the same for all samples; the others as they were among themselves."""
    total = float((counts * weights).sum())
    if total == 0:
        return np.full(len(weights), 1 / float(counts.sum()))
    shares: Float64Array = (1 - UNIFORM_SHARE) * weights / total
    return shares + UNIFORM_SHARE / float(counts.sum())
