"""Small convolutional network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from modyn.core.plugins.models import MODELS, ModelPlugin

if TYPE_CHECKING:
    import torch


@MODELS.register("SmallCNN")
class SmallCNN(ModelPlugin):
    """3x3 convolutions with pooling between, then one hidden layer; for images from 8x8 to about 64x64 pixels.

    >>> SmallCNN(in_channels=1, num_classes=10).build()(__import__("torch").zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """

    in_channels: PositiveInt = Field(3, description="Channels of the images.")
    num_classes: PositiveInt = Field(description="Outputs per sample.")
    channels: list[PositiveInt] = Field([32, 64], min_length=1, max_length=3, description="Of each convolution.")
    hidden: PositiveInt = Field(128, description="Width of the hidden layer.")

    def build(self) -> torch.nn.Module:
        from modyn.models.modules.small_cnn import small_cnn

        return small_cnn(self.in_channels, self.channels, self.hidden, self.num_classes)
