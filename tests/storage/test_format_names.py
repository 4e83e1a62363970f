"""What a file's name tells: its time, its role, and whether it is one of the source's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from modyn.core.errors import CorruptDataError
from modyn.core.globs import glob_regex
from modyn.core.plugins.formats import FORMATS, SourceFormat


def source_of(**keys: Any) -> SourceFormat:
    return FORMATS.parse({"format": "parquet", "path": "data", **keys})


@pytest.mark.parametrize(
    ("pattern", "name", "time"),
    [
        ("logs/%Y-%m-%d/*", "a/logs/2024-02-29/x.parquet", (2024, 2, 29)),
        ("%Y/%m/*", "2024/03/x.parquet", (2024, 3, 1)),
        ("%Y/**/*", "2024/a/b/x.parquet", (2024, 1, 1)),
        ("*-%Y%m%dT%H%M%S.*", "b-7-20240105T010203.parquet", (2024, 1, 5, 1, 2, 3)),
        ("%Y-%j-%H*", "a/2023-365-23h.parquet", (2023, 12, 31, 23)),
        ("hour=%H/**/*", None, None),
        ("day%%%Y-%m-%d/*", "day%2024-01-02/x", (2024, 1, 2)),
    ],
)
def test_times_in_names(pattern: str, name: str | None, time: tuple[int, ...] | None) -> None:
    if name is None or time is None:
        with pytest.raises(ValidationError, match="%H needs the day"):
            source_of(name_time=pattern)
        return
    expected = datetime(*time, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]
    assert source_of(name_time=pattern).file_time(name, 5) == expected


@pytest.mark.parametrize("name", ["part-1500000000.parquet", "x/12-1500000000.parquet", "99-a-1500000000.parquet"])
@pytest.mark.parametrize("pattern", ["*-%s.parquet", "*%s.*", "*%s*"])
def test_a_wildcard_takes_no_digit_of_a_time(name: str, pattern: str) -> None:
    assert source_of(name_time=pattern).file_time(name, 5) == 1_500_000_000


@pytest.mark.parametrize(
    ("pattern", "name", "message"),
    [
        ("%s.parquet", "part-15.parquet", "does not match name_time '%s.parquet'"),
        ("*%Y%m%d*", "x2024010512.parquet", "does not match"),  # eight digits were meant, ten are there
        ("%Y-%m-%d.*", "2024-02-30.parquet", "day is out of range"),
        ("%Y-%j.*", "2023-366.parquet", "the year has no day 366"),
        ("*-%s.parquet", "a-1500000000123.parquet", "does not match"),  # milliseconds
    ],
)
def test_names_without_a_time(pattern: str, name: str, message: str) -> None:
    with pytest.raises(CorruptDataError, match=message):
        source_of(name_time=pattern).file_time(name, 5)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*.csv", "there is no time in it"),
        ("%y-%m", "%y is no part of a time; expected %Y"),
        ("%m-%d", "%m needs %Y"),
        ("%s-%Y", "%s is a whole time"),
        ("%Y/%Y-%m", "%Y stands twice"),
        ("%Y-%m-%j", "leave out %m"),
        ("100%", "% is no part of a time"),
        ("[z-a]%s", "cannot be used"),
    ],
)
def test_patterns_without_a_time_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source_of(name_time=pattern)


def test_the_modification_time_is_the_default() -> None:
    assert source_of().file_time("20240101.parquet", 1_999_999_999) == 1
    assert source_of().file_time("a", -1) == -1


@pytest.mark.parametrize(
    "keys",
    [
        {"format": "csv", "timestamp": 0},
        {"format": "binary", "record_size": 20, "timestamp_size": 8},
        {"format": "numpy", "timestamp": "t"},
        {"format": "webdataset", "timestamp": "json.t"},
    ],
)
def test_a_time_has_one_source(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        source_of(name_time="%s*", **keys)


def test_roles() -> None:
    source = source_of(role="train", roles={"**/holdout-*": "test", "test/**": "test", "**/*.any.*": "any"})
    names = ["a.parquet", "x/holdout-1", "test/a/b", "x/test/a", "x.any.parquet", "test/x.any.parquet"]
    assert [source.role_of(name) for name in names] == ["train", "test", "test", "train", "any", "test"]
    assert source_of().role_of("test/a") == "any"
    with pytest.raises(ValidationError, match="'any', 'train' or 'test'"):
        source_of(roles={"*": "validation"})


@pytest.mark.parametrize("key", ["pattern", "roles"])
def test_globs_that_make_no_sense_are_refused(key: str) -> None:
    with pytest.raises(ValidationError, match=r"glob '\[z-a\]' cannot be used"):
        source_of(**{key: "[z-a]" if key == "pattern" else {"[z-a]": "test"}})


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("**/*.csv{,.gz}", ["a.csv", "b/c/a.csv.gz"], ["a.csv.bak", "a.csv{,.gz}"]),
        ("{a,b*}/x", ["a/x", "bcd/x"], ["c/x", "b/c/x"]),
        ("{a}", ["{a}"], ["a"]),
        ("a{b,c", ["a{b,c"], ["ab"]),
        ("[!a]?.[ch]", ["bb.c"], ["ab.c", "bb.d"]),
    ],
)
def test_globs(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [name for name in yes + no if glob_regex(pattern).fullmatch(name)] == yes


@pytest.mark.parametrize(
    ("name", "keys", "files"),
    [
        ("csv", {}, ["a.csv", "a.csv.gz", "a.csv.zst", "b/a.csv.zstd"]),
        ("jsonl", {}, ["a.jsonl", "a.jsonl.gz", "b/a.ndjson.zst"]),
        ("webdataset", {}, ["a.tar", "a.tar.gz", "a.tgz", "a.tar.zst"]),
        ("numpy", {}, ["a.npy", "b/a.npz"]),
        ("class_folders", {"file_extension": ".png"}, ["cat/a.png", "cat/b/a.png"]),
    ],
)
def test_files_of_a_format(name: str, keys: dict[str, Any], files: list[str]) -> None:
    matches = glob_regex(source_of(format=name, **keys).file_pattern).fullmatch
    assert [file for file in [*files, "a.txt", "a.png", "a.csv.bak", "a.jsonl.tmp"] if matches(file)] == files
