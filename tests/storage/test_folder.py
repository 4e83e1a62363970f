"""Looking at a source's folder."""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import UnavailableError
from modyn.core.globs import glob_regex
from modyn.core.plugins.formats import FORMATS
from modyn.storage.folder import CompletenessTracker, companion_versions, companions_of, list_files, list_source
from tests.storage.support import settle


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv"], ["a.csvx", "acsv", "x/a.tsv"]),
        ("*.csv", ["a.csv"], ["x/a.csv"]),
        ("day?/[ab]*", ["day1/a", "day2/bcd"], ["day12/a", "day1/c"]),
        ("[!a]*", ["b", "xa"], ["a", "ab"]),
        ("a+b(1).csv", ["a+b(1).csv"], ["aab1.csv"]),
        ("x/**", ["x/a", "x/y/z"], ["y/a"]),
        ("[", ["["], ["a"]),
    ],
)
def test_globs(pattern: str, matching: list[str], others: list[str]) -> None:
    regex = glob_regex(pattern)
    assert [name for name in matching if not regex.fullmatch(name)] == []
    assert [name for name in others if regex.fullmatch(name)] == []


names = st.text(st.sampled_from("ab1.-"), min_size=1, max_size=5)


@given(names, st.text(st.sampled_from("ab1.*?"), min_size=1, max_size=5).filter(lambda p: "**" not in p))
def test_globs_without_folders_equal_the_standard_library(name: str, pattern: str) -> None:
    if name.strip(".") and pattern.strip("."):
        assert bool(glob_regex(pattern).fullmatch(name)) == PurePosixPath(name).match(pattern)


def test_files_are_listed_with_their_identity(folder: Path) -> None:
    (folder / "sub").mkdir()
    path = settle(_touch(folder / "sub" / "ü ö.csv"), 77)
    odd = folder / os.fsdecode(b"bad\xff.csv")
    _touch(odd)
    _touch(folder / ".hidden.csv")
    (folder / "folder.csv").mkdir()
    (folder / "gone.csv").symlink_to(folder / "nowhere")
    files = {file.name: file for file in list_files(folder, "**/*.csv")}
    assert set(files) == {"sub/ü ö.csv", "bad\\xff.csv"}
    assert files["sub/ü ö.csv"].path == path
    assert files["sub/ü ö.csv"].mtime_ns == 77 * 10**9
    assert files["bad\\xff.csv"].path == odd


@pytest.mark.parametrize("pattern", ["**/*.csv", "**/a*", "**/x/*", "*/*.csv", "**/**", "**/[ab].{csv,tsv}"])
def test_patterns_mean_the_same_whatever_part_of_a_name_is_looked_at(folder: Path, pattern: str) -> None:
    names = ["a.csv", "x/a.csv", "x/y/a.csv", "b.tsv", "x/b.tsv", "ab/c.csv", "x/csv"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _touch(folder / name)
    expected = {name for name in names if glob_regex(pattern).fullmatch(name)}
    assert {file.name for file in list_files(folder, pattern)} == expected


def test_label_files_are_found_beside_their_samples(folder: Path) -> None:
    source = FORMATS.parse(
        {"format": "files", "path": str(folder), "file_extension": "dat", "label_file_extension": "label"}
    )
    (folder / "ü").mkdir()
    for name in ("a.dat", "b.dat", "ü/c.dat", "ü/c.label", "other.txt"):
        _touch(folder / name)
    listing = list_source(source, None)
    files = sorted(listing.files, key=lambda file: file.name)
    assert [file.name for file in files] == ["a.dat", "b.dat", "ü/c.dat"]
    assert set(listing.others) == {"ü/c.label", "other.txt"}
    before = companion_versions(source, files, listing)
    assert [[version.path for version in versions] for versions in before] == [[], [], ["ü/c.label"]]
    settle(_touch(folder / "a.label"), 77)
    (folder / "ü" / "c.label").write_bytes(b"12")
    listing = list_source(source, None)
    after = companion_versions(source, files, listing)
    assert [(version.path, version.size, version.mtime_ns) for version in after[0]] == [("a.label", 1, 77 * 10**9)]
    assert [before[index] == after[index] for index in range(3)] == [False, True, False]
    assert [dict(companions) for companions in companions_of(source, files[1:2], listing)] == [{"b.label": None}]


def test_formats_without_companions_pay_nothing_for_them(folder: Path) -> None:
    _touch(folder / "a.csv")
    _touch(folder / "b.label")
    source = FORMATS.parse({"format": "csv", "path": str(folder)})
    listing = list_source(source, None)
    assert listing.others == {}
    assert companion_versions(source, listing.files, listing) == [()]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="nowhere is no longer a folder"):
        list_files(tmp_path / "nowhere", "*")


def _touch(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


def test_completeness(folder: Path) -> None:
    path = _touch(folder / "a")
    tracker = CompletenessTracker(settle_seconds=0.2)

    def is_complete() -> bool:
        [file] = list_files(folder, "a")
        return tracker.is_complete(file)

    os.utime(path, (time.time() + 1_000,) * 2)  # a clock that is ahead: only two equal looks tell
    assert not is_complete()
    time.sleep(0.25)
    path.write_bytes(b"xy")
    os.utime(path, (time.time() + 1_000,) * 2)
    assert not is_complete(), "it has changed between the looks"
    time.sleep(0.25)
    assert is_complete()

    settle(path)
    assert is_complete(), "its time is old"
    path.write_bytes(b"xyz")
    assert not is_complete(), "it was written just now"
    time.sleep(0.02)
    path.rename(folder / "b")
    (folder / "b").rename(path)
    assert is_complete(), "it was renamed into place"
