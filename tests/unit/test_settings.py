"""Settings: where they come from, what is refused, and that the reference names all of them."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fieldpost.errors import ConfigError
from fieldpost.settings import Settings, load

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_nothing_said_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings() == load({})


def test_the_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "fieldpost.toml"
    file.write_text("[worker]\nconcurrency = 2\nmax_attempts = 2\nmax_deaths = 2\n")
    environ = {"FIELDPOST_WORKER_MAX_ATTEMPTS": "7", "FIELDPOST_WORKER_MAX_DEATHS": "7"}

    worker = load(environ, file=file, overrides={"worker": {"max_deaths": 9}}).worker

    assert (2, 7, 9) == (worker.concurrency, worker.max_attempts, worker.max_deaths)
    assert Settings().worker.claim_seconds == worker.claim_seconds


def test_the_file_is_found_where_the_environment_or_the_directory_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fieldpost.toml").write_text("[server]\nport = 6001\n")
    (tmp_path / "other.toml").write_text("[server]\nport = 6002\n")
    monkeypatch.chdir(tmp_path)

    assert 6001 == load({}).server.port
    assert 6002 == load({"FIELDPOST_CONFIG": str(tmp_path / "other.toml")}).server.port


@pytest.mark.parametrize(
    ("name", "value", "section", "key", "expected"),
    [
        ("FIELDPOST_PORT", "0", "server", "port", 0),
        ("FIELDPOST_SERVER_PORT", "65535", "server", "port", 65535),
        ("FIELDPOST_HOST", "::1", "server", "host", "::1"),
        ("FIELDPOST_DATA", "/x", "data", "directory", "/x"),
        ("FIELDPOST_URL", "http://x", "client", "url", "http://x"),
        ("FIELDPOST_OPERATOR_KEY", "k", "client", "operator_key", "k"),
        ("FIELDPOST_KEY", "k", "client", "key", "k"),
        ("FIELDPOST_MODEL_URL", "echo:", "model", "url", "echo:"),
        ("FIELDPOST_MODEL_NAME", "17", "model", "name", "17"),
        ("FIELDPOST_LIBRARY_CONTEXT", "true", "library", "context", True),
        ("FIELDPOST_WORKER_CLAIM_SECONDS", "2.5", "worker", "claim_seconds", 2.5),
    ],
)
def test_the_environment_sets_one_key(name: str, value: str, section: str, key: str, expected: object) -> None:
    assert expected == getattr(getattr(load({name: value}), section), key)


def test_what_is_not_ours_is_left_alone() -> None:
    assert Settings() == load({"PATH": "/bin", "FIELD": "x", "FIELDPOSTER": "y", "FIELDPOST_TEST_SEED": "1"})


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"FIELDPOST_SERVER_PROT": "1"}, "FIELDPOST_SERVER_PROT"),
        ({"FIELDPOST_SERVER": "1"}, "FIELDPOST_SERVER"),
        ({"FIELDPOST_": "1"}, "FIELDPOST_"),
        ({"FIELDPOST_PORT": "many"}, "server.port"),
        ({"FIELDPOST_PORT": "65536"}, "server.port"),
        ({"FIELDPOST_PORT": "-1"}, "server.port"),
        ({"FIELDPOST_DATA": ""}, "data.directory"),
        ({"FIELDPOST_WORKER_CLAIM_SECONDS": "0"}, "worker.claim_seconds"),
        ({"FIELDPOST_WORKER_CLAIM_SECONDS": "nan"}, "worker.claim_seconds"),
        ({"FIELDPOST_WORKER_CLAIM_SECONDS": "inf"}, "worker.claim_seconds"),
        ({"FIELDPOST_WORKER_CONCURRENCY": "1.5"}, "worker.concurrency"),
        ({"FIELDPOST_LIBRARY_CONTEXT": "maybe"}, "library.context"),
        ({"FIELDPOST_LOG_FORMAT": "xml"}, "log.format"),
        ({"FIELDPOST_CONFIG": "/nowhere/fieldpost.toml"}, "/nowhere/fieldpost.toml"),
    ],
)
def test_what_cannot_be_is_refused_by_name(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        load(environ)


@pytest.mark.parametrize(
    "name", ["FIELDPOST_PORT", "FIELDPOST_KEY", "FIELDPOST_DATA", "FIELDPOST_DATABASE_LAG_SECONDS"]
)
def test_a_variable_that_is_not_text_is_refused_by_name_and_not_repeated(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is not UTF-8") as refused:
        load({name: os.fsdecode(b"secret\xff")})

    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_an_option_that_is_not_text_is_refused_by_the_name_of_its_setting() -> None:
    with pytest.raises(ConfigError, match=r"data\.directory is not UTF-8"):
        load({}, overrides={"data": {"directory": os.fsdecode(b"\xff")}})


def test_text_of_any_script_is_taken() -> None:
    assert "/données/数据" == load({"FIELDPOST_DATA": "/données/数据"}).data.directory


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"[server]\nprot = 1\n", "`prot` - at `server`"),
        (b"[sever]\nport = 1\n", "`sever`"),
        (b"port = 1\n", "`port`"),
        (b"[server]\nport = 'many'\n", "server.port"),
        (b"server = 1\n", "server"),
        (b"[server\n", "line 1"),
        (b"\xff", "utf-8"),
    ],
)
def test_what_is_wrong_in_the_file_is_refused_with_the_files_name(tmp_path: Path, content: bytes, named: str) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=re.escape(named)) as refused:
        load({}, file=file)

    assert str(file) in refused.value.detail


def test_a_mistake_does_not_print_a_secret() -> None:
    with pytest.raises(ConfigError) as refused:
        load({"FIELDPOST_KEY": "fp_1_secret", "FIELDPOST_MODEL_KEY": "secret", "FIELDPOST_PORT": "secret"})

    assert "secret" not in str(refused.value)


def test_the_reference_has_every_setting_with_its_default_and_what_it_means() -> None:
    documented = {(section, key): (default, meaning) for section, key, default, meaning in _documented()}
    expected = {
        (section.name, field.name): msgspec.json.encode(field.default).decode()
        for section in msgspec.structs.fields(Settings)
        for field in msgspec.structs.fields(section.type)
    }

    assert expected == {place: default for place, (default, _) in documented.items()}
    assert all(meaning for _, meaning in documented.values())
    assert list(expected) == list(documented)


def test_the_reference_has_every_short_name() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    short = re.findall(r"^\| `(FIELDPOST_\w+)` \| `(\w+)\.(\w+)` \|", text, re.MULTILINE)

    assert 6 == len(short)
    for name, section, key in short:
        value = "1" if key == "port" else "http://x"
        assert value == str(getattr(getattr(load({name: value}), section), key))


def _documented() -> Iterator[tuple[str, str, str, str]]:
    """Section, key, default and meaning of each line of the reference's tables."""
    section = ""
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## `\[(\w+)\]`", line):
            section = heading[1]
        elif (row := re.fullmatch(r"\| `(\w+)` \| `([^`]+)` \| (.*) \|", line)) and section:
            yield section, row[1], row[2], row[3].strip()
