"""How far a replica is behind its primary, again and again; prints one line of JSON.

python -m bench.cluster.lag PRIMARY REPLICA SECONDS

What the primary has written by now is asked for, then the replica until it shows that: the time between is the lag, with
one question's way there and back in it.
"""

import asyncio
import json
import sys
import time

import asyncpg  # type: ignore[import-untyped]
import uvloop

from bench.measuring import WARM_UP_SECONDS, figures

_EVERY_SECONDS = 0.05
#: Between two questions, twice as long each time: a probe that asks all the time slows down what it looks at.
_FIRST_PAUSE_SECONDS = 0.001
_WRITTEN = "SELECT pg_current_wal_insert_lsn()::text"
_IS_REPLAYED = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"


async def measure(primary_url: str, replica_url: str, seconds: float) -> dict[str, float]:
    primary, replica = await asyncpg.connect(primary_url), await asyncpg.connect(replica_url)
    await asyncio.sleep(WARM_UP_SECONDS)
    times: list[float] = []
    started = time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        written = await primary.fetchval(_WRITTEN)
        asked = time.perf_counter()
        pause_seconds = _FIRST_PAUSE_SECONDS
        while not await replica.fetchval(_IS_REPLAYED, written):
            await asyncio.sleep(pause_seconds)
            pause_seconds *= 2
        times.append(time.perf_counter() - asked)
        await asyncio.sleep(max(0.0, now + _EVERY_SECONDS - time.perf_counter()))
    await primary.close()
    await replica.close()
    return figures(times, took=seconds)


if __name__ == "__main__":
    primary, replica, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(measure(primary, replica, float(seconds)))))
