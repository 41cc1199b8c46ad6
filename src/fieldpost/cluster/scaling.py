"""More or fewer processes of a role while a cluster runs: done, or as if it had not been asked for."""

from collections.abc import Sequence

from fieldpost.cluster import bringing_up, plan, state
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.part import Part
from fieldpost.cluster.plan import Instance, Plan
from fieldpost.cluster.state import State
from fieldpost.cluster.watching import Watches
from fieldpost.errors import BackendUnavailableError
from fieldpost.observability import get_logger

log = get_logger()


async def scale(cluster: Cluster, watches: Watches, to: State, *, role: str) -> Sequence[Part]:
    """Goes over to a state with another number of one role's processes; returns the new ones, which may not serve yet.

    What runs is counted, not what was planned: processes that are too many, or missing, are put right too. The state is
    written before anything begins. Whatever goes wrong takes back what was begun, up to the point where the first process
    drains; from there on the new state stays. A cancellation, which comes when all goes down, leaves what was begun to that.

    Raises:
        BackendUnavailableError: the cluster is not up, a new process cannot be started or its last one has not ended yet,
            NGINX does not take note of those that leave, or one of these does not end.
    """
    if not cluster.is_ready:
        raise BackendUnavailableError("the cluster is not up")
    before, planned = cluster.state, _plan(to)
    wanted = {instance.name: instance for instance in planned.instances if instance.role == role}
    if ending := [part.name for part in cluster.parts.values() if part.name in wanted and part.is_stopping]:
        raise BackendUnavailableError(f"{ending[0]} has not ended yet")
    state.write(cluster.directory, to)
    cluster.state, cluster.plan = to, planned
    surplus = [part.name for part in cluster.parts.values() if part.role == role and part.name not in wanted]
    missing = [instance for name, instance in wanted.items() if name not in cluster.parts]
    cluster.leaving.update(surplus)
    try:
        try:
            if surplus:
                await watches.balance()
            begun = await _begin(cluster, missing)
        except BaseException:
            _put_back(cluster, before)
            raise
        await cluster.forget(surplus)
    finally:
        cluster.leaving.difference_update(surplus)
    return begun


def _plan(wanted: State) -> Plan:
    return plan.make(wanted.topology, wanted.ports, peer_host=wanted.peer_host)


def _put_back(cluster: Cluster, before: State) -> None:
    cluster.state, cluster.plan = before, _plan(before)
    try:
        state.write(cluster.directory, before)
    except OSError as error:
        # Whoever asked hears of what went wrong first; the next start begins as many as were wanted.
        log.exception("state_not_put_back", error=repr(error))


async def _begin(cluster: Cluster, instances: Sequence[Instance]) -> Sequence[Part]:
    begun: list[Part] = []
    try:
        for instance in instances:
            part = bringing_up.role_part(cluster, instance)
            begun.append(part)
            await part.start()
            cluster.keep(part)
    except Exception:
        await cluster.forget([part.name for part in begun])
        raise
    return begun
