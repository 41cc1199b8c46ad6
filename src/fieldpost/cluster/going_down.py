"""`fieldpost cluster down`: asks the running cluster to stop, or ends what one that was killed has left."""

from pathlib import Path

from fieldpost.clock import Clock
from fieldpost.cluster import state
from fieldpost.cluster.control import Command, ask
from fieldpost.cluster.leftovers import end_leftovers
from fieldpost.errors import BackendTimeoutError, ConfigError, DataDirectoryInUseError, UnreachableError

_ASK_SECONDS = 10.0
#: Roles drain, then engines stop.
_DOWN_SECONDS = 120.0
_LOOK_SECONDS = 0.1


async def go_down(directory: Path, *, clock: Clock) -> None:
    """Returns when nothing of the cluster runs any more.

    Raises:
        ConfigError: the directory holds no cluster.
        BackendTimeoutError: it takes too long; it goes on stopping.
    """
    if state.read(directory) is None:
        raise ConfigError(f"{directory} holds no cluster")
    deadline = clock.monotonic() + _DOWN_SECONDS
    is_asked = False
    while True:
        try:
            with state.hold(directory):
                await end_leftovers(directory, mark=str(directory), clock=clock)
                return
        except DataDirectoryInUseError:
            is_asked = is_asked or await _ask(directory)
        if clock.monotonic() > deadline:
            raise BackendTimeoutError(f"the cluster on {directory} still runs after {_DOWN_SECONDS:g} s")
        await clock.sleep(_LOOK_SECONDS)


async def _ask(directory: Path) -> bool:
    try:
        await ask(directory, Command(verb="down"), seconds=_ASK_SECONDS)
    except UnreachableError:
        # It has just started, or is stopping already.
        return False
    return True
