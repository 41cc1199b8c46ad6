import tomllib
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from fieldpost import settings
from fieldpost.cluster import configuration, plan, topology
from fieldpost.cluster.topology import Size

_names = st.text("abcdefgh_", min_size=1, max_size=8)
_texts = st.text(st.characters(exclude_categories=["Cs"]))
_plain = _texts | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
# Small ones: what may go wrong with many goes wrong with few, and making large ones takes a second each.
_tables = st.lists(
    st.dictionaries(_names, _plain | st.lists(_texts, max_size=3), min_size=1, max_size=3), min_size=1, max_size=3
)
_sections = st.dictionaries(
    _names,
    st.dictionaries(_names, _plain | st.lists(_texts, max_size=3) | _tables, min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


def _plan(size: Size, shards: int = 1) -> plan.Plan:
    chosen = topology.choose(None, size=size, shards=shards)
    ports = {name: 21_000 + number for number, name in enumerate(plan.slots(chosen))}
    return plan.make(chosen, ports, peer_host="127.70.1.1")


def test_roles_can_read_it_and_find_every_engine(tmp_path: Path) -> None:
    planned = _plan(Size.FULL, 2)

    configuration.write(tmp_path, planned, own={})
    loaded = settings.load({}, file=configuration.path(tmp_path))

    assert loaded.broker.url.count(",127.0.0.1:") == 2
    assert loaded.shared.url.count("127.0.0.1:") == 9
    first, second = loaded.database.shards
    assert (first.first, first.last, second.first, second.last) == (1, 999, 1000, None)
    assert first.url == planned.shards[0].pool.url
    assert first.replicas == tuple(planned.shards[0].pool.server_urls)
    assert first.agents == tuple(node.agent_url for node in planned.shards[0].nodes)
    assert loaded.data.directory == str(tmp_path / "roles")


def test_without_replicas_none_are_named() -> None:
    sections = configuration.sections(Path("/x"), _plan(Size.SMALL), own={})

    assert sections["database"]["shards"][0]["replicas"] == []


def test_the_users_own_settings_are_handed_on_but_never_where_the_engines_are() -> None:
    own = configuration.without_defaults(
        settings.load(
            {
                "FIELDPOST_MODEL_URL": 'http://model"\\/',
                "FIELDPOST_WORKER_CONCURRENCY": "3",
                "FIELDPOST_DATA": "/elsewhere",
                "FIELDPOST_KEY": "fp_1_secret",
            }
        )
    )

    written = tomllib.loads(configuration.render(configuration.sections(Path("/x"), _plan(Size.SMALL), own=own)))

    assert written["model"] == {"url": 'http://model"\\/'}
    assert written["worker"] == {"concurrency": 3}
    assert written["data"] == {"directory": "/x/roles"}
    assert "client" not in written
    assert "hub" not in written


@given(_sections)
@example({"data": {"directory": "/srv/🚚/roles"}, "model": {"key": "del \x7f, not \\u007f"}})
def test_what_is_written_is_what_is_read(sections: dict[str, dict[str, Any]]) -> None:
    assert sections == tomllib.loads(configuration.render(sections))
