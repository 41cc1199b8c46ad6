"""Every backend behind a port; each contract test runs over all of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fieldpost.backends.sqlite.opening import Embedded, open_database


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Embedded]:
    async with open_database(tmp_path / "fieldpost.db") as engines:
        yield engines
