"""Tables on a terminal, redrawn while connections change."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from integrations.connections.record import Connection, ConnectionStatus
from occ.cli.explanation import findings_explained
from occ.cli.facts import attention, colour, facts, registered
from occ.cli.plain_text import from_now, printable

_ORDER = [
    ConnectionStatus.NEEDS_REAUTHORISATION,
    ConnectionStatus.UNREACHABLE,
    ConnectionStatus.DEGRADED,
    ConnectionStatus.ONBOARDING,
    ConnectionStatus.ACTIVE,
    ConnectionStatus.DISCONNECTED,
]
_HEADING_AND_MORE = 6
"""Lines of a screen that hold no row: heading, rules, caption, the cursor."""


class _LiveTable:
    def __init__(self, live: Live, *, single: bool) -> None:
        self._live = live
        self._single = single

    def show(self, connections: Sequence[Connection], now: float) -> None:
        if self._single:
            tables = Group(*(connection_table(connection, now) for connection in connections))
            self._live.update(tables, refresh=True)
        else:
            self._live.update(overview_table(connections, now, self._rows()), refresh=True)

    def _rows(self) -> int:
        return max(1, self._live.console.height - _HEADING_AND_MORE)


@contextmanager
def live_view(stream: IO[str], *, single: bool) -> Iterator[_LiveTable]:
    """A table that follows what it is shown; the last one stays. `single`: each connection in detail."""
    console = Console(file=stream)
    with Live(console=console, auto_refresh=False) as live:
        yield _LiveTable(live, single=single)


def connection_table(connection: Connection, now: float) -> Table:
    """A row for each fact about a connection, its findings beneath. Fits into 80 columns."""
    table = _table("Subject", "Status", "Attempts", "Next", "Remark")
    table.title = Text.assemble(
        _text(f"{connection.merchant_id} is "),
        _status(connection.status),
        _text(f": run {connection.run}, {connection.store_url}"),
    )
    for fact in facts(connection, now):
        attempts = str(fact.attempts) if fact.attempts else ""
        table.add_row(_text(fact.subject), _status(fact.status), attempts, fact.when(now), _text(fact.remark))
    table.caption = _text("\n".join(findings_explained(connection, now)))
    return table


def overview_table(connections: Sequence[Connection], now: float, most: int) -> Table:
    """A row for each connection, those that need attention first; at most `most` rows."""
    table = _table("Merchant", "Status", "Slots", "Next check", "Attention")
    in_order = sorted(connections, key=lambda connection: _ORDER.index(connection.status))
    for connection in in_order[:most]:
        table.add_row(
            _text(connection.merchant_id),
            _status(connection.status),
            registered(connection),
            from_now(connection.due_at, now),
            _text(", ".join(attention(connection))),
        )
    table.caption = f"{len(connections)} connections" + (f", {most} shown" if len(connections) > most else "")
    return table


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.title_style = table.caption_style = ""
    table.title_justify = table.caption_justify = "left"
    for name in names:
        # Names stay whole; remarks take the remaining width.
        table.add_column(name, overflow="fold", no_wrap=name not in {"Remark", "Attention"})
    return table


def _text(text: str) -> Text:
    """Literal text: neither markup nor control characters take effect."""
    return Text(printable(text))


def _status(status: str) -> Text:
    return Text(status, style=colour(status))
