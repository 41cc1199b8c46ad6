"""The second yardstick: rows into SQLite, as durable as Fieldpost's, with nothing around it.

python -m bench.inserts DIRECTORY ROWS_PER_COMMIT SECONDS
"""

import json
import resource
import sqlite3
import sys
import time
from pathlib import Path

#: As long as the request of the load generator is in the broker's table.
_BODY_BYTES = 250


def insert(directory: Path, rows_per_commit: int, seconds: float) -> dict[str, float]:
    connection = sqlite3.connect(directory / "inserts.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE messages (queue TEXT, id INTEGER, body BLOB, PRIMARY KEY (queue, id)) WITHOUT ROWID"
    )
    body, rows, started = b"x" * _BODY_BYTES, 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO messages VALUES (?, ?, ?)",
            [("requests.shard1", number, body) for number in range(rows, rows + rows_per_commit)],
        )
        connection.execute("COMMIT")
        rows += rows_per_commit
    connection.close()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"per_second": rows / took, "load_cpu_fraction": (usage.ru_utime + usage.ru_stime) / took}


if __name__ == "__main__":
    print(json.dumps(insert(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
