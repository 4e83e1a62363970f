"""No downsampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from modyn.core.plugins.selection import DOWNSAMPLING_STRATEGIES, DownsamplingStrategy


@DOWNSAMPLING_STRATEGIES.register("No")
class NoDownsampling(DownsamplingStrategy):
    """Train on the whole training set."""

    ignored_keys: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("sample_then_batch", "ratio_max", "period"), "nothing is downsampled"
    )

    ratio: Literal[100] = Field(100, description="Always 100.")
