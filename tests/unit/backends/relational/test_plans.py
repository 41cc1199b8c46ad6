"""Which indexes SQLite takes: what is done again and again must not read all that the ledger holds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event

from fieldpost.backends.relational import deliveries, retention
from fieldpost.backends.relational.upgrading import upgrade
from tests.support.messages import START, a_request, at


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'fieldpost.db'}")
    with engine.begin() as opened:
        upgrade(opened)
        yield opened
    engine.dispose()


@contextmanager
def _statements(connection: Connection) -> Iterator[list[tuple[str, Any]]]:
    statements: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    yield statements
    event.remove(connection, "before_cursor_execute", note)


def _plans(connection: Connection, function: Callable[[Connection], object]) -> Sequence[str]:
    with _statements(connection) as statements:
        function(connection)
    return [
        " · ".join(row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
        for statement, parameters in statements
    ]


def test_retention_finds_all_by_their_age(connection: Connection) -> None:
    acknowledged, undelivered, files, *_ = _plans(connection, lambda opened: retention.purge(opened, START, START, 500))

    assert "SEARCH requests USING INDEX requests_acknowledged (acknowledged_at>? AND acknowledged_at<?)" == acknowledged
    assert "SEARCH requests USING INDEX requests_unacknowledged (completed_at<?)" == undelivered
    assert "SEARCH requests USING INDEX requests_undelivered_files (completed_at<?)" == files


def test_what_is_delivered_is_found_by_device_or_among_files_alone(connection: Connection) -> None:
    after = (at(1), a_request().id)
    plans = {
        name: _plans(connection, function)[0]
        for name, function in {
            "first page": lambda opened: deliveries.undelivered(opened, 1, None, (), 100, 1000),
            "next page": lambda opened: deliveries.undelivered(opened, 1, after, (), 100, 1000),
            "sweep": lambda opened: deliveries.completed(opened, [1, 2, 3], after, 100),
            "files": lambda opened: deliveries.undelivered_files(opened, 100, 1000, [7]),
        }.items()
    }

    assert "requests_undelivered_files" in plans.pop("files")
    for plan in plans.values():
        assert "requests_undelivered (device_id=?" in plan
