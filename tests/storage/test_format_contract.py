"""What every file format promises by itself, without the service: order, missing labels, damage, reading in place."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS, SourceFormat
from tests.storage.reading import Samples, in_place_samples, read_samples
from tests.storage.samples import CASES, FormatCase, label_of, timestamp_of

NUMBERS = np.random.default_rng(3).permutation(120).tolist()


@pytest.fixture(params=FORMATS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> FormatCase:
    return CASES[name]


@pytest.fixture
def source(name: str, case: FormatCase, folder: Path) -> SourceFormat:
    return FORMATS.parse({"format": name, "path": str(folder), **case.source()})


@pytest.mark.parametrize("stem", ["a", "b", "c"])  # cases write different flavours by name
def test_samples_come_in_file_order(stem: str, case: FormatCase, source: SourceFormat, folder: Path) -> None:
    paths = case.write(folder, stem, NUMBERS)
    found = [read_samples(source, path) for path in paths]
    numbers = [number for samples in found for number in _checked(case, source, samples, paths)]
    assert numbers == NUMBERS if len(paths) == 1 else sorted(numbers) == sorted(NUMBERS)


@pytest.mark.parametrize("stem", ["a", "b", "c"])
def test_in_place_and_read_give_equal_samples(
    stem: str, case: FormatCase, source: SourceFormat, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modyn.storage.formats.arrow_ipc.MIN_BATCH_BYTES", 1)
    unpacked = source.model_copy(update={"pack": False}) if "pack" in type(source).model_fields else source
    for path in case.write(folder, stem, NUMBERS):
        found = in_place_samples(unpacked, path)
        if found is not None:
            assert found == read_samples(source, path)


def test_what_is_read_in_place_is_copied_on_demand(case: FormatCase, source: SourceFormat, folder: Path) -> None:
    if "pack" in type(source).model_fields:
        path = case.write(folder, "a", NUMBERS)[0]
        assert source.model_copy(update={"pack": True}).in_place(path) is None


@pytest.mark.parametrize("stem", ["a", "b", "c"])
def test_damage_is_told(stem: str, case: FormatCase, source: SourceFormat, folder: Path) -> None:
    path = case.write(folder, stem, NUMBERS)[0]
    case.spoil(path)
    with pytest.raises(CorruptDataError, match=r"\w{2,} \w+") as caught:
        read_samples(source, path)
    assert len(caught.value.message) > 10
    with suppress(CorruptDataError):
        assert source.in_place(path) is None


@pytest.mark.parametrize("stem", ["a", "b", "c"])
def test_a_file_cut_anywhere_is_damaged_or_a_whole_start(
    stem: str, case: FormatCase, source: SourceFormat, folder: Path
) -> None:
    """Only formats without any mark of their end can lose whole samples unseen; none makes up others."""
    if case.file_time_only:
        pytest.skip("a shorter file is another sample")
    path = case.write(folder, stem, NUMBERS)[0]
    whole = read_samples(source, path)
    content = path.read_bytes()
    endless = path.suffix in {".csv", ".jsonl", ".bin"} or content[:4] == b"\xff\xff\xff\xff"  # the last: Arrow streams
    for size in np.random.default_rng(8).integers(1, len(content) - 2, 60).tolist():
        path.write_bytes(content[:size])
        try:
            left = read_samples(FORMATS.parse(FORMATS.dump(source)), path)  # one that remembers nothing of the file
        except CorruptDataError:
            continue
        assert endless, f"{size} of {len(content)} bytes were read as {len(left)} samples"
        assert len(left) < len(whole)
        if path.suffix != ".csv":  # its last value may be cut
            assert left == whole.first(len(left))


def test_flipped_bits_give_an_error_or_samples_and_nothing_else(
    case: FormatCase, source: SourceFormat, folder: Path
) -> None:
    random = np.random.default_rng(9)
    path = case.write(folder, "a", NUMBERS)[0]
    content = path.read_bytes()
    for _ in range(80):
        flipped = bytearray(content)
        flipped[random.integers(len(content))] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        for read in (read_samples, in_place_samples):
            with suppress(CorruptDataError):
                read(source, path)


def test_what_is_configured_must_be_there(case: FormatCase, source: SourceFormat, folder: Path) -> None:
    path = case.write(folder, "a", NUMBERS)[0]
    fields = type(source).model_fields
    for key in ("columns", "arrays", "label", "timestamp"):
        if key in fields and source.plugin_name != "webdataset":  # there, a label or time may be missing
            wrong = source.model_copy(update={key: ["nothing"] if key in ("columns", "arrays") else "nothing"})
            with pytest.raises(CorruptDataError, match="'nothing' is missing; the file has"):
                read_samples(wrong, path)


def _checked(case: FormatCase, source: SourceFormat, samples: Samples, paths: list[Path]) -> list[int]:
    """The numbers of samples whose label and time belong to them."""
    numbers = case.numbers(dict(zip(samples.payload.schema.names, samples.payload.columns, strict=True)))
    assert samples.labels == [label_of(number, always=case.always_labelled) for number in numbers]
    if case.file_time_only:
        assert samples.times is None
        assert not source.has_times
    else:
        assert samples.times == [timestamp_of(number) for number in numbers]
        assert source.has_times
    return numbers
