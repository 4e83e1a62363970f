from __future__ import annotations

import threading
import time
from dataclasses import asdict, replace

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from modyn.core.catalog import Catalog, insert_missing
from modyn.selector.catalog import SelectorCatalog, TrainingSetRow, TriggerRow
from modyn.selector.tables import metadata, training_sets

SET = TrainingSetRow(
    digest="d0", dataset="numbers", num_samples=2**40, has_weights=False, created_at=1.5, key_file="d0"
)
TRIGGER = TriggerRow(
    pipeline_id="p",
    trigger_index=0,
    dataset="numbers",
    new_data="n0",
    num_new=2**40,
    num_unlabelled=3,
    end_key=2**40,
    last_timestamp=None,
    selection={"name": "NewDataStrategy", "limit": None, "nested": [1, 2.5, "x"]},
    seed=2**63 - 1,
    input_digest="i0",
    training_set="d0",
    seconds=0.25,
    created_at=2.5,
)


@pytest.fixture
def rows(any_catalog: Catalog) -> SelectorCatalog:
    return SelectorCatalog(any_catalog)


def test_the_migrations_make_the_tables_of_the_metadata(any_catalog: Catalog) -> None:
    SelectorCatalog(any_catalog)

    def ours(_: object, name: str | None, kind: str, *_rest: object) -> bool:
        return kind != "table" or not str(name).startswith("alembic_version")

    with any_catalog.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(any_catalog: Catalog, rows: SelectorCatalog) -> None:
    rows.record(TRIGGER, SET)
    assert SelectorCatalog(any_catalog).trigger("p", 0) == TRIGGER


def test_rows_come_back_as_they_went_in(rows: SelectorCatalog) -> None:
    assert rows.trigger("p", 0) is None
    assert rows.last_trigger("p") is None
    assert rows.training_set("d0") is None
    rows.record(TRIGGER, SET)
    assert rows.trigger("p", 0) == rows.last_trigger("p") == TRIGGER
    assert rows.training_set("d0") == SET


def test_a_training_set_can_serve_several_triggers(rows: SelectorCatalog) -> None:
    rows.record(TRIGGER, SET)
    later = replace(TRIGGER, trigger_index=1, created_at=3.5)
    rows.record(later, replace(SET, created_at=9.0))
    assert rows.newest_trigger_of("d0") == later
    assert rows.training_set("d0") == SET
    assert rows.newest_trigger_of("d1") is None


def test_new_data_are_answered_in_trigger_order(rows: SelectorCatalog) -> None:
    rows.record(TRIGGER, SET)
    for index in (2, 1, 3):
        rows.record(replace(TRIGGER, trigger_index=index, new_data=f"n{index}"), SET)
    rows.record(replace(TRIGGER, pipeline_id="q", new_data="other"), SET)
    assert rows.new_data("p", 0, 4) == ["n0", "n1", "n2", "n3"]
    assert rows.new_data("p", 1, 3) == ["n1", "n2"]
    last = rows.last_trigger("p")
    assert last is not None
    assert last.trigger_index == 3


def test_a_trigger_is_recorded_once_and_with_its_set_or_not_at_all(rows: SelectorCatalog) -> None:
    rows.record(TRIGGER, SET)
    other = replace(SET, digest="d1")
    with pytest.raises(sa.exc.IntegrityError):
        rows.record(replace(TRIGGER, training_set="d1"), other)
    assert rows.training_set("d1") is None


def test_two_pipelines_may_select_the_same_set_at_once(any_catalog: Catalog, rows: SelectorCatalog) -> None:
    started = threading.Event()

    def other() -> None:
        started.set()
        rows.record(replace(TRIGGER, pipeline_id="other"), SET)

    with any_catalog.write() as connection:  # a transaction that has inserted the set and not ended
        insert_missing(connection, training_sets, [asdict(SET)])
        thread = threading.Thread(target=other)
        thread.start()
        assert started.wait(5)
        time.sleep(0.2)
    thread.join()
    assert rows.trigger("other", 0) is not None


def test_training_sets_that_nobody_selected_lately_are_forgotten_with_their_triggers(rows: SelectorCatalog) -> None:
    rows.record(TRIGGER, SET)
    rows.record(replace(TRIGGER, trigger_index=1, training_set="d1", new_data="n1"), replace(SET, digest="d1"))
    rows.record(replace(TRIGGER, pipeline_id="q", training_set="d1", created_at=7.0), replace(SET, digest="d1"))
    assert [(one.digest, one.last_selected) for one in rows.training_sets_unused_since(5.0)] == [("d0", 2.5)]
    assert [one.digest for one in rows.training_sets_unused_since(7.0)] == ["d0", "d1"]
    assert rows.files_named() == {"d0", "n0", "n1"}
    assert rows.files_named(without={"d0"}) == {"d0", "n0", "n1"}, "another training set has the same file"
    assert rows.files_named(without={"d0", "d1"}) == set()
    assert not rows.forget("d1", 5.0)
    assert rows.trigger("p", 1) is not None
    assert rows.forget("d0", 5.0)
    assert rows.training_set("d0") is None
    assert rows.trigger("p", 0) is None
    assert rows.files_named() == {"d0", "n0", "n1"}
