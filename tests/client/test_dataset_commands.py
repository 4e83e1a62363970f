"""``modyn-client datasets …`` as a user meets it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, feather, parquet

from modyn.client.tabular import open_table, read_table
from modyn.core.errors import InvalidInputError
from modyn.core.state import StateDirectory
from tests.client.processes import TIMEOUT_SECONDS, environment, modyn


def rows(count: int, start: int = 0) -> pa.Table:
    numbers = np.arange(start, start + count)
    return pa.table({"timestamp": numbers * 10, "label": numbers % 3, "x": numbers.astype(np.float32)})


def datasets(*arguments: str, cwd: Path) -> str:
    """What a command that works says."""
    result = modyn("datasets", *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(*arguments: str, cwd: Path, status: int = 2) -> str:
    """What a command that does not work says, on one screen."""
    result = modyn("datasets", *arguments, cwd=cwd)
    assert result.returncode == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a state directory that has the dataset ``d`` of ten samples."""
    folder = tmp_path_factory.mktemp("made")
    parquet.write_table(rows(10), folder / "ten.parquet")
    datasets("register", "d", "--role", "train", cwd=folder)
    assert datasets("append", "d", "ten.parquet", cwd=folder) == "ten.parquet: appended, keys 0 to 9\n"
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """One of a test's own."""
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def shown(table: str) -> dict[str, str]:
    """Rows of a table of two columns."""
    cells = [line.strip("│").split("│") for line in table.splitlines() if line.count("│") == 3]
    return {name.strip(): text.strip() for name, text in cells}


def test_labels_deletion_and_upkeep(folder: Path) -> None:
    (folder / "labels.csv").write_text("key,label,label_time\n1,7,500\n2,,500\n")
    said = datasets("set-labels", "d", "labels.csv", cwd=folder)
    assert said.splitlines()[0] == "labels.csv: set, version 1, 2 labels, 2 corrected"
    assert said.splitlines()[1] == "models trained on the old labels: none"
    assert "labels.csv: was set before, version 1" in datasets("set-labels", "d", "labels.csv", cwd=folder)

    said = datasets("delete-samples", "d", "--keys", "8,3-4", "--yes", cwd=folder)
    assert "d: 3 samples deleted\n" in said
    assert "models trained on them: none" in said
    described = shown(datasets("describe", "d", cwd=folder))
    assert described["deleted"] == "3 (3 still stored until compaction)"
    assert described["late labels"] == "2 in 1 batches"
    assert described["roles"] == "7 train (by default train)"
    assert described["source"] == "none (it only receives appends)"

    (folder / "keys.txt").write_text("3\n9\n")
    said = datasets("delete-samples", "d", "--file", "keys.txt", "--yes", "--compact", cwd=folder)
    assert "1 sample deleted; 1 had been deleted before" in said
    assert "d: 1 segment became 1" in said
    assert shown(datasets("describe", "d", cwd=folder))["deleted"] == "4"
    assert datasets("verify", "d", cwd=folder).endswith("all as written\n")
    assert "1 segment became 1" in datasets("compact", "d", cwd=folder)


def test_deletion_asks(folder: Path) -> None:
    command = [sys.executable, "-m", "modyn.client.cli", "datasets", "delete-samples", "d", "--keys", "0-2"]
    for answer, status, left in (("n\n", 1, 10), ("", 1, 10), ("y\n", 0, 7)):
        result = subprocess.run(
            command, cwd=folder, env=environment(), input=answer, capture_output=True, text=True, check=False
        )
        assert "Delete 3 samples of 'd' for ever?" in result.stderr
        assert result.returncode == status, result.stderr
        assert shown(datasets("describe", "d", cwd=folder))["samples"] == str(left)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["delete-samples", "d", "--yes"], "--keys or with --file"),
        (["delete-samples", "d", "--yes", "--keys", "1", "--file", "k"], "--keys or with --file"),
        (["delete-samples", "d", "--yes", "--keys", "1,b"], "'b' is no key"),
        (["delete-samples", "d", "--yes", "--keys", ","], "there is no key"),
        (["delete-samples", "d", "--yes", "--keys", "10"], "key 10 does not exist"),
        (["delete-samples", "e", "--keys", "1"], "no dataset is named 'e'"),
        (["set-labels", "d", "ten.parquet"], "expected key, label and perhaps label_time"),
        (["set-labels", "d", "ten.parquet", "ten.parquet", "--batch-id", "b"], "--batch-id goes with one file"),
        (["ingest", "d"], "has no source"),
        (["register", "d", "--role", "test"], "already exists with role train"),
        (["register", "d", "--role", "tset"], "any"),
        (["verify", "e"], "no dataset is named 'e'"),
        (["compact", "e"], "no dataset is named 'e'"),
        (["watch", "d", "--from", "11"], "cursor 11"),
    ],
)
def test_mistakes_are_explained(folder: Path, arguments: list[str], says: str) -> None:
    assert says in refused(*arguments, cwd=folder)


def test_ingest_and_the_files_of_deleted_samples(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    csv.write_csv(rows(10), tmp_path / "in" / "a.csv")
    source = "{format: csv, path: in, timestamp: timestamp, label: label, settle_seconds: 0}"
    datasets("register", "s", "--source", source, cwd=tmp_path)
    assert datasets("ingest", "s", cwd=tmp_path) == "s: 1 file read, 10 samples, next key 10\n"
    (tmp_path / "in" / "b.csv").write_text("timestamp,label,x\n1,0,0.5\n2,1\n")
    said = datasets("ingest", "s", cwd=tmp_path)
    assert "1 file cannot be read; `modyn-client datasets describe s` says why" in said
    described = datasets("describe", "s", cwd=tmp_path)
    assert "b.csv" in described
    assert shown(described)["source"] == f"csv files in {tmp_path / 'in'}"
    said = datasets("delete-samples", "s", "--keys", "3", "--yes", cwd=tmp_path)
    assert f"may still hold them (1):\n  {tmp_path / 'in' / 'a.csv'}\n" in said


def test_verify_names_every_damaged_file(folder: Path) -> None:
    parquet.write_table(rows(10, 10), folder / "more.parquet")
    datasets("append", "d", "more.parquet", cwd=folder)
    payloads = sorted((folder / ".modyn").glob("datasets/*/segments/*/payload.arrow"))
    assert len(payloads) == 2
    for path in payloads:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    result = modyn("datasets", "verify", "d", cwd=folder)
    assert result.returncode == 1
    assert result.stdout.count("damaged: ") == 2
    assert all(str(path) in result.stdout for path in payloads)
    assert "error: dataset 'd': 2 files damaged" in result.stderr


def test_watch_shows_what_others_append(folder: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """They join the private server of ``watch``."""
    text = start("datasets", "watch", "d", "--from", "4")
    assert text.stdout is not None
    assert "keys 4 to 9 (6 samples)" in text.stdout.readline()
    objects = start("datasets", "watch", "d", "--json", "--from", "10")
    assert objects.stdout is not None
    parquet.write_table(rows(5, 10), folder / "five.parquet")
    datasets("append", "d", "five.parquet", cwd=folder)
    found = json.loads(objects.stdout.readline())
    assert (found["start"], found["end"]) == (10, 15)
    assert abs(found["arrival"] - time.time()) < TIMEOUT_SECONDS
    assert "keys 10 to 14 (5 samples)" in text.stdout.readline()
    for process in (objects, text):
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 130
        assert "Traceback" not in errors
    assert StateDirectory(folder / ".modyn").holder("storage") is None


def test_progress_is_a_bar_on_a_terminal_only(folder: Path) -> None:
    parquet.write_table(rows(200_000), folder / "large.parquet")
    plain = modyn("datasets", "append", "d", "large.parquet", cwd=folder)
    assert (plain.returncode, plain.stderr) == (0, "")
    parquet.write_table(rows(200_000, 5), folder / "other.parquet")
    command = [sys.executable, "-m", "modyn.client.cli", "datasets", "append", "d", "other.parquet"]
    ours, theirs = pty.openpty()
    env = {**environment(), "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert output == "other.parquet: appended, keys 200010 to 400009\n"
    assert b"200,000/200,000 rows" in seen


# --------------------------------------------------------------------------------------------- table files


def test_tables_of_every_kind(tmp_path: Path) -> None:
    table = rows(3)
    parquet.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "a.feather")
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    csv.write_csv(table, tmp_path / "a.csv")
    for suffix, compression in (("gz", "gzip"), ("zst", "zstd")):
        with pa.output_stream(tmp_path / f"a.csv.{suffix}", compression=compression) as stream:
            csv.write_csv(table, stream)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    for path in sorted(tmp_path.iterdir()):
        assert read_table(path)["timestamp"].to_pylist() == [0, 10, 20], path
        with open_table(path) as file:
            assert (file.num_rows, sum(batch.num_rows for batch in file.batches)) == (3, 3)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather", "a.csv.gz", "a.jsonl", "a.xls", "a", "a.gz"])
def test_tables_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        read_table(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00 no table")
    with pytest.raises(InvalidInputError, match=name):
        read_table(tmp_path / name)


def test_a_large_file_is_read_piece_by_piece(tmp_path: Path) -> None:
    parquet.write_table(rows(300_000), tmp_path / "large.parquet")
    with open_table(tmp_path / "large.parquet") as file:
        sizes = [batch.num_rows for batch in file.batches]
    assert (file.num_rows, sum(sizes)) == (300_000, 300_000)
    assert len(sizes) > 1
