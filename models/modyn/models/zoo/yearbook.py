"""Networks for the Yearbook data set (Yao et al., "Wild-Time: a benchmark of in-the-wild distribution shift over time",
NeurIPS 2022, arXiv:2211.14238)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveInt

from modyn.core.plugins.models import MODELS, ModelPlugin

if TYPE_CHECKING:
    import torch


class _YearbookPlugin(ModelPlugin):
    widths: ClassVar[tuple[int, ...]]
    """Channels of each block."""

    num_input_channels: PositiveInt = Field(description="Channels of the images.")
    num_classes: PositiveInt = Field(description="Outputs per sample.")

    def build(self) -> torch.nn.Module:
        from modyn.models.modules.yearbook import YearbookCNN

        return YearbookCNN(self.num_input_channels, self.widths, self.num_classes)


@MODELS.register("YearbookNet")
class YearbookNet(_YearbookPlugin):
    """Four blocks of convolution, batch normalisation and pooling, 32 channels each; for images from 16x16 pixels.

    >>> YearbookNet(num_input_channels=1, num_classes=2).build()(__import__("torch").zeros(3, 1, 32, 32)).shape
    torch.Size([3, 2])
    """

    widths: ClassVar[tuple[int, ...]] = (32, 32, 32, 32)


@MODELS.register("SmallYearbookNet")
class SmallYearbookNet(_YearbookPlugin):
    """Two blocks of convolution, batch normalisation and pooling with 8 and 16 channels: a cheap stand-in for
    YearbookNet.

    >>> SmallYearbookNet(num_input_channels=1, num_classes=2).build()(__import__("torch").zeros(3, 1, 32, 32)).shape
    torch.Size([3, 2])
    """

    widths: ClassVar[tuple[int, ...]] = (8, 16)
