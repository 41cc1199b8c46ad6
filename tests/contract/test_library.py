"""What every library promises; see fieldpost.ports.models."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fieldpost.backends.models.library.library import DocumentLibrary, Limits
from fieldpost.errors import BackendUnavailableError
from tests.support.waiting import eventually

TYRES = "# Tyres\n\nThe tread of a tyre is at least 1.6 mm deep."
COLD = "# Cold chain\n\nFrozen goods stay at minus 18 degrees."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "knowledge"
    made.mkdir()
    return made


@pytest.fixture
def index_file(tmp_path: Path) -> Path:
    return tmp_path / "library.db"


@pytest.fixture
async def library(folder: Path, index_file: Path) -> AsyncIterator[DocumentLibrary]:
    async with DocumentLibrary(folder, index_file) as opened:
        yield opened


async def _files(library: DocumentLibrary, text: str, *, limit: int = 3) -> list[str]:
    return [passage.source.file for passage in await library.search(text, limit=limit)]


async def test_documents_are_found_by_their_words_with_file_and_heading(folder: Path, library: DocumentLibrary) -> None:
    (folder / "checks").mkdir()
    (folder / "checks" / "tyres.md").write_text(TYRES)
    (folder / "cold.md").write_text(COLD)

    assert 2 == await library.refresh()

    (passage,) = await library.search("How deep must the tread be?", limit=3)
    assert (passage.source.file, passage.source.heading) == ("checks/tyres.md", "Tyres")
    assert passage.text == "The tread of a tyre is at least 1.6 mm deep."


async def test_what_was_added_changed_and_removed_is_taken_up(folder: Path, library: DocumentLibrary) -> None:
    (folder / "tyres.md").write_text(TYRES)
    await library.refresh()

    (folder / "cold.md").write_text(COLD)
    assert 1 == await library.refresh()
    assert ["cold.md"] == await _files(library, "frozen goods")

    (folder / "cold.md").write_text("# Cold chain\n\nChilled fish stays below 2 degrees.")
    assert 1 == await library.refresh()
    assert [] == await _files(library, "frozen goods")
    assert ["cold.md"] == await _files(library, "chilled fish")

    (folder / "cold.md").unlink()
    assert 1 == await library.refresh()
    assert [] == await _files(library, "chilled fish")
    assert 0 == await library.refresh()


async def test_the_folder_may_go_and_come_back(folder: Path, library: DocumentLibrary) -> None:
    (folder / "tyres.md").write_text(TYRES)
    await library.refresh()

    folder.rename(folder.with_name("elsewhere"))
    assert 1 == await library.refresh()
    assert [] == await _files(library, "tyre tread")

    folder.with_name("elsewhere").rename(folder)
    assert 1 == await library.refresh()
    assert ["tyres.md"] == await _files(library, "tyre tread")


async def test_the_best_passage_comes_first_and_no_more_than_were_asked_for(
    folder: Path, library: DocumentLibrary
) -> None:
    (folder / "a.md").write_text("# Pressure\n\nA tyre has a pressure. A tyre is round. A tyre is black.")
    (folder / "b.md").write_text(TYRES)
    (folder / "c.md").write_text("# Belts\n\nA belt has a tread too, but that is no tyre.")
    await library.refresh()

    assert ["b.md", "c.md"] == await _files(library, "How deep is the tread of a tyre?", limit=2)
    assert ["b.md"] == await _files(library, "How deep is the tread of a tyre?", limit=1)


async def test_nothing_is_found_where_nothing_fits(folder: Path, library: DocumentLibrary) -> None:
    (folder / "tyres.md").write_text(TYRES)
    await library.refresh()

    assert [] == await _files(library, "who was the king of France?")
    assert [] == await _files(library, "of the and")
    assert [] == await _files(library, "")


@pytest.mark.parametrize(
    "question",
    [
        'tyre" OR "1"="1',
        "tyre NEAR(x, 2) AND NOT tread*",
        "heading: tyre ^tread -deep + (",
        "'; DROP TABLE passages; -- tyre",
        "tyre \0 tread",
        "💡 tyre — “tread”",
        "tyre " * 5000,
        " ".join(f"word{number}" for number in range(500)) + " tyre",
        "x" * 100_000,
        "\ud800 tyre",
    ],
)
async def test_operators_quotes_and_length_do_no_harm(folder: Path, library: DocumentLibrary, question: str) -> None:
    (folder / "tyres.md").write_text(TYRES)
    await library.refresh()

    assert await _files(library, question) in (["tyres.md"], [])
    assert ["tyres.md"] == await _files(library, "tyre tread")


async def test_an_index_outlives_the_process(folder: Path, index_file: Path) -> None:
    (folder / "tyres.md").write_text(TYRES)
    async with DocumentLibrary(folder, index_file) as first:
        await first.refresh()

    async with DocumentLibrary(folder, index_file) as second:
        assert 0 == await second.refresh()
        assert ["tyres.md"] == await _files(second, "tyre tread")


def _overwrite(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _spoil(path: Path) -> None:
    """Everything but the first page."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))


def _age(path: Path) -> None:
    """Another version's."""
    with path.open("r+b") as file:
        file.seek(60)
        file.write((77).to_bytes(4, "big"))


@pytest.mark.parametrize("damage", [_overwrite, _cut, _spoil, _age])
async def test_a_damaged_index_is_made_anew(folder: Path, index_file: Path, damage: Callable[[Path], None]) -> None:
    for number in range(100):
        (folder / f"tyres{number}.md").write_text(TYRES.replace("1.6", str(number)) + " More of it." * 50)
    async with DocumentLibrary(folder, index_file) as first:
        await first.refresh()
    damage(index_file)

    async with DocumentLibrary(folder, index_file) as second:

        async def is_found() -> bool:
            try:
                await second.refresh()
                return ["tyres77.md"] == await _files(second, "tyre tread 77 mm deep", limit=1)
            except BackendUnavailableError:
                return False

        await eventually(is_found)


async def test_what_cannot_be_read_is_left_out_and_harms_nothing(folder: Path, library: DocumentLibrary) -> None:
    (folder / "tyres.md").write_text(TYRES)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\n this is not what it says")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 10)
    (folder / "large.txt").write_bytes(b"tread " * 4_000_000)
    (folder / "picture.png").write_bytes(b"tyre tread")
    (folder / ".hidden.md").write_text(TYRES)
    (folder / "link.md").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe.md")
    (folder / "folder.md").mkdir()
    (Path(os.fsdecode(os.fsencode(folder) + b"/l\xe4ngd.md"))).write_text(TYRES)

    async with asyncio.timeout(60):
        await library.refresh()

    assert ["tyres.md"] == await _files(library, "tyre tread")
    assert 0 == await library.refresh()


async def test_a_document_that_takes_too_long_is_left_out_until_it_changes(folder: Path, index_file: Path) -> None:
    # Seconds of work for any machine there is, and less than a second allowed.
    (folder / "endless.html").write_text("<p>tread <b>of</b> " * 1_000_000)
    (folder / "tyres.md").write_text(TYRES)

    async with DocumentLibrary(folder, index_file, limits=Limits(read_seconds=0.5)) as library:
        assert 2 == await library.refresh()
        assert ["tyres.md"] == await _files(library, "tyre tread")
        assert 0 == await library.refresh()

        (folder / "endless.html").write_text("<p>The end of the treadmill.")
        assert 1 == await library.refresh()
        assert ["endless.html"] == await _files(library, "treadmill")


async def test_searches_go_on_while_documents_are_read(folder: Path, library: DocumentLibrary) -> None:
    (folder / "tyres.md").write_text(TYRES)
    await library.refresh()
    (folder / "endless.html").write_text("<p>tread <b>of</b> " * 1_000_000)

    refreshing = asyncio.create_task(library.refresh())
    try:
        for _ in range(20):
            assert "tyres.md" in await _files(library, "tyre tread")
        assert not refreshing.done()
    finally:
        refreshing.cancel()
        await asyncio.gather(refreshing, return_exceptions=True)

    assert "tyres.md" in await _files(library, "tyre tread")


async def test_a_search_before_the_first_look_waits_for_it(folder: Path, library: DocumentLibrary) -> None:
    (folder / "tyres.md").write_text(TYRES)

    searching = asyncio.create_task(_files(library, "tyre tread"))
    await library.refresh()

    assert ["tyres.md"] == await searching


async def test_nothing_found_is_not_said_before_all_is_read(folder: Path, index_file: Path) -> None:
    async with DocumentLibrary(folder, index_file, limits=Limits(patience_seconds=0.01)) as library:
        with pytest.raises(BackendUnavailableError) as early:
            await library.search("tyre tread", limit=3)
        await library.refresh()

        assert early.value.retry_after_seconds > 0
        assert [] == await _files(library, "tyre tread")


async def test_a_cancelled_search_does_not_stand_in_the_way_of_the_next(folder: Path, library: DocumentLibrary) -> None:
    (folder / "tyres.md").write_text(TYRES)
    await library.refresh()

    searches = [asyncio.create_task(_files(library, "tyre tread")) for _ in range(20)]
    await asyncio.sleep(0)
    for search in searches:
        search.cancel()
    await asyncio.gather(*searches, return_exceptions=True)

    assert ["tyres.md"] == await _files(library, "tyre tread")


async def test_more_documents_than_there_is_room_for_are_left_out(folder: Path, index_file: Path) -> None:
    for number in range(5):
        (folder / f"{number}.md").write_text(TYRES)

    async with DocumentLibrary(folder, index_file, limits=Limits(max_documents=3)) as library:
        assert 3 == await library.refresh()
