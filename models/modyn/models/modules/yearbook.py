"""Convolutional networks for the portraits of the Yearbook data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class YearbookCNN(nn.Module):
    """Blocks of 3x3 convolution, batch normalisation, ReLU and 2x2 pooling; their mean over the image is classified.

    Images [n, in_channels, h, w] -> [n, num_classes]; h and w are at least 2 to the power of the number of blocks.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        width = in_channels
        for size in widths:
            blocks += [
                nn.Conv2d(width, size, kernel_size=3, padding=1), nn.BatchNorm2d(size), nn.ReLU(), nn.MaxPool2d(2),
            ]  # fmt: skip
            width = size
        self.encoder = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.encoder(images).mean(dim=(2, 3)))  # type: ignore[no-any-return]
