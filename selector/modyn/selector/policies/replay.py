"""Training on new data mixed with old ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from modyn.core.apportion import weighted_budgets
from modyn.core.durations import Duration
from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import SELECTION_POLICIES, Selection, SelectionInput
from modyn.core.randomness import Purpose, generator
from modyn.selector.ages import age_strata, timestamps_of
from modyn.selector.policies.base import TailPolicy
from modyn.selector.sampling import Generator, take
from modyn.selector.strata import Strata, drawn_budgets, group_probabilities


@SELECTION_POLICIES.register("ReplayStrategy")
class ReplayStrategy(TailPolicy):
    """Train on the data of this trigger together with a share of data of earlier ones, so that less is forgotten.

    All N new samples are in the training set, with N · r/(100 - r) old ones (rounded down; all if there are fewer) for
    a share of r %. With a ``limit`` below that, the share holds for the limit, by largest remainders. While there are
    no old data, as at the first trigger, it is the new data. Samples are drawn without replacement: the new ones
    uniformly, the old ones uniformly or in proportion to 2^(-age / half life), which halves the chance of a sample for
    each half life that it is older in event time, in 64 steps; a chance above 1 is 1. (Experience replay: Rolnick et
    al., "Experience replay for continual learning", NeurIPS 2019; systematic sampling: Madow, 1949.)

    >>> ReplayStrategy(old_ratio=20).parts(num_old=1000, num_new=400)
    (100, 400)
    >>> ReplayStrategy(old_ratio=20, limit=50).parts(num_old=1000, num_new=400)
    (10, 40)
    """

    tail_triggers: PositiveInt | None = Field(
        None, description="Old data: of the n triggers before this one, or of all before (null)."
    )
    old_ratio: int = Field(ge=1, le=99, description="Share of old samples in a training set, in per cent.")
    age_decay: Literal["uniform", "exponential"] = Field(
        "uniform", description="How likely old samples are: all the same, or less the older they are (exponential)."
    )
    half_life: Duration | None = Field(
        None,
        validate_default=True,
        description="With age_decay: exponential, by how much older a sample must be to be half as likely.",
    )

    @field_validator("half_life")
    @classmethod
    def _check_half_life(cls, half_life: int | None, info: ValidationInfo) -> int | None:
        if info.data.get("age_decay") == "exponential" and half_life is None:
            raise ValueError("value null: expected a duration such as 30d, as age_decay is exponential")
        if info.data.get("age_decay") == "uniform" and half_life is not None:
            raise ValueError("expected null, as age_decay is uniform; set age_decay: exponential to use it")
        return half_life

    def parts(self, num_old: int, num_new: int, random: Generator | None = None) -> tuple[int, int]:
        """How many old and new samples to train on; which part gets a sample that both have half of may be drawn."""
        old = min(num_old, num_new * self.old_ratio // (100 - self.old_ratio))
        if self.limit is None or old + num_new <= self.limit:
            return old, num_new
        shares = np.array([self.old_ratio, 100 - self.old_ratio], dtype=np.float64)
        old, new = weighted_budgets(np.array([old, num_new]), shares, self.limit, random).tolist()
        return old, new

    def select(self, data: SelectionInput) -> Selection:
        entries = self.tail_entries(data.history)
        past, new = KeySet.concat(entry.keys for entry in entries[:-1]), entries[-1].keys
        parts = self.parts(len(past), len(new), generator(data.seed, Purpose.BUDGETS, data.trigger_index))
        candidates = KeySet.concat([past, new])
        if sum(parts) == len(candidates):
            return Selection(candidates)
        random = self.random(data)
        if self.half_life is None or parts[0] in (0, len(past)):
            positions = Strata.runs([len(past), len(new)]).draw(np.array(parts), random)
            return Selection(take(candidates, positions))
        ages, weights = age_strata(timestamps_of(data.columns, past), self.half_life)
        budgets = drawn_budgets(ages.counts, group_probabilities(ages.counts, weights, parts[0]), parts[0], random)
        positions = ages.followed_by(len(new)).draw(np.append(budgets, parts[1]), random)
        return Selection(take(candidates, positions))
