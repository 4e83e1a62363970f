"""Training on the newest data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modyn.core.plugins.selection import SELECTION_POLICIES, Selection, SelectionInput
from modyn.selector.policies.base import TailPolicy
from modyn.selector.sampling import last


@SELECTION_POLICIES.register("NewDataStrategy")
class NewDataStrategy(TailPolicy):
    """Train on the data since the last trigger, optionally with that of triggers before it, up to a limit.

    Above the limit, a uniform sample without replacement is taken; with ``tail_triggers: null`` and
    ``limit_reset: lastX`` it is the last samples instead.

    >>> NewDataStrategy(tail_triggers=None, limit=1000).limit_reset
    'lastX'
    """

    limit_reset: Literal["lastX", "sampleUAR"] = Field(
        "lastX",
        description="With tail_triggers: null, what to keep above the limit: the last samples (lastX) or a uniform "
        "sample (sampleUAR).",
    )

    def select(self, data: SelectionInput) -> Selection:
        keys = self.tail(data.history)
        if self.limit is None or len(keys) <= self.limit:
            return Selection(keys)
        if self.tail_triggers is None and self.limit_reset == "lastX":
            return Selection(last(keys, self.limit))
        return Selection(self.sample(data, keys, self.limit))
