"""Celery, over the same RabbitMQ with quorum queues and confirms, results in a Redis; prints one line of JSON.

    python -m bench.peers.celery_tasks BROKER RESULTS worker                     works until it is ended
    python -m bench.peers.celery_tasks BROKER RESULTS publish THREADS SECONDS    `delay` again and again
    python -m bench.peers.celery_tasks BROKER RESULTS answered THREADS SECONDS   the same, counting results

Set up as its documentation advises for many short tasks, so that it is as fast as it can be: prefetching many, without
gossip, mingle, heartbeats and events; acknowledged early (its default), where Fieldpost acknowledges what is recorded.
Results are counted in the Redis, and nobody fetches them: fetching them would make it slower, on two cores much slower.
"""

import json
import sys
import threading
import time
from collections.abc import Callable

from celery import Celery  # type: ignore[import-not-found]

from bench.measuring import WARM_UP_SECONDS, figures

_PROMPT = "How long may I drive without a break, and what counts as a break?"
#: Messages a worker has in hand.
_PREFETCH = 256


def answer(prompt: str) -> str:
    """What the echo model does."""
    return prompt


class Peer:
    """One application and its task."""

    def __init__(self, broker: str, results: str) -> None:
        self.app = Celery("bench", broker=broker, backend=results)
        self.app.conf.update(
            task_default_queue_type="quorum",
            broker_transport_options={"confirm_publish": True},
            broker_connection_retry_on_startup=True,
            worker_prefetch_multiplier=_PREFETCH,
            # Nothing is delayed here, so nothing else is to be kept three times.
            broker_native_delayed_delivery_queue_type="classic",
        )
        self._task = self.app.task(answer, name="bench.answer")

    def work(self) -> None:
        options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
        self.app.worker_main(["worker", "--pool=prefork", "--concurrency=1", *options])

    def publish(self, note: Callable[[float], bool]) -> None:
        """Each call returns when the broker has confirmed."""
        started = time.perf_counter()
        while note(started):
            started = time.perf_counter()
            self._task.delay(_PROMPT)

    def results(self) -> int:
        """How many stand in the Redis, which has nothing else."""
        count: int = self.app.backend.client.dbsize()
        return count


def measure(peer: Peer, mode: str, threads: int, seconds: float) -> dict[str, float]:
    times: list[float] = []
    counted_from = time.perf_counter() + WARM_UP_SECONDS
    deadline = counted_from + seconds

    def note(started: float) -> bool:
        now = time.perf_counter()
        if counted_from <= now < deadline:
            times.append(now - started)
        return now < deadline

    running = [threading.Thread(target=peer.publish, args=[note]) for _ in range(threads)]
    for thread in running:
        thread.start()
    time.sleep(max(0.0, counted_from - time.perf_counter()))
    cpu_before, results_before = time.process_time(), peer.results()
    time.sleep(max(0.0, deadline - time.perf_counter()))
    took = time.perf_counter() - counted_from
    result = figures(times, took=took)
    if mode == "answered":
        result = {"per_second": (peer.results() - results_before) / took, "sent_per_second": result["per_second"]}
    result["load_cpu_fraction"] = (time.process_time() - cpu_before) / took
    for thread in running:
        thread.join()
    return result


if __name__ == "__main__":
    broker, results, mode, *rest = sys.argv[1:]
    peer = Peer(broker, results)
    if mode == "worker":
        peer.work()
    else:
        print(json.dumps(measure(peer, mode, int(rest[0]), float(rest[1]))))
