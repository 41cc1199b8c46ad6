"""The settings file that all roles of a cluster read: the user's own settings, and where the engines are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fieldpost.cluster import templates, topology
from fieldpost.cluster.plan import Plan, Shard
from fieldpost.settings import Settings

_FILE = "fieldpost.toml"
#: Sections that roles have no use for.
_NOT_THEIRS = ("client", "cluster")
_HEAD = "# Written by `fieldpost cluster up` at every start: change your own settings, not these.\n"


def path(directory: Path) -> Path:
    """Where it lies."""
    return directory / _FILE


def write(directory: Path, plan: Plan, *, own: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes it.

    Args:
        own: the user's settings by section, without what stands at its default.
    """
    templates.write(path(directory), render(sections(directory, plan, own=own)))


def without_defaults(settings: Settings) -> Mapping[str, Mapping[str, Any]]:
    """What of the settings was set, by section."""
    defaults = msgspec.to_builtins(Settings())
    found: dict[str, dict[str, Any]] = {}
    for section, values in msgspec.to_builtins(settings).items():
        changed = {key: value for key, value in values.items() if value != defaults[section][key]}
        if changed:
            found[section] = changed
    return found


def sections(directory: Path, plan: Plan, *, own: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """All sections; where the engines are is the cluster's to say."""
    engines: Mapping[str, Mapping[str, Any]] = {
        "data": {"directory": str(directory / "roles")},
        "broker": {"url": _broker_url(plan)},
        "database": {"shards": _shards(plan.shards)},
        "shared": {"url": "redis-cluster://" + ",".join(node.address for node in plan.redis)},
        "server": {"host": "127.0.0.1"},
    }
    names = [*own, *(name for name in engines if name not in own)]
    return {name: {**own.get(name, {}), **engines.get(name, {})} for name in names if name not in _NOT_THEIRS}


def render(values: Mapping[str, Mapping[str, Any]]) -> str:
    """As TOML; a list of mappings becomes tables."""
    lines = [_HEAD]
    for section, keys in values.items():
        plain = {key: value for key, value in keys.items() if not _is_tables(value)}
        if plain:
            lines += [f"[{section}]", *(f"{key} = {_value(value)}" for key, value in plain.items()), ""]
        for key, tables in keys.items():
            for table in tables if _is_tables(tables) else ():
                lines += [
                    f"[[{section}.{key}]]",
                    *(f"{name} = {_value(value)}" for name, value in table.items()),
                    "",
                ]
    return "\n".join(lines)


def _value(value: object) -> str:
    """As JSON writes it, but for what TOML forbids: surrogates (so no escapes beyond ASCII), and DEL as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _broker_url(plan: Plan) -> str:
    first, *others = plan.rabbitmq
    hosts = "".join(f",127.0.0.1:{node.ports.amqp}" for node in others)
    return first.url.removesuffix("/") + hosts + "/"


def _shards(shards: Sequence[Shard]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for shard, (first, last) in zip(shards, topology.ranges(len(shards)), strict=True):
        found.append(
            {
                "name": shard.name,
                "first": first,
                **({} if last is None else {"last": last}),
                "url": shard.pool.url,
                "replicas": list(shard.pool.server_urls) if len(shard.nodes) > 1 else [],
                "agents": [node.agent_url for node in shard.nodes],
            }
        )
    return found
