"""Shows a running fleet on a console until cancelled: a live table on a terminal, else a line now and then."""

from rich.console import Console
from rich.live import Live

from fieldpost.clock import Clock
from fieldpost.fleet.fleet import Fleet
from fieldpost.fleet.snapshot import snapshot
from fieldpost.fleet.table import line, live

#: Between two pictures, and between two lines.
_PICTURE_SECONDS = 0.25
_LINE_SECONDS = 1.0


async def show(fleet: Fleet, console: Console, *, clock: Clock) -> None:
    """Runs until cancelled; what is shown last stays."""
    if console.is_terminal:
        await _pictures(fleet, console, clock)
    else:
        await _lines(fleet, console, clock)


async def _pictures(fleet: Fleet, console: Console, clock: Clock) -> None:
    with Live(console=console, auto_refresh=False) as screen:
        try:
            while True:
                screen.update(live(snapshot(fleet)), refresh=True)
                await clock.sleep(_PICTURE_SECONDS)
        finally:
            screen.update(live(snapshot(fleet)), refresh=True)


async def _lines(fleet: Fleet, console: Console, clock: Clock) -> None:
    while True:
        await clock.sleep(_LINE_SECONDS)
        console.print(line(snapshot(fleet)), markup=False, soft_wrap=True)
