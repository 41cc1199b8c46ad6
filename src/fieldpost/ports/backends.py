"""The bundle of everything a role may reach outside its process, made by wiring."""

from collections.abc import Mapping

import msgspec

from fieldpost.policy.partition import ShardMap
from fieldpost.ports.broker import Broker
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.ports.folders import Folders
from fieldpost.ports.ledger import Ledger
from fieldpost.ports.ledger_values import Reads
from fieldpost.ports.models import Library, Model
from fieldpost.ports.shared import Shared
from fieldpost.ports.tracing import Tracer
from fieldpost.tracing import Untraced


class Backends(msgspec.Struct, frozen=True, kw_only=True):
    """One of each; `ledgers` by shard, `models` by name: those that this process runs, of `model_names` that there are."""

    broker: Broker
    ledgers: Mapping[str, Ledger]
    shards: ShardMap
    #: By shard; none where the database is embedded.
    reads: Mapping[str, Reads] = {}
    devices: DeviceDirectory
    shared: Shared
    folders: Folders
    model_names: tuple[str, ...]
    #: Those that answer in their own words, whatever form or parameters they are told.
    plain_models: frozenset[str] = frozenset()
    models: Mapping[str, Model] = {}
    #: None where no model runs.
    library: Library | None = None
    #: Key of the hashes of all secrets.
    pepper: bytes
    #: Keyed hashes of operators' secrets, by name.
    operators: Mapping[str, bytes]
    tracer: Tracer = msgspec.field(default_factory=Untraced)

    def ledger_of(self, device_id: int) -> Ledger:
        """The ledger of the shard that owns this device."""
        return self.ledgers[self.shards.shard_of(device_id)]
