"""What every model promises; see fieldpost.ports.models."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fieldpost.backends.models.echo import EchoModel
from fieldpost.backends.models.library.library import DocumentLibrary
from fieldpost.backends.models.library.model import LibraryModel
from fieldpost.backends.models.openai.model import OpenAIModel
from fieldpost.errors import ModelError, ModelUnavailableError
from fieldpost.messages.requests import ChatMessage
from fieldpost.messages.responses import Output
from fieldpost.ports.models import Model, Question
from tests.support.openai_server import OpenAIServer, Stall, openai_server
from tests.support.waiting import eventually

QUESTION = "How many pallets fit?"


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with openai_server() as running:
        yield running


@asynccontextmanager
async def _library_model(folder: Path) -> AsyncIterator[Model]:
    (folder / "knowledge").mkdir()
    text = "# Pallets\n\n" + "\n\n".join(f"Of these pallets {number} fit. {'Really. ' * 100}" for number in range(3))
    (folder / "knowledge" / "bays.md").write_text(text)
    async with DocumentLibrary(folder / "knowledge", folder / "library.db") as library:
        await library.refresh()
        yield LibraryModel(library, passages=3)


@pytest.fixture(params=["echo", "library", "openai"])
async def model(request: pytest.FixtureRequest, server: OpenAIServer, tmp_path: Path) -> AsyncIterator[Model]:
    if request.param == "echo":
        yield EchoModel()
    elif request.param == "library":
        async with _library_model(tmp_path) as library_model:
            yield library_model
    else:
        async with OpenAIModel(server.url, "m", "", library=None, passages=3) as remote:
            yield remote


def _question(text: str = QUESTION, *, timeout_seconds: float = 30) -> Question:
    return Question(messages=[ChatMessage(role="user", content=text)], timeout_seconds=timeout_seconds)


async def _ask(model: Model, question: Question) -> tuple[Output, list[str]]:
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    return await model.answer(question, emit), pieces


async def test_the_pieces_are_the_beginning_of_the_answer(model: Model) -> None:
    output, pieces = await _ask(model, _question())

    assert "pallets" in output.text
    assert output.text.startswith("".join(pieces))
    assert output.finish_reason == "stop"


async def test_many_questions_are_answered_at_once_each_with_its_own_answer(model: Model) -> None:
    questions = [f"pallets {number}" for number in range(20)]

    answers = await asyncio.gather(*(_ask(model, _question(question)) for question in questions))

    for question, (output, pieces) in zip(questions, answers, strict=True):
        assert question in output.text or "Of these pallets" in output.text
        assert output.text.startswith("".join(pieces))


async def test_the_last_message_is_the_question(model: Model) -> None:
    messages = [
        ChatMessage(role="system", content="Be short."),
        ChatMessage(role="user", content="Good day."),
        ChatMessage(role="assistant", content="Good day."),
        ChatMessage(role="user", content="And the pallets?"),
    ]

    output, _ = await _ask(model, Question(messages=messages, timeout_seconds=30))

    assert "pallets" in output.text


async def test_a_consumer_that_takes_its_time_is_waited_for(model: Model) -> None:
    room = asyncio.Semaphore(0)

    async def emit(piece: str) -> None:
        await room.acquire()

    answering = asyncio.create_task(model.answer(_question(), emit))
    for _ in range(50):
        room.release()

    assert "pallets" in (await asyncio.wait_for(answering, 30)).text


async def test_a_cancelled_answer_leaves_the_model_as_good_as_before(model: Model) -> None:
    started = asyncio.Event()

    async def emit(piece: str) -> None:
        started.set()
        await asyncio.Event().wait()

    answering = asyncio.create_task(model.answer(_question(), emit))
    hearing = asyncio.create_task(started.wait())
    await asyncio.wait([answering, hearing], return_when=asyncio.FIRST_COMPLETED, timeout=30)
    answering.cancel()
    hearing.cancel()
    await asyncio.gather(answering, hearing, return_exceptions=True)

    output, _ = await _ask(model, _question())
    assert "pallets" in output.text


async def test_a_cancelled_answer_stops_the_work_at_the_server(server: OpenAIServer) -> None:
    server.on("cancelled before", Stall())
    server.on("cancelled within", Stall(after="I was about to "))
    deserted = server.deserted
    async with OpenAIModel(server.url, "m", "", library=None, passages=3) as model:
        answering = [
            asyncio.create_task(_ask(model, _question("cancelled before the first word"))),
            asyncio.create_task(_ask(model, _question("cancelled within a sentence"))),
        ]
        await eventually(lambda: server.times_asked("cancelled before") + server.times_asked("cancelled within") == 2)

        for task in answering:
            task.cancel()

        await eventually(lambda: server.deserted == deserted + 2)
        assert all(task.cancelled() for task in answering)


async def test_a_model_that_is_away_says_so_in_our_words(server: OpenAIServer, tmp_path: Path) -> None:
    (tmp_path / "knowledge").mkdir()
    closed_library = DocumentLibrary(tmp_path / "knowledge", tmp_path / "library.db")
    async with closed_library:
        await closed_library.refresh()
    away: list[Model] = [LibraryModel(closed_library, passages=3)]
    async with OpenAIModel("http://127.0.0.1:1/v1", "m", "", library=None, passages=3) as nobody:
        for model in [*away, nobody]:
            with pytest.raises(ModelUnavailableError) as failed:
                await _ask(model, _question())
            assert isinstance(failed.value, ModelError)
            assert failed.value.detail
