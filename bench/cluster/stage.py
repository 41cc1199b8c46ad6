"""The real engines, one of each, and Fieldpost's settings over them; a broker without messages for every measure."""

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.processes import cpu_seconds
from fieldpost.cluster.child import Child
from fieldpost.cluster.configuration import render
from fieldpost.cluster.processes import descendants
from tests.support.engines import Engines, RabbitMQ, Redis, ReplicatedPostgreSQL, SingleRedis, engines

#: Nothing is to be refused for being much.
_MANY = 10_000_000


class Stage:
    """What runs during all measures."""

    def __init__(self, place: Engines, directory: Path) -> None:
        #: Where all roles keep keys and folders.
        self.directory = directory
        #: A file with the keys of some devices, one a line.
        self.keys = directory / "keys"
        self._rabbitmq = RabbitMQ(place)
        self._redis = Redis(place)
        self._postgresql = ReplicatedPostgreSQL(place, is_durable=True)
        self._results = SingleRedis(place)
        self._postgresql.new_database()

    def empty_broker(self) -> str:
        """The broker's URL, with nothing in it."""
        return self._rabbitmq.empty_url()

    @property
    def results_url(self) -> str:
        """The Redis that is no cluster, for Celery's results."""
        return f"{self._results.url}/0"

    @property
    def databases(self) -> Sequence[str]:
        """The primary's URL and the replica's."""
        return self._postgresql.urls

    def configure(self) -> Path:
        """Fieldpost's settings over an empty broker."""
        primary, *replicas = self._postgresql.urls
        sections: Mapping[str, Mapping[str, object]] = {
            "data": {"directory": str(self.directory)},
            "broker": {"url": self.empty_broker()},
            "database": {"shards": [{"name": "shard1", "first": 1, "url": primary, "replicas": replicas}]},
            "shared": {"url": self._redis.url},
            "model": {"url": "echo:", "name": "echo"},
            # For a model that takes no time; it bounds how many are claimed at once, as prefetching does for Celery.
            "worker": {"concurrency": 64},
            "queues": {"max_requests": _MANY, "max_results": _MANY},
            "log": {"format": "json", "level": "info"},
        }
        file = self.directory / f"{uuid.uuid4().hex}.toml"
        file.write_text(render(sections), encoding="utf-8")
        return file

    def cpu_seconds(self) -> dict[str, float]:
        """What each engine has used so far."""
        return {
            "RabbitMQ": _used(self._rabbitmq.children.values()),
            "PostgreSQL": _used(self._postgresql.children),
            "Redis": _used([*self._redis.children.values(), self._results.child]),
        }


@contextmanager
def stage() -> Iterator[Stage]:
    """The engines, running; gone at the end."""
    with engines() as place, tempfile.TemporaryDirectory(prefix="fieldpost-bench-") as directory:
        yield Stage(place, Path(directory))


def used(pid: int) -> float:
    """CPU seconds of a process and all below it."""
    seconds = 0.0
    for each in (pid, *descendants(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):
            seconds += cpu_seconds(each)
    return seconds


def _used(children: Iterable[Child]) -> float:
    return sum(used(child.pid) for child in children if child.pid is not None)
