"""Settings: defaults, `fieldpost.toml`, then `FIELDPOST_<SECTION>_<KEY>`; the only reader of the environment.

Unknown sections and keys are errors, in the file and in the environment. docs/reference/settings.md lists all of them.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from fieldpost.errors import ConfigError
from fieldpost.messages.texts import SHARD_NAME_PATTERN, in_words

#: At most a year, so that no wait is without end.
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
Count = Annotated[int, msgspec.Meta(ge=1)]
_PREFIX = "FIELDPOST_"


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how the doors listen."""

    host: str = "127.0.0.1"
    #: 0 lets the system choose.
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 5000
    #: How long a stop waits for what is in hand.
    drain_seconds: Seconds = 10.0
    #: Longest `Prefer: wait` and long poll.
    max_wait_seconds: Seconds = 300.0
    #: HTTP calls of one device in hand at once, those that wait included; past them it is answered 429.
    max_calls_per_device: Count = 200


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the embedded engines keep everything."""

    directory: Annotated[str, msgspec.Meta(min_length=1)] = "fieldpost-data"


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker; without a URL it is embedded."""

    #: `amqp://user:password@host:port,host:port/vhost`, every node named.
    url: str = ""


class ShardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One PostgreSQL cluster, which owns the device ids from `first` to `last`."""

    name: Annotated[str, msgspec.Meta(pattern=SHARD_NAME_PATTERN)]
    first: Count = 1
    #: Without one there is no end.
    last: Count | None = None
    #: `postgresql://user:password@host:port/database`; leads to the primary.
    url: Annotated[str, msgspec.Meta(min_length=1)]
    #: The same for each replica that may be read from.
    replicas: tuple[str, ...] = ()
    #: Patroni's addresses, one for each node: `http://host:port`.
    agents: tuple[str, ...] = ()


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The databases; without shards there is one, embedded."""

    shards: tuple[ShardSettings, ...] = ()
    #: Connections of one process to one node at most.
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    #: What one server takes; what this process's pools may open to it together is held against it at the start.
    max_connections: Count = 500
    #: Whether commits wait for a replica: quorum (and go on, loudly, when none is left), wait (until one is back), off.
    synchronous: Literal["quorum", "wait", "off"] = "quorum"
    #: Replicas further behind are not read from.
    lag_seconds: Seconds = 0.1


class SharedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shared state; without a URL it is kept in the process."""

    #: `redis-cluster://host:port,host:port`, or `redis://host:port`.
    url: str = ""


class CredentialSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How doors keep their snapshot of all keys."""

    refresh_seconds: Seconds = 30.0


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the queues; past them intake answers 503."""

    max_requests: Count = 200_000
    max_results: Count = 200_000
    #: Per model and priority; the rest waits in the ledger.
    max_work: Count = 200


class RecordingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Batches of the processor."""

    batch: Count = 200
    #: Undelivered answers larger than this are read from the ledger instead of sent over the bus.
    max_event_bytes: Count = 16_384


class DispatchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dispatcher and the reaper."""

    interval_seconds: Seconds = 0.25
    reap_interval_seconds: Seconds = 1.0
    #: A dispatched request that is in no queue is dispatched again after this time.
    lost_after_seconds: Seconds = 5.0
    lease_seconds: Seconds = 10.0


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the ledger keeps what has ended."""

    #: At least a week, for as long is an idempotency key known.
    delivered_days: Annotated[float, msgspec.Meta(ge=7, le=36_500)] = 30.0
    undelivered_days: Annotated[float, msgspec.Meta(ge=1, le=36_500)] = 30.0
    #: How often it is looked for what is old enough.
    interval_seconds: Seconds = 60.0


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The AI worker."""

    #: Requests in hand at once.
    concurrency: Count = 8
    #: A claim not renewed for this long is given to another worker.
    claim_seconds: Seconds = 15.0
    #: Hard limit of one attempt.
    timeout_seconds: Seconds = 300.0
    max_attempts: Count = 5
    #: Workers a request may kill before it is a dead letter.
    max_deaths: Count = 3
    #: First wait before another attempt; doubles each time.
    retry_seconds: Seconds = 1.0
    max_retry_seconds: Seconds = 60.0


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that answers; without a URL it is the library."""

    #: An OpenAI-compatible server's base URL, or `echo:`.
    url: str = ""
    name: str = ""
    key: str = ""


class LibrarySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The library of documents."""

    #: Give the library's passages to the model at `model.url` as context.
    context: bool = False
    passages: Count = 3
    #: How often the folder is looked through for changes that no event told.
    scan_seconds: Seconds = 5.0


class FolderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The folder door."""

    scan_seconds: Seconds = 1.0
    #: A file is taken when its size and modification time have stood still for this long.
    settle_seconds: Seconds = 1.0
    #: Files in hand at once.
    batch: Count = 1000


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """WebSocket sessions."""

    max_connections: Count = 500
    ping_seconds: Seconds = 25.0
    #: Answers unacknowledged on one connection before the rest waits in the ledger.
    max_unacknowledged: Count = 200
    #: Bytes that wait unsent in all sessions together before nothing more is read for them from the ledger.
    max_unsent_bytes: Count = 256 * 2**20
    #: How often answers that no event announced are looked for.
    sweep_seconds: Seconds = 2.0
    page: Count = 100


class ChatSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Chat completions."""

    timeout_seconds: Seconds = 300.0


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logs on standard error."""

    format: Annotated[str, msgspec.Meta(pattern="^(console|json)$")] = "console"
    level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = "info"


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Spans of what is done for each request."""

    #: A collector's OTLP/HTTP address, `http://host:4318/v1/traces`; without one nobody is told.
    endpoint: str = ""


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What commands and devices use to find the server."""

    url: str = "http://127.0.0.1:5000"
    operator_key: str = ""
    #: A device's key.
    key: str = ""


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `fieldpost cluster up` runs."""

    #: Patroni's environment, a directory; empty for where `make engines` puts it.
    patroni: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them, by section."""

    server: ServerSettings = ServerSettings()
    data: DataSettings = DataSettings()
    broker: BrokerSettings = BrokerSettings()
    database: DatabaseSettings = DatabaseSettings()
    shared: SharedSettings = SharedSettings()
    credentials: CredentialSettings = CredentialSettings()
    queues: QueueSettings = QueueSettings()
    recording: RecordingSettings = RecordingSettings()
    dispatch: DispatchSettings = DispatchSettings()
    retention: RetentionSettings = RetentionSettings()
    worker: WorkerSettings = WorkerSettings()
    model: ModelSettings = ModelSettings()
    library: LibrarySettings = LibrarySettings()
    folder: FolderSettings = FolderSettings()
    hub: HubSettings = HubSettings()
    chat: ChatSettings = ChatSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    client: ClientSettings = ClientSettings()
    cluster: ClusterSettings = ClusterSettings()


#: Environment names that have no section in them.
_SHORT_NAMES = {
    "FIELDPOST_URL": ("client", "url"),
    "FIELDPOST_OPERATOR_KEY": ("client", "operator_key"),
    "FIELDPOST_KEY": ("client", "key"),
    "FIELDPOST_DATA": ("data", "directory"),
    "FIELDPOST_HOST": ("server", "host"),
    "FIELDPOST_PORT": ("server", "port"),
}
#: Names outside the settings: where the file is.
_FILE_VARIABLE = "FIELDPOST_CONFIG"


def load(
    environ: Mapping[str, str] | None = None,
    *,
    file: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Reads all settings; later wins: defaults, file, environment, `overrides` (the command line's).

    Args:
        file: defaults to `FIELDPOST_CONFIG`, then to `./fieldpost.toml` if that is there.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value of the wrong type or not of UTF-8; it names the key.
    """
    variables = os.environ if environ is None else environ  # noqa: TID251
    raw = _read_file(file, variables)
    known = _keys()
    for name, value in sorted(variables.items()):
        if not name.startswith(_PREFIX) or name == _FILE_VARIABLE or name.startswith("FIELDPOST_TEST_"):
            continue
        section, key = _place(name, known)
        _check_text(name, value)
        raw.setdefault(section, {})[key] = value
    for section, values in (overrides or {}).items():
        for key, value in values.items():
            _check_text(f"{section}.{key}", value)
        raw.setdefault(section, {}).update(values)
    return _checked(raw)


def _check_text(name: str, value: object) -> None:
    """Bytes that are no text come from the system as lone surrogates, over which whoever writes them on would stumble."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            # Its own error has the value in it, which may be a key.
            raise ConfigError(f"{name} is not UTF-8") from None


def _checked(raw: Mapping[str, Any], where: str = "") -> Settings:
    try:
        return msgspec.convert(raw, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(where + in_words(str(error)).replace("`$.", "`").replace(" - at `$`", "")) from error


def _read_file(file: Path | None, variables: Mapping[str, str]) -> dict[str, Any]:
    named = file or (Path(variables[_FILE_VARIABLE]) if _FILE_VARIABLE in variables else None)
    path = named or Path("fieldpost.toml")
    if named is None and not path.exists():
        return {}
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    # By itself first, so that the message says where the mistake is.
    _checked(raw, f"{path}: ")
    return raw


def _keys() -> dict[str, tuple[str, str]]:
    names = dict(_SHORT_NAMES)
    for section in msgspec.structs.fields(Settings):
        for field in msgspec.structs.fields(section.type):
            names[f"{_PREFIX}{section.name}_{field.name}".upper()] = (section.name, field.name)
    return names


def _place(name: str, known: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if name not in known:
        raise ConfigError(f"unknown environment variable {name}")
    return known[name]
