"""aio-pika alone: what one process publishes with confirms to a quorum queue; prints one line of JSON.

python -m bench.peers.aio_pika_publishing URL QUEUE PUBLISHERS SECONDS

Publishers wait for their confirm before they publish again, as the gateway's callers wait for their 202.
"""

import asyncio
import json
import sys
import time

import aio_pika
import uvloop

from bench.measuring import WARM_UP_SECONDS, figures

#: As long as what a gateway publishes for the load generator's request.
_BODY = b"x" * 400


async def publish(url: str, queue: str, publishers: int, seconds: float) -> dict[str, float]:
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=True)
    # The same as Fieldpost's queues, but without a bound.
    await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
    exchange = channel.default_exchange
    times: list[float] = []
    counted_from = time.perf_counter() + WARM_UP_SECONDS
    deadline = counted_from + seconds
    cpu_before = 0.0

    async def work() -> None:
        while (started := time.perf_counter()) < deadline:
            message = aio_pika.Message(_BODY, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, queue)
            if started >= counted_from:
                times.append(time.perf_counter() - started)

    tasks = [asyncio.create_task(work()) for _ in range(publishers)]
    await asyncio.sleep(counted_from - time.perf_counter())
    cpu_before = time.process_time()
    await asyncio.gather(*tasks)
    result = figures(times, took=time.perf_counter() - counted_from)
    result["load_cpu_fraction"] = (time.process_time() - cpu_before) / (time.perf_counter() - counted_from)
    await connection.close()
    return result


if __name__ == "__main__":
    url, queue, publishers, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(publish(url, queue, int(publishers), float(seconds)))))
