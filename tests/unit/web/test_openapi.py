from pathlib import Path

import pytest

from tests.support.doors import open_doors


@pytest.fixture
async def document(tmp_path: Path) -> dict[str, object]:
    async with open_doors(tmp_path / "data") as doors, doors.client() as client:
        described: dict[str, object] = (await client.get("/openapi.json")).json()
        return described


async def test_what_is_served_is_described(document: dict[str, dict[str, dict[str, object]]]) -> None:
    paths = document["paths"]

    assert {"post", "get"} == set(paths["/v1/requests"])
    assert {"post"} == set(paths["/admin/broadcasts"])
    assert {"get", "patch", "delete"} == set(paths["/admin/devices/{id}"])
    assert {"/v1/chat/completions", "/v1/models/{id}", "/v1/stream", "/health", "/ready", "/metrics"} <= set(paths)
    assert "/page/page.js" not in paths


async def test_every_reference_leads_somewhere(document: dict[str, dict[str, dict[str, object]]]) -> None:
    schemas = document["components"]["schemas"]

    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {str(value["$ref"])} if "$ref" in value else set()
            return own.union(*(references(item) for item in value.values()))
        return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()

    assert {reference.rpartition("/")[2] for reference in references(document)} <= set(schemas)
