"""Random crops and flips of the image parser, and the numbers they come from."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from PIL import Image, ImageOps
from pydantic import ValidationError

from modyn.core.config.pipeline import DataSection
from modyn.core.draws import Draws
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.parsers import PARSERS
from modyn.models.decoding import Decoder

RNG = np.random.default_rng(3)
HEIGHT, WIDTH, COUNT = 9, 7, 40
IMAGES = RNG.integers(1, 256, size=(COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
RAW = {"data": pa.array([image.tobytes() for image in IMAGES], pa.binary())}
CONFIG: dict[str, Any] = {
    "name": "image",
    "encoding": "raw",
    "height": HEIGHT,
    "width": WIDTH,
    "scale": False,
    "random_crop": {"size": [8, 6], "padding": 2},
    "random_flip": "both",
}


def draws(epoch: int = 0, keys: npt.NDArray[np.int64] | None = None) -> Draws:
    return Draws(5, 1, epoch, np.arange(COUNT) * 3 if keys is None else keys)


def augmented(config: dict[str, Any], numbers: Draws, columns: dict[str, pa.Array] = RAW) -> npt.NDArray[np.float32]:
    inputs = PARSERS.parse(config).parse_augmented(columns, numbers)
    assert isinstance(inputs, np.ndarray)
    return inputs.astype(np.float32)


def test_crops_and_flips_equal_pillow() -> None:
    numbers = draws()
    corners = numbers.integers("crop", [HEIGHT + 4 - 8 + 1, WIDTH + 4 - 6 + 1])
    down, across = (numbers.uniform(f"flip {way}")[:, 0] < 0.5 for way in ("vertical", "horizontal"))
    assert 5 < down.sum() < 35
    assert len(np.unique(corners, axis=0)) > 15
    for row, found in enumerate(augmented(CONFIG, numbers)):
        image = ImageOps.expand(Image.fromarray(IMAGES[row]), border=2, fill=0)
        top, left = (int(corner) for corner in corners[row])
        image = image.crop((left, top, left + 6, top + 8))
        image = ImageOps.flip(image) if down[row] else image
        image = ImageOps.mirror(image) if across[row] else image
        np.testing.assert_array_equal(found, np.asarray(image).transpose(2, 0, 1))


def test_nothing_is_random_where_nothing_is_trained() -> None:
    plain = PARSERS.parse(CONFIG).parse(RAW)
    middle = PARSERS.parse({**CONFIG, "random_crop": None, "random_flip": None, "center_crop": [8, 6]}).parse(RAW)
    assert isinstance(plain, np.ndarray)
    assert isinstance(middle, np.ndarray)
    np.testing.assert_array_equal(plain, middle)
    # (9 - 8) // 2 = 0 rows above and (7 - 6) // 2 = 0 columns on the left
    np.testing.assert_array_equal(middle, IMAGES[:, :8, :6].transpose(0, 3, 1, 2))


def test_a_sample_looks_the_same_in_any_batch_but_not_in_any_epoch() -> None:
    whole = augmented(CONFIG, draws())
    order = RNG.permutation(COUNT)[:11]
    part = augmented(CONFIG, draws().take(order), {"data": RAW["data"].take(pa.array(order))})
    np.testing.assert_array_equal(part, whole[order])
    for other in (draws(epoch=1), Draws(6, 1, 0, draws().keys), Draws(5, 2, 0, draws().keys)):
        assert (augmented(CONFIG, other) != whole).any(axis=(1, 2, 3)).mean() > 0.8


def test_a_chunk_cut_apart_is_its_batches() -> None:
    sink = []
    for image in IMAGES:
        sink.append(io.BytesIO())
        Image.fromarray(image).save(sink[-1], format="PNG")
    columns = {"data": pa.array([one.getvalue() for one in sink])}
    parser = {"name": "image", "resize": [10, 10], "random_crop": {"size": [8, 8]}, "random_flip": "horizontal"}
    decoder = Decoder(DataSection.model_validate({"dataset_id": "d", "parser": parser}), None)
    assert decoder.parses_batches
    whole = decoder.inputs(columns, draws())
    assert isinstance(whole, torch.Tensor)
    for batch, start in enumerate(range(0, COUNT, 16)):
        rows = slice(start, min(COUNT, start + 16))
        part = decoder.inputs({"data": columns["data"].slice(start, 16)}, draws().take(rows), batch)
        assert isinstance(part, torch.Tensor)
        assert torch.equal(part, whole[rows])


def test_crops_that_do_not_fit() -> None:
    with pytest.raises(InvalidInputError, match="center_crop 10x3 is larger than the images, 9x7"):
        PARSERS.parse({**CONFIG, "random_crop": None, "center_crop": [10, 3]}).parse(RAW)
    with pytest.raises(InvalidInputError, match="random_crop 14x3 is larger than the images, 13x11"):
        augmented({**CONFIG, "random_crop": {"size": [14, 3], "padding": 2}}, draws())
    with pytest.raises(ValidationError, match="center_crop and random_crop are both given"):
        PARSERS.parse({**CONFIG, "center_crop": [3, 3]})


# ------------------------------------------------------------------------------------------------------- the numbers


def test_numbers_are_uniform_and_independent() -> None:
    """Of consecutive keys, the worst case of a hash: each coordinate, and pairs across keys, epochs, names, columns."""
    count, cells = 40_000, 16
    keys = np.arange(count)
    base = Draws(0, 0, 0, keys).uniform("a", 2)
    assert base.min() >= 0
    assert base.max() < 1
    others = [
        base[:, 1],
        np.roll(base[:, 0], 1),
        *(Draws(*parts, keys).uniform("a")[:, 0] for parts in ((0, 0, 1), (0, 1, 0), (1, 0, 0))),
        Draws(0, 0, 0, keys).uniform("b")[:, 0],
    ]
    expected = count / cells**2
    for other in others:
        table, _, _ = np.histogram2d(base[:, 0], other, bins=cells, range=[[0, 1], [0, 1]])
        # chi-square with 255 degrees of freedom: mean 255, standard deviation 23
        assert 150 < ((table - expected) ** 2 / expected).sum() < 370
    assert len(np.unique(base)) == base.size


def test_numbers_never_change() -> None:
    assert Draws(1, 2, 3, np.array([4, 5])).integers("crop", [10, 1000]).tolist() == GOLDEN
    assert np.array_equal(
        Draws(1, 2, 3, np.array([4, 5])).uniform("x", 2)[:, :1], Draws(1, 2, 3, np.array([4, 5])).uniform("x")
    )


GOLDEN = [[3, 48], [7, 69]]
