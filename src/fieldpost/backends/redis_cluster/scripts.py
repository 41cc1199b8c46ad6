"""The scripts that Redis runs, read from their files."""

from importlib import resources

from glide import Script


def load(name: str) -> Script:
    """A script of `lua/`; alive as long as whoever holds it."""
    text = resources.files("fieldpost.backends.redis_cluster").joinpath("lua", f"{name}.lua").read_text("utf-8")
    return Script(text)  # type: ignore[no-untyped-call]
