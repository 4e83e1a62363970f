"""Images: raw pixels, or encoded files such as PNG and JPEG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from modyn.core.config.published import Described
from modyn.core.draws import Draws
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.parsers import PARSERS, Inputs, Parser
from modyn.models.parsers.cropping import Pixels, centre, flipped, padded, room, windows
from modyn.models.parsers.payload import Deviations, Float32Array, byte_matrix, normalise, single_binary

_WHO = "parser image"
_MODES: dict[int, Literal["L", "RGB"]] = {1: "L", 3: "RGB"}

Size = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]


class RandomCrop(Described):
    """A window at a random place of each image in trainings, the middle of each image otherwise."""

    size: Size = Field(description="[height, width] of the window.")
    padding: NonNegativeInt = Field(0, description="Black pixels added on each side before.")


@PARSERS.register("image")
class ImageParser(Parser):
    """Image bytes as float32 [n, channels, height, width].

    Encoded images (PNG, JPEG, … whatever Pillow reads) must share one size, unless ``resize`` is set. Raw pixels are
    uint8 and need ``height`` and ``width``. In this order, images are resized, cropped, flipped, scaled and normalised.
    What is random is so in trainings only, and depends on the seed, the epoch and the sample.

    >>> import pyarrow as pa
    >>> parser = ImageParser(encoding="raw", height=1, width=2, channels=1)
    >>> parser.parse({"pixels": pa.array([bytes([0, 255])])})
    array([[[[0., 1.]]]], dtype=float32)
    """

    encoding: Literal["encoded", "raw"] = Field("encoded", description="Image files, or raw uint8 pixels.")
    height: PositiveInt | None = Field(None, description="Of raw images, in pixels.")
    width: PositiveInt | None = Field(None, description="Of raw images, in pixels.")
    channels: Literal[1, 3] = Field(3, description="1: grey, 3: colour. Encoded images are converted to it.")
    layout: Literal["HWC", "CHW"] = Field("HWC", description="Order of raw pixels: channels last or first.")
    resize: Size | None = Field(None, description="[height, width] to resize to (bilinear).")
    center_crop: Size | None = Field(None, description="[height, width] of the middle to keep.")
    random_crop: RandomCrop | None = Field(
        None, description="Crop at random in trainings, in the middle otherwise: {size: [32, 32], padding: 4}."
    )
    random_flip: Literal["horizontal", "vertical", "both"] | None = Field(
        None, description="In trainings, mirror half of the images left to right, upside down, or half of each."
    )
    scale: bool = Field(True, description="Divide pixels by 255, to [0, 1], before mean and std.")
    mean: list[float] | None = Field(None, description="Subtracted: one number per channel, or one for all.")
    std: Deviations | None = Field(None, description="Divided by, after mean: one number per channel, or one for all.")
    column: str | None = Field(None, description="The payload column; the only one of bytes if unset.")

    @model_validator(mode="after")
    def _check_size(self) -> ImageParser:
        if (self.height is None) != (self.width is None) or (self.encoding == "raw" and self.height is None):
            raise ValueError("height and width are needed for raw images, both of them")
        if self.encoding == "encoded" and self.height is not None:
            raise ValueError("height and width describe raw images; use resize for encoded ones")
        if self.center_crop is not None and self.random_crop is not None:
            raise ValueError(
                "center_crop and random_crop are both given; expected one (random_crop keeps the middle "
                "where nothing is random)"
            )
        return self

    def reads(self) -> tuple[str, ...]:
        return () if self.column is None else (self.column,)

    @property
    def augments(self) -> bool:
        return self.random_flip is not None or self.random_crop is not None

    @property
    def separable(self) -> bool:
        return True

    def parse(self, columns: Mapping[str, pa.Array]) -> Inputs:
        return self._inputs(columns, None)

    def parse_augmented(self, columns: Mapping[str, pa.Array], draws: Draws) -> Inputs:
        return self._inputs(columns, draws)

    def _inputs(self, columns: Mapping[str, pa.Array], draws: Draws | None) -> Inputs:
        name, array = single_binary(columns, self.column, _WHO)
        pixels = self._raw(array, name) if self.encoding == "raw" else self._decoded(array, name)
        pixels = self._cropped(pixels, draws)
        if draws is not None:
            pixels = self._flipped(pixels, draws)
        values: Float32Array = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
        if self.scale:
            values /= np.float32(255)
        return normalise(values, self.mean, self.std, 1, _WHO)

    def _cropped(self, pixels: Pixels, draws: Draws | None) -> Pixels:
        if self.center_crop is not None:
            return centre(pixels, self.center_crop, _WHO, "center_crop")
        if self.random_crop is None:
            return pixels
        pixels, size = padded(pixels, self.random_crop.padding), self.random_crop.size
        if draws is None:
            return centre(pixels, size, _WHO, "random_crop")
        height, width = room(pixels, size, _WHO, "random_crop")
        return windows(pixels, draws.integers("crop", [height + 1, width + 1]), size)

    def _flipped(self, pixels: Pixels, draws: Draws) -> Pixels:
        for axis, direction in ((1, "vertical"), (2, "horizontal")):
            if self.random_flip in {direction, "both"}:
                pixels = flipped(pixels, draws.uniform(f"flip {direction}")[:, 0] < 0.5, axis)
        return pixels

    def _raw(self, array: pa.Array, name: str) -> Pixels:
        """uint8 [n, height, width, channels]."""
        height, width = self.height or 0, self.width or 0
        flat = byte_matrix(array, name, _WHO, height * width * self.channels)
        if self.layout == "CHW":
            pixels = flat.reshape(-1, self.channels, height, width).transpose(0, 2, 3, 1)
        else:
            pixels = flat.reshape(-1, height, width, self.channels)
        if self.resize is None or self.resize == [height, width]:
            return pixels
        images = [
            Image.fromarray(np.squeeze(one, 2) if self.channels == 1 else np.ascontiguousarray(one)) for one in pixels
        ]
        return self._stack(images, name)

    def _decoded(self, array: pa.Array, name: str) -> Pixels:
        images = []
        for position, value in enumerate(array):  # decoding is per image; it dwarfs this loop
            try:
                images.append(Image.open(io.BytesIO(value.as_buffer())).convert(_MODES[self.channels]))
            except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
                raise InvalidInputError(
                    f"{_WHO}: column {name!r}, sample {position} of the batch is no image that can be read: {error}"
                ) from error
        return self._stack(images, name)

    def _stack(self, images: list[Image.Image], name: str) -> Pixels:
        if self.resize is not None:
            height, width = self.resize
            images = [image.resize((width, height), Image.Resampling.BILINEAR) for image in images]
        sizes = {image.size for image in images}
        if len(sizes) > 1:
            (w1, h1), (w2, h2) = sorted(sizes)[:2]
            raise InvalidInputError(
                f"{_WHO}: column {name!r} has images of different sizes ({h1}x{w1}, {h2}x{w2}, …); "
                "set resize: [height, width]"
            )
        if not images:
            height, width = self.resize or (0, 0)
            return np.empty((0, height, width, self.channels), dtype=np.uint8)
        pixels: Pixels = np.stack([np.asarray(image) for image in images])
        return pixels.reshape(*pixels.shape[:3], self.channels)
