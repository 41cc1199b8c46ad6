"""Copies a database that may be in use: what was committed when the copy began, whole, without holding up the writer."""

import contextlib
import sqlite3
from pathlib import Path

from fieldpost.errors import ConfigError


def copy_database(source: Path, target: Path) -> None:
    """Writes the copy to `target`, which must not be there yet. Source: sqlite.org/lang_vacuum.html, VACUUM INTO.

    Raises:
        ConfigError: there is no such database, or the copy cannot be written.
    """
    try:
        # Not made where it is not there.
        with contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        raise ConfigError(f"{source} cannot be copied to {target}: {error}") from error
