"""Looking at a source's folder."""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import UnavailableError
from modyn.storage.folder import CompletenessTracker, glob_regex, list_files
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
