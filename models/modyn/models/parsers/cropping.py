"""Crops and flips of whole batches of images, each image at a place of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError

Pixels = npt.NDArray[np.uint8]


def padded(pixels: Pixels, padding: int) -> Pixels:
    """Images with a black border of that many pixels on each side: [n, h, w, c] -> [n, h + 2p, w + 2p, c]."""
    return np.pad(pixels, ((0, 0), (padding, padding), (padding, padding), (0, 0))) if padding else pixels


def room(pixels: Pixels, size: list[int], parser: str, key: str) -> tuple[int, int]:
    """How many rows and columns a crop leaves out.

    Raises:
        InvalidInputError: the images are smaller than the crop.
    """
    height, width = pixels.shape[1] - size[0], pixels.shape[2] - size[1]
    if height < 0 or width < 0:
        raise InvalidInputError(
            f"{parser}: {key} {size[0]}x{size[1]} is larger than the images, {pixels.shape[1]}x{pixels.shape[2]} with "
            "their padding; make it smaller, or set resize"
        )
    return height, width


def centre(pixels: Pixels, size: list[int], parser: str, key: str) -> Pixels:
    """The middle of each image, [n, *size, c]; of an odd rest, the larger part is below and on the right.

    Raises:
        InvalidInputError: the images are smaller.
    """
    top, left = (rest // 2 for rest in room(pixels, size, parser, key))
    return pixels[:, top : top + size[0], left : left + size[1]]


def windows(pixels: Pixels, corners: Int64Array, size: list[int]) -> Pixels:
    """A window of each image, [n, *size, c].

    Args:
        pixels: uint8 [n, h, w, c].
        corners: top and left of each window, int64 [n, 2].
        size: height and width of the windows.
    """
    count, height, width, channels = pixels.shape
    # All windows of each row as single values: what is copied is whole rows of windows, not pixels.
    row_bytes = size[1] * channels
    windows_of_rows = np.ndarray(
        (count, height, width - size[1] + 1),
        dtype=np.dtype((np.void, row_bytes)),
        buffer=np.ascontiguousarray(pixels),
        strides=(height * width * channels, width * channels, channels),
    )
    rows = corners[:, 0, None] + np.arange(size[0])
    cut: Pixels = windows_of_rows[np.arange(count)[:, None], rows, corners[:, 1, None]].view(np.uint8)
    return cut.reshape(count, *size, channels)


def flipped(pixels: Pixels, which: npt.NDArray[np.bool_], axis: int) -> Pixels:
    """The images with those that ``which`` [n] says mirrored along an axis (1: upside down, 2: left to right)."""
    result = pixels.copy()
    result[which] = np.flip(pixels[which], axis)
    return result
