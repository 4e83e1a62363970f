"""Writes MNIST digits as a stream with drift of known truth: one Parquet file a day, 50 digits each, rotated.

All 10,000 digits of the MNIST test set appear once, in a random but fixed order, over 200 days. They stand upright for
40 days, then turn slowly to 60 degrees until day 100, stand on their heads from one day to the next, and upright again
from day 160 on: a gradual, an abrupt and a recurring change. Running it again writes nothing that is there already.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import ndimage

from modyn.client.tabular import write_parquet

DAYS = 200
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
SECONDS_PER_DAY = 86_400
SEED = 0

TURNS_FROM, TURNED_BY, BACK_ON = 40, 100, 160
DEGREES_WHEN_TURNED = 60.0
DEGREES_ON_ITS_HEAD = 180.0


def degrees(day: int) -> float:
    """How far the digits of a day are rotated.

    >>> [degrees(day) for day in (0, 40, 70, 99, 100, 160)]
    [0.0, 0.0, 30.0, 59.0, 180.0, 0.0]
    """
    if day < TURNS_FROM or day >= BACK_ON:
        return 0.0
    if day >= TURNED_BY:
        return DEGREES_ON_ITS_HEAD
    return DEGREES_WHEN_TURNED * (day - TURNS_FROM) / (TURNED_BY - TURNS_FROM)


def day_of_samples(day: int, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> pa.Table:
    """One day's samples: timestamps spread over the day, label, and the image as 784 bytes (28 x 28 grey values)."""
    start = int((FIRST_DAY + timedelta(days=day)).timestamp())
    timestamps = start + np.arange(len(labels)) * SECONDS_PER_DAY // len(labels)
    rotated = ndimage.rotate(images.astype(np.float32), degrees(day), axes=(1, 2), reshape=False, order=1)
    pixels = np.clip(rotated, 0, 255).round().astype(np.uint8)
    return pa.table(
        {
            "timestamp": pa.array(timestamps, pa.int64()),
            "label": pa.array(labels.astype(np.int64)),
            "image": pa.array([image.tobytes() for image in pixels], pa.binary()),
        }
    )


def read_digits(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images uint8 [n, 28, 28] and labels uint8 [n]; ends the program with a message if the file has none."""
    try:
        with np.load(path) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"error: {path}: no .npz file with the arrays images and labels: {error}")
    if images.shape != (len(labels), 28, 28) or len(labels) < DAYS:
        sys.exit(f"error: {path}: images have shape {list(images.shape)}; expected [n, 28, 28], n at least {DAYS}")
    return images, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help=".npz file with images [n, 28, 28] and labels [n]")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data", metavar="DIR")
    arguments = parser.parse_args()
    images, labels = read_digits(arguments.path)
    order = np.random.default_rng(SEED).permutation(len(labels))
    written = 0
    for day, chosen in enumerate(np.array_split(order, DAYS)):
        name = (FIRST_DAY + timedelta(days=day)).strftime("digits-%Y-%m-%d.parquet")
        written += write_parquet(arguments.output / name, day_of_samples(day, images[chosen], labels[chosen]))
    print(f"{arguments.output}: {DAYS} daily files with {len(order)} digits, {written} written now")


if __name__ == "__main__":
    main()
