"""Small convolutional network without batch statistics, so a batch of one sample trains too."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

_POOLED = 2
"""Height and width of the feature map that the hidden layer sees, whatever the image size."""


def small_cnn(in_channels: int, channels: Sequence[int], hidden: int, num_outputs: int) -> nn.Sequential:
    """Layers [n, in_channels, h, w] -> [n, num_outputs]."""
    layers: list[nn.Module] = []
    width = in_channels
    for size in channels:
        layers += [nn.Conv2d(width, size, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        width = size
    layers += [
        nn.AdaptiveAvgPool2d(_POOLED),
        nn.Flatten(),
        nn.Linear(width * _POOLED * _POOLED, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_outputs),
    ]
    return nn.Sequential(*layers)
