"""No downsampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, NoDownsampling


@DOWNSAMPLING_STRATEGIES.register("No")
class Everything(NoDownsampling):
    """Train on the whole training set."""

    ignored_keys: ClassVar[Mapping[str, str]] = dict.fromkeys(("sample_then_batch", "period"), "nothing is downsampled")

    ratio: Literal[100] = Field(100, description="Always 100, with ratio_max 100.")
    ratio_max: Literal[100] = Field(100, description="Always 100.")
