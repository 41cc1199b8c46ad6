"""The sample handbook that every new Fieldpost comes with answers what drivers and warehouses ask."""

import pytest

from tests.support.server import Server
from tests.support.waiting import eventually_now


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return server.add_device()[1]


def _output(server: Server, key: str, question: str) -> dict[str, object]:
    with server.device(key) as device:
        answer = device.post("/v1/requests", json={"input": {"prompt": question}}, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    output: dict[str, object] = answer.json()["output"]
    return output


@pytest.mark.parametrize(
    ("question", "file", "heading"),
    [
        ("How long may I drive without a break?", "driving-and-rest-times.md", "Breaks"),
        ("How many hours may I drive in two weeks?", "driving-and-rest-times.md", "two weeks"),
        ("How long is the daily rest?", "driving-and-rest-times.md", "Daily rest"),
        ("I lost my driver card", "driving-and-rest-times.md", "Driver card lost"),
        ("What do I do when the reefer alarm sounds?", "cold-chain.md", "When the reefer alarm sounds"),
        ("At which temperature is minced meat transported?", "cold-chain.md", "Temperatures of goods"),
        ("tyre tread depth", "pre-trip-checks.md", "Tyres and wheels"),
        ("How do I check the brakes?", "pre-trip-checks.md", "Brakes and air"),
        ("how do I secure the load", "pre-trip-checks.md", "Load securing"),
        ("How many EUR pallets fit in a trailer?", "pallets-and-bays.md", "How many pallets fit in a trailer"),
        ("Which bay is for frozen goods?", "pallets-and-bays.md", "Bay table"),
        ("What do the orange plates mean?", "dangerous-goods.md", "Orange plates"),
        ("Which fire extinguisher do I need for 7.5 t?", "dangerous-goods.md", "Fire extinguishers"),
        ("What to do with a leak of dangerous goods?", "dangerous-goods.md", "Leak, spill or fire"),
    ],
)
def test_the_right_passage_comes_first(server: Server, key: str, question: str, file: str, heading: str) -> None:
    output = _output(server, key, question)

    sources = output["sources"]
    assert isinstance(sources, list)
    assert sources[0]["file"] == file
    assert heading in sources[0]["heading"]
    assert str(output["text"]).startswith(f"From {file}, {sources[0]['heading']}:\n\n> ")


@pytest.mark.parametrize(
    "question", ["who was the king of France?", "What is the weather in Berlin?", "maximum speed on the motorway"]
)
def test_nothing_found_is_said_plainly(server: Server, key: str, question: str) -> None:
    output = _output(server, key, question)

    assert str(output["text"]).startswith("Nothing found in the library for: ")
    assert "sources" not in output


def test_a_document_that_is_added_while_running_is_found(server: Server, key: str) -> None:
    (server.data / "knowledge" / "ferries.md").write_text("# Ferries\n\nThe ferry to Trelleborg leaves at 22:15.")

    def answer() -> str:
        return str(_output(server, key, "When does the ferry to Trelleborg leave?")["text"])

    eventually_now(lambda: "> The ferry to Trelleborg leaves at 22:15." in answer())
