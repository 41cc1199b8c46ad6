"""Where the databases' reads were answered, as metrics: on how many of them a primary was spared."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from fieldpost.ports.ledger_values import Reads


class ReadCounts(Collector):
    """Counts by shard, taken when they are asked for; none where no shard has servers of its own."""

    def __init__(self, reads: Mapping[str, Reads]) -> None:
        self._reads = reads

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See `prometheus_client`."""
        family = CounterMetricFamily(
            "fieldpost_database_reads", "Reads of the databases by where they were answered", labels=["shard", "node"]
        )
        for shard, reads in self._reads.items():
            family.add_metric([shard, "primary"], reads.primary)
            family.add_metric([shard, "replica"], reads.replica)
        yield family
