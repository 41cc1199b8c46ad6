"""A database of an earlier version is brought up to date, with what is in it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, insert, inspect

from fieldpost.backends.relational.schema import devices
from fieldpost.backends.relational.upgrading import HEAD, revision
from fieldpost.backends.sqlite.opening import open_database
from tests.support.messages import a_request, at


async def test_a_database_of_the_first_version_is_brought_up_to_date_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "fieldpost.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "fieldpost.backends.relational:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        assert "waiting_files" not in inspect(connection).get_table_names()
        row = {"id": 7, "kind": "truck", "name": "Truck 7", "key_hash": bytes(32), "created_at": at(0)}
        connection.execute(insert(devices), [row])
    engine.dispose()

    async with open_database(path) as embedded:
        found = await embedded.devices.get(7)
        request = a_request(device_id=7)
        await embedded.ledger.records.record([request], dispatched=(), now=at(1))
        await embedded.ledger.waiting_files.add(request.id, 7, "a.txt")

    assert found is not None
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert HEAD == revision(connection)
    engine.dispose()
