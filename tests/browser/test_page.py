"""The page in a real browser."""

import os
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.server import Server

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=ARGUMENTS
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test when the browser complains: of a script, a policy, a missing file."""
    complaints: list[str] = []
    with browser.new_context(viewport={"width": 390, "height": 800}) as context:
        opened = context.new_page()
        opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        yield opened
    # A key that is refused is a failed call to the browser.
    assert [complaint for complaint in complaints if "401" not in complaint] == []


@pytest.fixture(scope="module")
def device(server: Server) -> Iterator[httpx.Client]:
    with server.device(server.add_device()[1]) as client:
        yield client


def _ask(device: httpx.Client, prompt: str) -> None:
    answer = device.post("/v1/requests", json={"input": {"prompt": prompt}}, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200


def test_it_shows_that_it_runs_and_how_to_begin(server: Server, page: Page) -> None:
    page.goto(server.url)

    page.wait_for_selector(".state.good")
    text = page.inner_text("body")
    assert "running" in text
    assert "library" in text
    assert "fieldpost devices add" in text
    assert f"{server.url}/v1" in text


def test_without_a_key_no_request_is_shown(server: Server, device: httpx.Client, page: Page) -> None:
    _ask(device, "What is the speed limit on motorways?")

    page.goto(server.url)
    page.wait_for_selector(".state.good")

    assert page.is_visible("#unlock")
    assert "speed limit" not in page.inner_text("#requests")


def test_the_key_in_the_address_opens_the_list_and_leaves_the_address(
    server: Server, device: httpx.Client, page: Page
) -> None:
    _ask(device, "How long may a driver rest?")

    page.goto(f"{server.url}/#key={server.operator_key}")
    page.wait_for_selector("text=How long may a driver rest?")

    assert page.url == f"{server.url}/"
    assert page.locator("#requests .status.succeeded").count() >= 1
    assert not page.is_visible("#unlock")


def test_new_requests_appear_by_themselves(server: Server, device: httpx.Client, page: Page) -> None:
    page.goto(f"{server.url}/#key={server.operator_key}")
    page.wait_for_selector(".state.good")

    _ask(device, "Where do I park tonight?")

    page.wait_for_selector("text=Where do I park tonight?")


def test_what_devices_send_is_text_and_never_markup(server: Server, device: httpx.Client, page: Page) -> None:
    _ask(device, "<img src=x onerror=document.title='taken'><b>loud</b>")

    page.goto(f"{server.url}/#key={server.operator_key}")
    page.wait_for_selector("text=<b>loud</b>")

    assert page.locator("#requests img, #requests b").count() == 0
    assert page.title() == "Fieldpost"


def test_a_wrong_key_is_told_and_forgotten(server: Server, page: Page) -> None:
    page.goto(server.url)
    page.fill("#key", "fpa_operator_wrongwrongwrongwrong")
    page.click("#unlock button")

    page.wait_for_selector("#refused:visible")
    assert page.evaluate("sessionStorage.length") == 0


def test_the_key_can_be_typed_and_forgotten(server: Server, device: httpx.Client, page: Page) -> None:
    _ask(device, "How heavy may the load be?")
    page.goto(server.url)
    page.fill("#key", server.operator_key)
    page.click("#unlock button")
    page.wait_for_selector("text=How heavy may the load be?")

    page.click("#forget")

    assert page.is_visible("#unlock")
    assert page.inner_text("#requests") == ""


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_is_wider_than_the_window(server: Server, device: httpx.Client, page: Page, width: int) -> None:
    _ask(device, "word" * 200)
    page.set_viewport_size({"width": width, "height": 800})

    page.goto(f"{server.url}/#key={server.operator_key}")
    page.wait_for_selector("#requests li")

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_scripts_come_only_from_the_server_itself(server: Server) -> None:
    answer = httpx.get(server.url)

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in answer.text.replace(server.url, "")
    assert "https://" not in answer.text
