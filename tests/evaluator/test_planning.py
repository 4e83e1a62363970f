"""The parts between a request and its job: spans, plans, outcome files, the store."""

from __future__ import annotations

import doctest
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.alignment import rows_of
from modyn.core.catalog import Catalog
from modyn.core.digests import digest_file
from modyn.core.errors import CorruptDataError
from modyn.core.state import StateDirectory
from modyn.evaluator import finding, plan
from modyn.evaluator.finding import covering
from modyn.evaluator.outcomes import OutcomeFile, OutcomeWriter
from modyn.evaluator.plan import ModelTask, plan_tasks, runs_of_mask
from modyn.evaluator.request import Span
from modyn.evaluator.store import OutcomeStore, StoredOutcomes

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)).map(lambda p: Span(p[0], p[0] + p[1])), max_size=12)
MASKS = st.lists(st.lists(st.booleans(), min_size=30, max_size=30), max_size=5)
KEYS = st.lists(st.integers(0, 5_000), unique=True, max_size=40)


@pytest.mark.parametrize("module", [plan, finding])
def test_the_documented_examples_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ spans


@given(SPANS, st.integers(1, 5))
def test_covering_spans_are_few_disjoint_and_cover_everything(spans: list[Span], most: int) -> None:
    cover = covering(spans, most)
    assert len(cover) <= most
    assert all(a.end < b.start for a, b in itertools.pairwise(cover))
    wanted = {t for span in spans for t in range(span.start, span.end)}
    covered = {t for span in cover for t in range(span.start, span.end)}
    assert wanted <= covered
    if most == 5 and len(covering(spans, 100)) <= 5:
        assert covered == wanted  # no gap is read without need


# ------------------------------------------------------------------------------------------------ plans


@given(MASKS)
def test_a_plan_holds_each_needed_sample_once_and_gives_each_model_its_own(masks: list[list[bool]]) -> None:
    keys = np.arange(30, dtype=np.int64)[::-1] * 7
    needs = [(f"m{i}", runs_of_mask(np.array(mask))) for i, mask in enumerate(masks)]
    union, tasks = plan_tasks(keys, needs)
    expected = [k for k, *wanted in zip(keys.tolist(), *masks, strict=True) if any(wanted)]
    assert union.tolist() == expected
    assert {task.model for task in tasks} == {f"m{i}" for i, mask in enumerate(masks) if any(mask)}
    for task in tasks:
        mask = masks[int(task.model[1:])]
        shown = [k for a, b in task.runs for k in union[a:b].tolist()]
        assert shown == [k for k, wanted in zip(keys.tolist(), mask, strict=True) if wanted]
        assert len(task) == len(shown)
        assert ModelTask.from_proto(task.to_proto()).runs.tolist() == task.runs.tolist()


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 9))
def test_a_task_shown_in_batches_sees_each_of_its_samples_once(mask: list[bool], batch: int) -> None:
    task = ModelTask("m", runs_of_mask(np.array(mask)))
    seen = [
        start + int(row)
        for start in range(0, len(mask), batch)
        for row in np.arange(batch)[task.within(start, min(start + batch, len(mask)))]
    ]
    assert seen == np.flatnonzero(mask).tolist()
    assert task.end == (seen[-1] + 1 if seen else 0)


# ------------------------------------------------------------------------------------------------ outcome files


@given(stored=KEYS, asked=KEYS, spread=st.sampled_from([1, 10**9]))
def test_rows_are_found_by_key_like_in_a_dictionary(stored: list[int], asked: list[int], spread: int) -> None:
    keys = np.array(stored, dtype=np.int64) * spread  # far apart: no look-up table
    rows = {int(key): row for row, key in enumerate(keys)}
    wanted = np.array(asked, dtype=np.int64) * spread
    assert rows_of(keys, wanted).tolist() == [rows.get(int(key), -1) for key in wanted]
    assert rows_of(keys, keys).tolist() == list(range(len(keys)))


@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_an_outcome_file_gives_back_what_was_written_by_model(tmp_path: Path, outputs: int | None) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "file.arrow"
    writer = OutcomeWriter(path, outputs)
    written: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {"a": [], "b": []}
    for model, size in (("a", 5), ("b", 3), ("a", 4)):
        part = (rng.permutation(size), rng.integers(0, 9, size), rng.normal(size=(size, outputs or 1)).astype("f4"))
        written[model].append(part)
        writer.write(model, part[0], part[1], None if outputs is None else part[2])
    writer.close()
    file = OutcomeFile(path)
    for model, parts in written.items():
        read = file.of(model)
        assert read.keys.tolist() == np.concatenate([p[0] for p in parts]).tolist()
        assert read.predictions.tolist() == np.concatenate([p[1] for p in parts]).tolist()
        if outputs is None:
            assert read.scores is None
        else:
            assert read.scores is not None
            assert read.scores.tolist() == np.concatenate([p[2] for p in parts]).tolist()
    with pytest.raises(CorruptDataError, match="no predictions of model nobody"):
        file.of("nobody")


def test_something_else_is_no_outcome_file(tmp_path: Path) -> None:
    path = tmp_path / "file.arrow"
    path.write_bytes(b"hello")
    with pytest.raises(CorruptDataError, match="cannot be read"):
        OutcomeFile(path)


# ------------------------------------------------------------------------------------------------ store


def written(store: OutcomeStore, key: int) -> tuple[Path, str, StoredOutcomes]:
    path = Path(f"{store.temporary_output()}.arrow")
    writer = OutcomeWriter(path, None)
    writer.write("m", np.array([key]), np.array([1]), None)
    writer.close()
    digest = digest_file(path)
    row = StoredOutcomes("input", "m", "data", key, key + 1, "content", f"keys{key}", 1, False, 0.5, digest)
    return path, digest, row


def test_what_is_stored_is_found_oldest_first(state: StateDirectory, any_catalog: Catalog) -> None:
    store = OutcomeStore(state, any_catalog)
    rows = []
    for key in (5, 3, 9):
        path, digest, row = written(store, key)
        store.adopt(path, digest, [row])
        rows.append(row)
    again = OutcomeStore(state, any_catalog)
    assert again.find(["input", "other"], with_scores=False) == {"input": rows, "other": []}
    assert again.find(["input"], with_scores=True) == {"input": []}
    file = again.open(rows[0])
    assert file is not None
    assert file.of("m").keys.tolist() == [5]


def test_outcomes_stored_before_are_kept_and_a_file_that_nobody_needs_is_not(
    state: StateDirectory, any_catalog: Catalog
) -> None:
    store = OutcomeStore(state, any_catalog)
    path, digest, row = written(store, 5)
    store.adopt(path, digest, [row])
    other_path, other_digest, _ = written(store, 6)
    opened = store.adopt(other_path, other_digest, [replace(row, file=other_digest)])
    assert opened.of("m").keys.tolist() == [6]  # readable although already deleted
    assert store.find(["input"], with_scores=False)["input"] == [row]
    assert [file.stem for file in (state.path / "outcomes").glob("*.arrow")] == [digest]


def test_thousands_of_models_are_looked_up_at_once(state: StateDirectory, any_catalog: Catalog) -> None:
    store = OutcomeStore(state, any_catalog)
    path, digest, row = written(store, 5)
    store.adopt(path, digest, [row])
    found = store.find([*(f"digest{i}" for i in range(2_000)), "input"], with_scores=False)
    assert sum(map(len, found.values())) == 1
