"""The figures as tables: on the screen, and in docs/benchmarks.md with the aims first."""

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.tables import Part, Run

_DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_PACKAGES = ("starlette", "uvicorn", "uvloop", "httptools", "msgspec", "sqlalchemy", "asyncpg", "valkey-glide")
_WIDTH = 120


def show(part: Part) -> None:
    """Prints it."""
    console = Console()
    console.width = max(console.width, _WIDTH)
    for title, header, lines in part.tables:
        table = Table(*header, title=f"{part.title}: {title}", title_justify="left")
        for line in lines:
            table.add_row(*line)
        console.print(table)
    for note in part.notes:
        console.print(note)


def write(parts: Sequence[Part], run: Run) -> Path:
    """Writes it to docs/benchmarks.md."""
    text = [
        "# Benchmarks",
        "",
        "Made by `make bench`; figures of its latest run. Peers are measured in the same run, in turns. Absolute figures",
        "say something of the machine, ratios of Fieldpost.",
        "",
        *(f"- {note}" for note in _machine(run)),
        "",
    ]
    for part in parts:
        text += [f"## {part.title}", ""]
        for title, header, lines in part.tables:
            text += [f"### {part.title}: {title.lower()}", "", _row(header), _row(["---"] * len(header))]
            text += [*map(_row, lines), ""]
        text += [f"### {part.title}: how it was measured", "", *(f"- {note}" for note in part.notes), part.explanation]
    _DOCUMENT.write_text("\n".join(text), encoding="utf-8")
    return _DOCUMENT


def _machine(run: Run) -> Sequence[str]:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return [
        f"{run.cores} cores, {_processor()}, Linux {platform.release().partition('-')[0]}.",
        f"Python {platform.python_version()}, {versions}.",
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
