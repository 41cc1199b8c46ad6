"""Devices: added, shown, changed and removed over `/admin/devices`; their keys work as long as they should."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.cluster_server import WAYS, server_of
from tests.support.server import Server, running_server


@pytest.fixture(scope="module", params=WAYS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from server_of(request, tmp_path_factory.mktemp("server"))


@pytest.fixture
def operator(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers=server.operator, timeout=30) as client:
        yield client


def _usage(server: Server, key: str) -> int:
    """What a door says to this key."""
    with server.device(key) as device:
        return device.get("/v1/requests").status_code


def test_an_added_device_can_use_its_key_at_once(server: Server, operator: httpx.Client) -> None:
    answer = operator.post("/admin/devices", json={"kind": "warehouse", "name": "Lager Süd „3“"})

    assert 201 == answer.status_code
    made = answer.json()
    assert ("warehouse", "Lager Süd „3“", False) == tuple(made["device"][name] for name in ("kind", "name", "disabled"))
    assert made["key"].startswith(f"fp_{made['device']['id']}_")
    assert 200 == _usage(server, made["key"])
    assert made["device"] == operator.get(f"/admin/devices/{made['device']['id']}").json()


def test_only_the_operators_key_opens_the_operators_door(server: Server) -> None:
    device_id, key = server.add_device()
    wrong = [None, key, "fpa_operator_" + "x" * 43, "fpa_nobody_" + "x" * 43, server.operator_key[:-1]]
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for credential in wrong:
            headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
            statuses = [
                client.get("/admin/devices", headers=headers).status_code,
                client.post("/admin/devices", json={"kind": "truck", "name": "x"}, headers=headers).status_code,
                client.delete(f"/admin/devices/{device_id}", headers=headers).status_code,
                client.post(f"/admin/devices/{device_id}/rotate", headers=headers).status_code,
            ]
            assert [401] * 4 == statuses, credential
    assert 200 == _usage(server, key)


def test_the_list_comes_in_pages_in_order_and_without_keys(server: Server, operator: httpx.Client) -> None:
    added = [server.add_device(name=f"device {number}") for number in range(7)]
    listed: list[int] = []
    after: int | None = 0
    while after is not None:
        page = operator.get("/admin/devices", params={"limit": 3, "after": after}).json()
        assert len(page["devices"]) <= 3
        assert all({"id", "kind", "name", "disabled", "created_at"} == device.keys() for device in page["devices"])
        listed += [device["id"] for device in page["devices"]]
        after = page["next"]

    assert sorted(set(listed)) == listed
    assert {device_id for device_id, _ in added} <= set(listed)


def test_a_device_can_be_renamed(server: Server, operator: httpx.Client) -> None:
    device_id, key = server.add_device(name="before")

    answer = operator.patch(f"/admin/devices/{device_id}", json={"name": "after"})

    assert (200, "after") == (answer.status_code, answer.json()["name"])
    assert "after" == operator.get(f"/admin/devices/{device_id}").json()["name"]
    assert 200 == _usage(server, key)


def test_a_disabled_device_is_refused_until_it_is_enabled(server: Server, operator: httpx.Client) -> None:
    device_id, key = server.add_device()

    assert operator.patch(f"/admin/devices/{device_id}", json={"disabled": True}).json()["disabled"]
    with server.device(key) as device:
        refused = device.post("/v1/requests", json={"input": {"prompt": "a question"}})
    assert 403 == refused.status_code
    assert "application/problem+json" == refused.headers["content-type"]
    assert refused.json()["type"].endswith("device-disabled")

    assert not operator.patch(f"/admin/devices/{device_id}", json={"disabled": False}).json()["disabled"]
    assert 200 == _usage(server, key)


def test_after_rotation_only_the_new_key_works(server: Server, operator: httpx.Client) -> None:
    device_id, old = server.add_device()

    new = operator.post(f"/admin/devices/{device_id}/rotate").json()["key"]

    assert new != old
    assert (401, 200) == (_usage(server, old), _usage(server, new))


def test_a_removed_device_is_gone_and_its_key_too(server: Server, operator: httpx.Client) -> None:
    device_id, key = server.add_device()

    assert 204 == operator.delete(f"/admin/devices/{device_id}").status_code

    assert 401 == _usage(server, key)
    assert 404 == operator.get(f"/admin/devices/{device_id}").status_code
    assert 404 == operator.patch(f"/admin/devices/{device_id}", json={"disabled": False}).status_code
    assert 404 == operator.post(f"/admin/devices/{device_id}/rotate").status_code
    assert 404 == operator.delete(f"/admin/devices/{device_id}").status_code
    page = operator.get("/admin/devices", params={"after": device_id - 1, "limit": 1}).json()
    assert device_id not in [device["id"] for device in page["devices"]]


def test_an_id_of_ones_own_is_taken_once(server: Server, operator: httpx.Client) -> None:
    newest, _ = server.add_device()
    body = {"kind": "office", "name": "Head office", "id": newest + 1000}

    assert [201, 409] == [operator.post("/admin/devices", json=body).status_code for _ in range(2)]

    assert (
        newest + 1001 == operator.post("/admin/devices", json={"kind": "office", "name": "Next"}).json()["device"]["id"]
    )


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "boat", "name": "x"},
        {"kind": "truck"},
        {"kind": "truck", "name": ""},
        {"kind": "truck", "name": "x", "id": 0},
        {"kind": "truck", "name": "x", "id": -1},
        {"kind": "truck", "name": "x", "id": 2**63},
        {"kind": "truck", "name": "x", "id": "17"},
        {"kind": "truck", "name": "x", "colour": "red"},
        {"kind": "truck", "name": 17},
    ],
)
def test_a_device_that_cannot_be_is_refused(operator: httpx.Client, body: dict[str, object]) -> None:
    answer = operator.post("/admin/devices", json=body)

    assert 422 == answer.status_code, answer.text
    assert "application/problem+json" == answer.headers["content-type"]


def test_ids_are_never_used_again_not_even_after_a_restart(data: Path) -> None:
    with running_server(data) as server:
        first, _ = server.add_device()
        last, key = server.add_device()
        with httpx.Client(base_url=server.url, headers=server.operator, timeout=30) as operator:
            assert 204 == operator.delete(f"/admin/devices/{last}").status_code
            assert 0 == server.stop()
            server.start()

            chosen = operator.post("/admin/devices", json={"kind": "truck", "name": "x", "id": last})
            following, _ = server.add_device()
            listed = [device["id"] for device in operator.get("/admin/devices").json()["devices"]]

        assert 409 == chosen.status_code
        assert last + 1 == following
        assert [first, following] == listed
        assert 401 == _usage(server, key)


def test_no_secret_is_kept_on_disk_or_said_in_the_log(data: Path) -> None:
    with running_server(data, settings={"FIELDPOST_LOG_LEVEL": "debug"}) as server:
        device_id, key = server.add_device(name="a name that is on disk")
        with httpx.Client(base_url=server.url, headers=server.operator, timeout=30) as operator:
            rotated = operator.post(f"/admin/devices/{device_id}/rotate").json()["key"]
        assert (401, 200) == (_usage(server, key), _usage(server, rotated))

        # While it runs the newest pages are in the log of the database, afterwards in the database.
        _assert_no_secret(data, server, key, rotated)
        assert 0 == server.stop()
        _assert_no_secret(data, server, key, rotated)


def _assert_no_secret(data: Path, server: Server, *keys: str) -> None:
    kept = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert any(b"a name that is on disk" in content for content in kept.values())
    for key in keys:
        secret = key.split("_", 2)[2].encode()
        assert not [path for path, content in kept.items() if secret in content]
        assert secret.decode() not in server.log()
    operator_secret = server.operator_key.split("_", 2)[2].encode()
    assert ["operator.key"] == [path.name for path, content in kept.items() if operator_secret in content]
