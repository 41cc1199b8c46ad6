"""Requests whose model is not in the settings (any more): nobody works on them, so somebody has to be told.

They wait: the settings may have been changed by mistake, and then the next start answers them. Their deadline ends them,
like any other. Until then the log and `/ready` name the model.
"""

from collections.abc import Collection, Mapping

from fieldpost.clock import Clock
from fieldpost.observability import get_logger
from fieldpost.ports.ledger import Dispatch

#: How often the ledger is asked.
EVERY_SECONDS = 10.0

log = get_logger()


class MissingModels:
    """One shard's requests that wait for models which are not there."""

    def __init__(self, *, dispatch: Dispatch, clock: Clock, shard: str, models: Collection[str]) -> None:
        self._dispatch = dispatch
        self._clock = clock
        self._shard = shard
        self._models = models
        #: How many requests wait, by model.
        self.waiting: Mapping[str, int] = {}

    async def run(self) -> None:
        """Looks until cancelled; each model is told of once, and again when requests wait for it anew."""
        while True:
            told, self.waiting = self.waiting, await self._dispatch.queued_for_others(self._models)
            for model, requests in self.waiting.items():
                if model not in told:
                    log.warning("model_missing", model=model, shard=self._shard, requests=requests)
            await self._clock.sleep(EVERY_SECONDS)
