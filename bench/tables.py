"""Parts of the report: aims, ratios and figures as tables with a title."""

from collections.abc import Sequence

import msgspec

from bench.measures import Samples, median

#: Title, header, lines.
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that has an aim."""

    what: str
    value: float
    aim: str
    is_met: bool
    unit: str = "×"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """How it was measured."""

    rounds: int
    seconds: float
    cores: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of Fieldpost is told about in the report."""

    title: str
    tables: Sequence[Table]
    notes: Sequence[str]
    #: Markdown.
    explanation: str


def at_least(what: str, value: float, least: float, *, unit: str = "×") -> Aim:
    """A ratio, or another figure, that is to be as much."""
    return Aim(what=what, value=value, aim=f"≥ {_number(least)}", is_met=value >= least, unit=unit)


def below(what: str, value: float, most: float, *, unit: str = "ms") -> Aim:
    """A figure that is to be less."""
    return Aim(what=what, value=value, aim=f"< {most:g}", is_met=value < most, unit=unit)


def judged(aims: Sequence[Aim]) -> Table:
    """Aims as a table."""
    lines = [
        (aim.what, f"{_number(aim.value)} {aim.unit}", f"{aim.aim} {aim.unit}", "met" if aim.is_met else "not met")
        for aim in aims
    ]
    return ("Aims", ["figure", "median", "aim", ""], lines)


def compared(ratios: Sequence[tuple[str, float]]) -> Table:
    """Ratios without an aim as a table."""
    return ("Further ratios", ["figure", "median"], [(what, f"{value:.2f} ×") for what, value in ratios])


def shown(samples: Samples, name: str, figure: str, factor: float, places: int) -> str:
    """A median as it stands in a table; a dash for what was not measured."""
    if figure not in samples[name][0]:
        return "–"
    return f"{factor * median(samples, name, figure):.{places}f}"


def refusals(samples: Samples) -> Sequence[str]:
    """What to say where requests were refused."""
    counts = {name: sum(sample.get("refused", 0) for sample in found) for name, found in samples.items()}
    return [f"{name}: {count:.0f} requests were refused." for name, count in counts.items() if count]


def _number(value: float) -> str:
    """With what places say something."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
