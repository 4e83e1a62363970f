from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from modyn.core.catalog import Catalog
from modyn.core.errors import InvalidInputError, UnavailableError


def _counter(catalog: Catalog) -> sa.Table:
    table = sa.Table(
        "counter", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer)
    )
    with catalog.write() as connection:
        table.create(connection)
        connection.execute(table.insert().values(id=1, n=0))
    return table


def test_read_then_write_transactions_of_many_threads_all_count(any_catalog: Catalog) -> None:
    table = _counter(any_catalog)

    def add() -> None:
        for _ in range(25):
            with any_catalog.write() as connection:
                row = sa.select(table.c.n).where(table.c.id == 1).with_for_update()
                n = connection.execute(row).scalar_one()
                connection.execute(table.update().values(n=n + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with any_catalog.read() as connection:
        assert connection.execute(sa.select(table.c.n)).scalar_one() == 100


def test_a_failed_transaction_leaves_nothing(any_catalog: Catalog) -> None:
    table = _counter(any_catalog)
    with pytest.raises(RuntimeError), any_catalog.write() as connection:  # noqa: PT012
        connection.execute(table.update().values(n=7))
        raise RuntimeError("in the middle")
    with any_catalog.read() as connection:
        assert connection.execute(sa.select(table.c.n)).scalar_one() == 0


def test_an_unreachable_database_is_named_without_its_password() -> None:
    catalog = Catalog("postgresql://modyn:secret@127.0.0.1:1/none")
    with pytest.raises(UnavailableError, match=r"modyn:\*\*\*@127.0.0.1:1") as caught, catalog.read():
        pass
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite://"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInputError, match="catalog url"):
        Catalog(url)


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"not a database at all" * 100)
    catalog = Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    with pytest.raises(UnavailableError, match=r"not a database.*restore it"), catalog.read():
        pass


def test_a_read_is_one_consistent_view(any_catalog: Catalog) -> None:
    table = _counter(any_catalog)
    with any_catalog.read() as connection:
        before = connection.execute(sa.select(table.c.n)).scalar_one()
        with any_catalog.write() as other:
            other.execute(table.update().values(n=before + 1))
        assert connection.execute(sa.select(table.c.n)).scalar_one() == before
    with any_catalog.read() as connection:
        assert connection.execute(sa.select(table.c.n)).scalar_one() == before + 1
