"""The contract of parsers, over every registered one, and what each does beyond it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.parsers import PARSERS, Parser

Columns = dict[str, pa.Array]
RNG = np.random.default_rng(0)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return sink.getvalue()


@dataclass
class Case:
    """A configured parser and a batch it can parse."""

    config: dict[str, Any]
    columns: Columns

    @property
    def parser(self) -> Parser:
        return PARSERS.parse(self.config)


def _records(dtype: str, shape: tuple[int, ...]) -> pa.Array:
    values = RNG.integers(0, 100, size=(7, *shape)).astype(dtype)
    return pa.array([row.tobytes() for row in values], pa.binary())


IMAGES = [RNG.integers(0, 256, size=(6, 4, 3), dtype=np.uint8) for _ in range(7)]

CASES: dict[str, Case] = {
    "columns": Case(
        {"name": "columns", "columns": ["b", "a", "v"]},
        {
            "a": pa.array(range(7), pa.int32()),
            "b": pa.array(RNG.normal(size=7)),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(RNG.normal(size=14)), 2),
            "text": pa.array(["x"] * 7),
        },
    ),
    "columns, all": Case({"name": "columns"}, {"a": pa.array([True, False] * 3 + [True]), "b": pa.array(range(7))}),
    "numeric_record": Case({"name": "numeric_record", "dtype": "int16"}, {"data": _records("<i2", (5,))}),
    "numeric_record, shaped": Case(
        {"name": "numeric_record", "dtype": "uint8", "shape": [1, 2, 3]}, {"data": _records("u1", (6,))}
    ),
    "image": Case({"name": "image"}, {"data": pa.array([png(image) for image in IMAGES], pa.binary())}),
    "image, resized": Case(
        {"name": "image", "resize": [3, 5], "channels": 1}, {"data": pa.array([png(i) for i in IMAGES], pa.binary())}
    ),
    "image, raw": Case(
        {"name": "image", "encoding": "raw", "height": 6, "width": 4},
        {"data": pa.array([image.tobytes() for image in IMAGES], pa.large_binary())},
    ),
    "image, raw resized": Case(
        {"name": "image", "encoding": "raw", "height": 6, "width": 4, "resize": [3, 2], "channels": 1},
        {"data": pa.array([image[..., 0].tobytes() for image in IMAGES], pa.binary(24))},
    ),
    "image, cropped": Case(
        {"name": "image", "center_crop": [3, 2]}, {"data": pa.array([png(image) for image in IMAGES], pa.binary())}
    ),
}

MAPPED: dict[str, Case] = {
    "columns, categorical": Case(
        {"name": "columns", "categorical": {"city": 5, "code": 7, "sure": 2, "kind": 3}},
        {
            "a": pa.array(RNG.normal(size=7)),
            "city": pa.array(["Bern", "Genf", "", "Zürich", "Bern", "x" * 50, "Basel"]),
            "code": pa.array(range(7), pa.int16()),
            "sure": pa.array([True, False] * 3 + [True]),
            "kind": pa.array(["a", "b", "a", "b", "c", "c", "a"]).dictionary_encode(),
        },
    ),
    "text, words": Case(
        {"name": "text", "max_length": 5},
        {"text": pa.array(["", "One two", "two  ONE, three!", "--", "été à Zürich", "a_b c", "1 2 3 4 5 6 7"])},
    ),
    "text, bytes": Case(
        {"name": "text", "tokens": "bytes", "column": "t"},
        {"t": pa.array(["ab", "é", "", "c", "d", "e", "f"]).cast(pa.binary()), "other": pa.array(range(7))},
    ),
    "text, lists": Case({"name": "text"}, {"ids": pa.array([[1, 2], [], [3], [4] * 300, [0], [5, 6, 7], [8]])}),
}


def parse(parser: Parser, columns: Columns) -> npt.NDArray[np.float32]:
    inputs = parser.parse(columns)
    assert isinstance(inputs, np.ndarray)
    return inputs.astype(np.float32, copy=False)


def test_every_registered_parser_has_a_case() -> None:
    assert {case.config["name"] for case in (CASES | MAPPED).values()} == set(PARSERS.names())


@pytest.mark.parametrize("name", CASES)
class TestContract:
    def test_float32_rows_that_may_be_written(self, name: str) -> None:
        inputs = CASES[name].parser.parse(CASES[name].columns)
        assert isinstance(inputs, np.ndarray)
        assert inputs.dtype == np.float32
        assert len(inputs) == 7
        assert inputs.flags.c_contiguous
        assert inputs.flags.writeable
        assert np.isfinite(inputs).all()

    def test_a_batch_is_its_samples(self, name: str) -> None:
        """Slices (with Arrow offsets) parse to slices: no sample sees another one."""
        parser, columns = CASES[name].parser, CASES[name].columns
        whole = parse(parser, columns)
        for start, stop in [(0, 1), (2, 5), (6, 7)]:
            part = parse(parser, {key: array.slice(start, stop - start) for key, array in columns.items()})
            np.testing.assert_array_equal(part, whole[start:stop])

    def test_any_order_of_samples(self, name: str) -> None:
        parser, columns = CASES[name].parser, CASES[name].columns
        order = RNG.permutation(7)
        shuffled = parse(parser, {key: array.take(pa.array(order)) for key, array in columns.items()})
        np.testing.assert_array_equal(shuffled, parse(parser, columns)[order])

    def test_does_not_change_its_input(self, name: str) -> None:
        parser, columns = CASES[name].parser, CASES[name].columns
        before = {key: array.to_pylist() for key, array in columns.items()}
        first = parse(parser, columns)
        first *= 0
        assert {key: array.to_pylist() for key, array in columns.items()} == before
        assert parse(parser, columns).any()

    def test_normalises(self, name: str) -> None:
        case = CASES[name]
        plain = parse(case.parser, case.columns)
        normalised = parse(PARSERS.parse({**case.config, "mean": [0.5], "std": [2.0]}), case.columns)
        np.testing.assert_allclose(normalised, (plain - 0.5) / 2.0, rtol=1e-6)

    def test_reads_only_what_it_says(self, name: str) -> None:
        case = CASES[name]
        if wanted := case.parser.reads():
            only = {key: case.columns[key] for key in wanted}
            np.testing.assert_array_equal(parse(case.parser, only), parse(case.parser, case.columns))

    def test_round_trips_as_configuration(self, name: str) -> None:
        parser = CASES[name].parser
        assert PARSERS.parse(PARSERS.dump(parser)) == parser

    def test_missing_values_are_named(self, name: str) -> None:
        case = CASES[name]
        key = (case.parser.reads() or tuple(case.columns))[0]
        kind = case.columns[key].type
        columns = {**case.columns, key: pa.array([*case.columns[key].to_pylist()[:-1], None], kind)}
        with pytest.raises(InvalidInputError, match=f"column '{key}' has 1 missing values"):
            case.parser.parse(columns)

    def test_wrong_column_types_are_named(self, name: str) -> None:
        case = CASES[name]
        key = (case.parser.reads() or tuple(case.columns))[0]
        with pytest.raises(InvalidInputError, match=r"string|expected exactly one column of bytes"):
            case.parser.parse({**case.columns, key: pa.array(["x"] * 7)})

    def test_wrong_number_of_means_is_refused(self, name: str) -> None:
        case = CASES[name]
        with pytest.raises(InvalidInputError, match="mean has 99 numbers"):
            PARSERS.parse({**case.config, "mean": [0.0] * 99}).parse(case.columns)

    def test_zero_deviation_is_refused(self, name: str) -> None:
        with pytest.raises(ValidationError, match="greater than zero"):
            PARSERS.parse({**CASES[name].config, "std": [0.0]})


def mapped(parser: Parser, columns: Columns) -> dict[str, npt.NDArray[np.generic]]:
    inputs = parser.parse(columns)
    assert isinstance(inputs, dict)
    return inputs


@pytest.mark.parametrize("name", MAPPED)
class TestContractOfSeveralInputs:
    def test_rows_of_numbers(self, name: str) -> None:
        for part in mapped(MAPPED[name].parser, MAPPED[name].columns).values():
            assert part.dtype in {np.dtype(np.float32), np.dtype(np.int64), np.dtype(bool)}
            assert len(part) == 7

    def test_a_batch_is_its_samples_in_any_order(self, name: str) -> None:
        parser, columns = MAPPED[name].parser, MAPPED[name].columns
        whole = mapped(parser, columns)
        for start, stop in [(0, 1), (2, 5), (6, 7), (3, 3)]:
            part = mapped(parser, {key: array.slice(start, stop - start) for key, array in columns.items()})
            assert all(np.array_equal(part[key], whole[key][start:stop]) for key in whole)
        order = RNG.permutation(7)
        shuffled = mapped(parser, {key: array.take(pa.array(order)) for key, array in columns.items()})
        assert all(np.array_equal(shuffled[key], whole[key][order]) for key in whole)

    def test_round_trips_as_configuration(self, name: str) -> None:
        parser = MAPPED[name].parser
        assert PARSERS.parse(PARSERS.dump(parser)) == parser

    def test_missing_values_are_named(self, name: str) -> None:
        case = MAPPED[name]
        key = (case.parser.reads() or tuple(case.columns))[-1]
        values = case.columns[key].to_pylist()[:-1]
        columns = {**case.columns, key: pa.array([*values, None], case.columns[key].type)}
        with pytest.raises(InvalidInputError, match=f"column '{key}' has 1 missing values"):
            case.parser.parse(columns)


def test_columns_in_the_given_order() -> None:
    columns = {"a": pa.array([1, 2]), "b": pa.array([0.5, 1.5]), "c": pa.array([True, False])}
    np.testing.assert_array_equal(parse(PARSERS.parse({"name": "columns"}), columns), [[1, 0.5, 1], [2, 1.5, 0]])
    parser = PARSERS.parse({"name": "columns", "columns": ["c", "a"], "scale": 2.0, "shape": [2, 1]})
    np.testing.assert_array_equal(parse(parser, columns), [[[2], [2]], [[0], [4]]])


def test_columns_errors_name_column_and_type() -> None:
    parser = PARSERS.parse({"name": "columns", "columns": ["a", "nope"]})
    with pytest.raises(InvalidInputError, match="no column 'nope' in the payload; it has a, s"):
        parser.parse({"a": pa.array([1]), "s": pa.array(["x"])})
    with pytest.raises(InvalidInputError, match="column 's' is string; expected numbers"):
        PARSERS.parse({"name": "columns"}).parse({"a": pa.array([1]), "s": pa.array(["x"])})
    with pytest.raises(InvalidInputError, match=r"a sample has 1 numbers; shape \[2, 2\] needs 4"):
        PARSERS.parse({"name": "columns", "shape": [2, 2]}).parse({"a": pa.array([1])})


@given(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int32", "int64", "float16", "float32", "float64"]),
    big=st.booleans(),
    skip=st.integers(0, 5),
    width=st.integers(1, 6),
    rows=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_numeric_records_equal_struct_decoding(dtype: str, big: bool, skip: int, width: int, rows: int) -> None:
    values = np.arange(rows * width).reshape(rows, width).astype(dtype)
    stored = values.astype(values.dtype.newbyteorder(">" if big else "<"))
    payload = [b"\xff" * skip + row.tobytes() for row in stored]
    config = {"name": "numeric_record", "dtype": dtype, "byteorder": "big" if big else "little", "skip_bytes": skip}
    parsed = parse(PARSERS.parse(config), {"data": pa.array(payload, pa.binary())})
    np.testing.assert_array_equal(parsed, values.astype(np.float32))


def test_record_errors_name_widths() -> None:
    uneven = {"data": pa.array([b"1234", b"12345678"], pa.binary())}
    with pytest.raises(InvalidInputError, match="column 'data' has a sample of 8 bytes; expected 4"):
        PARSERS.parse({"name": "numeric_record"}).parse(uneven)
    with pytest.raises(InvalidInputError, match="a sample of 4 bytes; expected 12"):
        PARSERS.parse({"name": "numeric_record", "shape": [3]}).parse(uneven)
    with pytest.raises(InvalidInputError, match=r"5 bytes of numbers per sample; expected a multiple of 4 \(float32\)"):
        PARSERS.parse({"name": "numeric_record"}).parse({"data": pa.array([b"12345"], pa.binary())})


def test_the_bytes_column_must_be_clear() -> None:
    two = {"a": pa.array([b"1"]), "b": pa.array([b"2"])}
    with pytest.raises(InvalidInputError, match=r"expected exactly one column of bytes.*a: binary, b: binary"):
        PARSERS.parse({"name": "numeric_record", "dtype": "uint8"}).parse(two)
    parser = PARSERS.parse({"name": "numeric_record", "dtype": "uint8", "column": "b"})
    np.testing.assert_array_equal(parse(parser, two), [[ord("2")]])


def test_images_equal_their_pixels() -> None:
    expected = np.stack(IMAGES).transpose(0, 3, 1, 2).astype(np.float32) / 255
    for name in ("image", "image, raw"):
        np.testing.assert_array_equal(parse(CASES[name].parser, CASES[name].columns), expected)
    chw = pa.array([image.transpose(2, 0, 1).tobytes() for image in IMAGES])
    parser = PARSERS.parse({**CASES["image, raw"].config, "layout": "CHW", "scale": False})
    np.testing.assert_array_equal(parse(parser, {"data": chw}), np.stack(IMAGES).transpose(0, 3, 1, 2))


def test_image_errors() -> None:
    parser = PARSERS.parse({"name": "image"})
    with pytest.raises(InvalidInputError, match="column 'data', sample 1 of the batch is no image"):
        parser.parse({"data": pa.array([png(IMAGES[0]), b"no image"])})
    small = png(IMAGES[0][:2])
    with pytest.raises(InvalidInputError, match=r"different sizes \(2x4, 6x4.*resize"):
        parser.parse({"data": pa.array([png(IMAGES[0]), small])})
    with pytest.raises(ValidationError, match="height and width are needed"):
        PARSERS.parse({"name": "image", "encoding": "raw", "height": 3})
