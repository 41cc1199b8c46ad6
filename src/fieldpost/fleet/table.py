"""How a running fleet and its summary look: a live table on a terminal, plain lines elsewhere. Fits 80 columns."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fieldpost.fleet.snapshot import Row, Snapshot
from fieldpost.fleet.summary import Latency, Summary

_COLUMNS = ("devices", "away", "sent", "answered", "in flight")


def live(snapshot: Snapshot) -> RenderableType:
    """The table with the latest questions and answers below it."""
    table = Table(box=SIMPLE_HEAD, show_footer=True)
    table.add_column("kind", footer="all")
    table.add_column("door")
    for name in _COLUMNS:
        table.add_column(name, justify="right", footer=str(snapshot.total(name.replace(" ", "_"))))
    for row in snapshot.rows:
        table.add_row(row.kind.value, row.door.value, *_numbers(row))
    headline = Text(f"{_headline(snapshot)}; dropped off and came back {snapshot.reconnects} times", style="bold")
    return Group(headline, table, *_exchanges(snapshot))


def line(snapshot: Snapshot) -> str:
    """The same on one line."""
    total = snapshot.total
    return (
        f"{_headline(snapshot)}: sent {total('sent')}, answered {total('answered')}, "
        f"in flight {total('in_flight')}, away {total('away')}, "
        f"came back {snapshot.reconnects} times"
    )


def closing(summary: Summary) -> RenderableType:
    """The summary, with the verdict last."""
    late = f"; {summary.late} more waited for their device" if summary.late else ""
    heading = Text(f"\nFrom asking to the answer in hand{late}:")
    return Group(*_counts(summary), heading, _latencies(summary), *_faults(summary), _verdict(summary))


def _headline(snapshot: Snapshot) -> str:
    of = f" of {snapshot.seconds:g}" if snapshot.phase == "asking" else ""
    server = "" if snapshot.server_is_up else ", the server is away"
    return f"{snapshot.phase}, {snapshot.elapsed_seconds:.0f}{of} s{server}"


def _numbers(row: Row) -> list[str]:
    away = f"[yellow]{row.away}[/]" if row.away else "0"
    return [str(row.devices), away, str(row.sent), str(row.answered), str(row.in_flight)]


def _exchanges(snapshot: Snapshot) -> list[Text]:
    lines = []
    for exchange in snapshot.latest:
        who = exchange.name.removeprefix("demo ")
        lines.append(_short(Text.assemble((f"{who} ", "bold"), exchange.question)))
        lines.append(_short(Text(f"  {exchange.answer}", style="green")))
    return lines


def _short(text: Text) -> Text:
    """Cut at the terminal's edge instead of wrapped."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _counts(summary: Summary) -> list[Text]:
    failed = f" ({summary.failed} with an error)" if summary.failed else ""
    lines = [
        Text(f"{summary.devices} devices, {summary.seconds:g} s, dropped off and came back {summary.reconnects} times"),
        Text(f"sent        {summary.sent}"),
        Text(f"accepted    {summary.accepted}"),
        Text(f"answered    {summary.answered}{failed}"),
        Text(f"lost        {len(summary.lost)}"),
        Text(f"duplicated  {len(summary.duplicated)}"),
    ]
    lines += [Text(f"refused     {count}: {reason}") for reason, count in summary.refused.items()]
    if summary.unknown:
        lines.append(Text(f"unknown     {summary.unknown}: sent, and nobody said what became of it"))
    return lines


def _latencies(summary: Summary) -> RenderableType:
    table = Table(box=SIMPLE_HEAD)
    for name in ("door", "answers", "p50", "p95", "p99"):
        table.add_column(name, justify="left" if name == "door" else "right")
    for door, latency in summary.latency_seconds.items():
        if latency.count:
            table.add_row(door, *_times(latency))
    return table


def _times(latency: Latency) -> list[str]:
    values = (latency.p50, latency.p95, latency.p99)
    return [str(latency.count), *("" if value is None else f"{value:.3f} s" for value in values)]


def _faults(summary: Summary) -> list[Text]:
    named = (("lost", summary.lost), ("duplicated", summary.duplicated), ("unexpected", summary.unexpected))
    return [Text(f"{what}: {', '.join(ids[:5])}{_more(len(ids) - 5)}", style="red") for what, ids in named if ids]


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _verdict(summary: Summary) -> Text:
    if summary.is_kept:
        return Text("Nothing was lost, nothing was answered twice.", style="bold green")
    if not summary.accepted:
        return Text("Nothing was accepted, so nothing was shown.", style="bold red")
    return Text("A promise was broken.", style="bold red")
