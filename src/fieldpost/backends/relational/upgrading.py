"""Brings a database to the newest schema; does nothing, and does not load Alembic, when it is already there."""

from sqlalchemy import Connection, inspect, text

from fieldpost.backends.relational import locking
from fieldpost.errors import ConfigError

#: The newest migration.
HEAD = "0005"


def upgrade(connection: Connection) -> None:
    """Runs the migrations that are missing.

    Raises:
        ConfigError: the database was made by a newer Fieldpost.
    """
    current = revision(connection)
    if current == HEAD:
        return
    locking.schema(connection)
    # Somebody else may have done it while this waited.
    current = revision(connection)
    if current == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", "fieldpost.backends.relational:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(f"the database's schema {current!r} is unknown to this version: {error}") from error


def revision(connection: Connection) -> str | None:
    """The migration the database is at, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
