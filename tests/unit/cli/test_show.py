"""What `fieldpost config` shows of secrets."""

from pathlib import Path

import pytest

from fieldpost.cli import show


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:secret@a:1,b:2/v", "amqp://me:********@a:1,b:2/v"),
        ("amqp://me:se@cr@et@a:1,b:2/v", "amqp://me:********@a:1,b:2/v"),
        ("amqp://me:se,cr/et@a:1,b:2/v", "amqp://me:********@a:1,b:2/v"),
        ("amqp://a:1,b:2/v", "amqp://a:1,b:2/v"),
    ],
)
def test_passwords_in_urls_are_masked_whole_and_nothing_else(
    url: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIELDPOST_BROKER_URL", url)

    show.config()

    assert f'url = "{shown}"\n' in capsys.readouterr().out
