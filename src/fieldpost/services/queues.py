"""Names of the queues, and their bounds, in one place."""

from collections.abc import Iterable, Sequence

from fieldpost.messages.requests import Priority
from fieldpost.ports.broker import Broker
from fieldpost.settings import QueueSettings

#: In the order in which workers prefer them.
PRIORITIES = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


def requests_queue(shard: str) -> str:
    """Where doors publish the requests of a shard's devices."""
    return f"requests.{shard}"


def results_queue(shard: str) -> str:
    """Where workers publish what attempts of a shard's requests came to."""
    return f"results.{shard}"


def work_queue(model: str, priority: Priority) -> str:
    """Where the dispatcher publishes requests for a model's workers."""
    return f"work.{model}.{priority}"


def all_queues(shards: Iterable[str], models: Iterable[str]) -> Sequence[str]:
    """Every queue there is."""
    names = [name for shard in shards for name in (requests_queue(shard), results_queue(shard))]
    return names + [work_queue(model, priority) for model in models for priority in PRIORITIES]


async def declare_queues(
    broker: Broker, *, shards: Iterable[str], models: Iterable[str], settings: QueueSettings
) -> None:
    """Makes every queue that is not there yet; safe to repeat, every role does it at start."""
    for shard in shards:
        await broker.declare(requests_queue(shard), max_messages=settings.max_requests)
        await broker.declare(results_queue(shard), max_messages=settings.max_results)
    for model in models:
        for priority in PRIORITIES:
            # Redelivered jobs may stand beside fresh ones: twice the dispatcher's own bound never refuses it.
            await broker.declare(work_queue(model, priority), max_messages=2 * settings.max_work)
