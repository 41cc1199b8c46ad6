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
        ('amqp://me:se"cr et@a:1/v', "amqp://me:********@a:1/v"),
        ("amqp://a/v?user=me&password=se@cret", "amqp://a/v?user=me&password=********"),
        ("amqp://a:1/v?x=1&PASSWORD=secret&y=2", "amqp://a:1/v?x=1&PASSWORD=********&y=2"),
        ("amqp://me:secret@a:1/v?%70assword=secret", "amqp://me:********@a:1/v?%70assword=********"),
        ('amqp://a/v?api_token=se"cr et', "amqp://a/v?api_token=********"),
        ("amqp://a:1/v?sslmode=verify-full&sslrootcert=/a.pem", "amqp://a:1/v?sslmode=verify-full&sslrootcert=/a.pem"),
        ("amqp://a:1/v?password=se@cret", "amqp://a:********"),
        ("amqp://me:se?key=cret@a:1/v", "amqp://me:********"),
    ],
)
def test_passwords_in_urls_are_masked_whole_and_nothing_else(
    url: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIELDPOST_BROKER_URL", url)

    show.config()

    assert f'url = "{shown}"\n' in capsys.readouterr().out


def test_passwords_in_urls_of_shards_are_masked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fieldpost.toml").write_text(
        '[[database.shards]]\nname = "shard1"\nurl = "postgresql://a/v?password=secret"\n'
        'replicas = ["postgresql://me:secret@b/v"]\n'
    )

    show.config()

    out = capsys.readouterr().out
    assert '"url": "postgresql://a/v?password=********"' in out
    assert '"replicas": ["postgresql://me:********@b/v"]' in out
    assert "secret" not in out
