"""Parsing in processes of their own: the same bits, clear errors, nothing left behind."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modyn.core.draws import Draws
from modyn.core.errors import CancelledError, InvalidInputError, JobFailedError
from modyn.core.jobs import ForkServerLauncher, JobDescription
from modyn.models.decoding import Decoder
from modyn.models.workers import ParserPool
from tests.helpers.code import CodeRoot
from tests.helpers.parsing import RANDOM, batch, digest, parsed, section

DRAWS = Draws(7, 1, 2, np.arange(4))


@pytest.fixture(scope="module")
def launcher() -> Iterator[ForkServerLauncher]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        launcher = ForkServerLauncher(["modyn.models.workers", "torch"])
    yield launcher
    launcher.close()


def test_any_number_of_processes_gives_the_same_bits(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    """Where trainings run, in a forked job: what random user code draws included."""
    description = JobDescription(
        "tests.helpers.parsing:parse_in_a_job", json.dumps([0, 1, 3]).encode(), tmp_path / "log", "test"
    )
    alone, one, three = (json.loads(event) for event in launcher.launch(description).events())
    assert alone[0] == one[0] == three[0] == digest(parsed(section(bytes_parser_function=RANDOM), None, 0))
    assert one[1] < 1
    assert three[1] < 1
    assert three[2], "processes of a fresh job are forks"


def test_random_user_code_neither_depends_on_the_training_nor_disturbs_it() -> None:
    decoder = Decoder(section(bytes_parser_function=RANDOM), None)
    first = decoder.inputs(batch(1), DRAWS, 5)
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = torch.rand(2), np.random.rand(), random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    again = decoder.inputs(batch(1), DRAWS, 5)
    assert torch.equal(torch.rand(2), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]
    assert digest([first]) == digest([again])
    for other, number in [
        (DRAWS, 6),
        (Draws(7, 1, 3, DRAWS.keys), 5),
        (Draws(7, 2, 2, DRAWS.keys), 5),
        (Draws(8, 1, 2, DRAWS.keys), 5),
    ]:
        assert digest([decoder.inputs(batch(1), other, number)]) != digest([first])


def test_a_decoder_says_what_may_be_done_with_it(code_root: CodeRoot) -> None:
    code_root.write("mine.py", "def f(x): return x\ndef label(x): return x\n")
    cases: dict[tuple[bool, bool], list[dict[str, Any]]] = {
        (True, False): [{}, {"parser": {"name": "columns"}}, {"parser": {"name": "text"}}],
        (False, False): [
            {"parser": "mine:f"},
            {"parser": {"name": "text", "padding": "longest"}},
            {"label_transformer_function": "mine:label"},
        ],
        (False, True): [{"transformations": ["mine:f"]}, {"bytes_parser_function": "mine:f"}, {"tokenizer": "mine:f"}],
    }
    for (batches, samples), sections in cases.items():
        for keys in sections:
            decoder = Decoder(section(**keys), str(code_root))
            assert (decoder.parses_batches, decoder.per_sample) == (batches, samples), keys


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> CodeRoot:
    root = CodeRoot(tmp_path_factory.mktemp("code"))
    root.write(
        "parsing_of_test.py",
        """
        import os, random, time
        import numpy as np

        def bytes_parser_function(data):
            if data[0] == 66:
                raise ValueError("no such thing as 66")
            if data[0] == 77:
                os.kill(os.getpid(), 9)
            if data[0] == 88:
                time.sleep(60)
            return np.array([data[0] + random.random()])
        """,
    )
    return root


@pytest.fixture(scope="module")
def pool(folder: CodeRoot) -> Iterator[ParserPool]:
    """In a process that has threads: the pool's are new interpreters."""
    data = section(bytes_parser_function="parsing_of_test:bytes_parser_function")
    with ParserPool(data, str(folder), 1) as pool:
        yield pool


def test_gives_what_the_decoder_gives(pool: ParserPool) -> None:
    found = [pool.submit(batch(i), DRAWS, i).result() for i in range(3)]
    for number, tensor in enumerate(found):
        assert isinstance(tensor, torch.Tensor)
        expected = pool._decoder.inputs(batch(number), DRAWS, number)
        assert isinstance(expected, torch.Tensor)
        assert torch.equal(tensor, expected)


def test_user_errors_say_what_and_where_and_the_pool_goes_on(pool: ParserPool) -> None:
    failing, fine = pool.submit(batch(66), DRAWS, 0), pool.submit(batch(1), DRAWS, 0)
    with pytest.raises(
        InvalidInputError,
        match=r"bytes_parser_function raised ValueError: no such thing as 66 \(line \d+ of parsing_of_test.py",
    ):
        failing.result()
    assert len(fine.result()) == 4


def test_a_killed_process_is_named_and_nothing_waits_for_it(pool: ParserPool) -> None:
    futures = [pool.submit(batch(number), DRAWS, 0) for number in (1, 77, 1, 1)]
    assert len(futures[0].result()) == 4
    for future in futures[1:]:
        with pytest.raises(JobFailedError, match=r"killed by SIGKILL \(signal 9\); out of memory"):
            future.result()


def test_closing_does_not_wait_for_user_code(folder: CodeRoot, launcher: ForkServerLauncher, tmp_path: Path) -> None:
    description = JobDescription("tests.helpers.parsing:close_in_a_job", str(folder).encode(), tmp_path / "log", "test")
    (event,) = launcher.launch(description).events()
    seconds, cancelled, error, left, threads = json.loads(event)
    assert seconds < 5
    assert cancelled
    assert error.startswith("CancelledError: the pool was closed")
    assert (left, threads) == ([], [])  # reaped, too


def test_processes_die_with_the_job(folder: CodeRoot, launcher: ForkServerLauncher, tmp_path: Path) -> None:
    description = JobDescription("tests.helpers.parsing:hang_in_a_job", str(folder).encode(), tmp_path / "log", "test")
    job = launcher.launch(description)
    events = job.events()
    pids = json.loads(next(events))
    assert len(pids) == 2
    job.cancel()
    with pytest.raises(CancelledError):
        next(events)
    deadline = time.monotonic() + 5
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
