"""Writes the handwritten digits of scikit-learn as a stream: one Parquet file a day, images rotating slowly.

All 1,797 images appear once, in a random but fixed order, about 20 a day for 90 days; day d is rotated by d degrees.
So a model trained on the first days understands less and less of what follows. Running it again writes nothing that
is there already.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy import ndimage
from sklearn.datasets import load_digits

from modyn.client.tabular import write_parquet

DAYS = 90
DEGREES_PER_DAY = 1.0
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
SECONDS_PER_DAY = 86_400
SEED = 0


def day_of_samples(day: int, images: np.ndarray, labels: np.ndarray) -> pa.Table:
    """One day's samples: timestamps spread over the day, label, and the image as 64 bytes (8 x 8 grey values)."""
    start = int((FIRST_DAY + timedelta(days=day)).timestamp())
    timestamps = start + np.arange(len(labels)) * SECONDS_PER_DAY // len(labels)
    rotated = ndimage.rotate(images, day * DEGREES_PER_DAY, axes=(1, 2), reshape=False, order=1)
    pixels = np.clip(rotated * (255 / 16), 0, 255).round().astype(np.uint8)
    return pa.table(
        {
            "timestamp": pa.array(timestamps, pa.int64()),
            "label": pa.array(labels, pa.int64()),
            "image": pa.array([image.tobytes() for image in pixels], pa.binary()),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data", metavar="DIR")
    output: Path = parser.parse_args().output
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    written = 0
    for day, chosen in enumerate(np.array_split(order, DAYS)):
        table = day_of_samples(day, digits.images[chosen], digits.target[chosen])
        name = (FIRST_DAY + timedelta(days=day)).strftime("digits-%Y-%m-%d.parquet")
        written += write_parquet(output / name, table)
    print(f"{output}: {DAYS} daily files with {len(order)} digits, {written} written now")


if __name__ == "__main__":
    main()
