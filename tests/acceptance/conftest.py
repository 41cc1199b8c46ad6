"""The two ways to run: scenarios that ask for `server` in both go through one process, and through a whole cluster."""

from collections.abc import Iterator

import pytest

from tests.support.cluster_server import ClusterServer, running_cluster_server

#: Both ways answer alike; what scenarios of one door need of the others' settings is set here for all.
ECHO = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}
HUB_WINDOW, HUB_PAGE = 20, 7


@pytest.fixture(scope="session")
def cluster_server() -> Iterator[ClusterServer]:
    """One cluster for all scenarios, brought up for the first of them."""
    settings = {
        **ECHO,
        "FIELDPOST_HUB_MAX_UNACKNOWLEDGED": str(HUB_WINDOW),
        "FIELDPOST_HUB_PAGE": str(HUB_PAGE),
    }
    with running_cluster_server(settings) as server:
        yield server
