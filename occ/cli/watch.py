"""`occ watch`."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import click

from integrations.connections.events import TROUBLED
from integrations.connections.record import Connection
from integrations.connections.records import EVENTS, Records, Snapshot
from occ.cli.options import json_option
from occ.cli.set_up import records_of, repeatedly, settings_of_what_runs
from occ.cli.views import JsonLines, Lines, is_shown_live

MOST = 500
"""Follow at most this many; those under way come first."""

_PAGE = 500
_EVENTS_A_READ = 2000
_WALK_FOR = 0.3  # seconds of each read: the first round through very many records takes a while, and shows as it goes
_STAYS = 5.0  # seconds that a connection stays in view once all is well

_READ_EVERY = 1.0  # seconds
_LINES_BESIDE_ROWS = 6


@dataclass(frozen=True, slots=True)
class Overview:
    """What is shown. `walked` of `total` records read in the first round; `is_cut`: some are not followed."""

    connections: Sequence[Connection]
    now: float
    walked: int
    total: int
    is_cut: bool

    @property
    def under_way(self) -> int:
        """How many somebody is waiting for."""
        return sum(map(is_under_way, self.connections))

    @property
    def in_trouble(self) -> int:
        """How many need somebody to act, or time."""
        return sum(connection.status in TROUBLED and not is_under_way(connection) for connection in self.connections)


def is_under_way(connection: Connection) -> bool:
    """Whether somebody waits for how it ends: a run, a new key, a disconnection."""
    disconnecting = connection.disconnection is not None and not connection.disconnected
    return disconnecting or (connection.is_under_way and connection.disconnection is None)


@click.command("watch")
@json_option
def watch(*, as_json: bool) -> None:
    """Watch connections that are in progress or in trouble.

    Until Ctrl+C: on a terminal as a table, those that need attention first; elsewhere a line for each change, or with
    --json the connection's status object. A connection that recovers leaves the table after some seconds.
    """
    with records_of(settings_of_what_runs()) as records:
        overviews = repeatedly(Watcher(records).read, every=_READ_EVERY)
        if not as_json and is_shown_live(as_json=False):
            _show_table(overviews)
        else:
            view = JsonLines() if as_json else Lines()
            for overview in overviews:
                view.show(overview.connections, overview.now)


def _show_table(overviews: Iterator[Overview]) -> None:
    from rich.console import Console  # noqa: PLC0415 - of no use in a pipe
    from rich.live import Live  # noqa: PLC0415

    from occ.cli.tables import overview_table  # noqa: PLC0415

    console = Console(file=sys.stdout)
    with Live(console=console, auto_refresh=False) as live:
        for overview in overviews:
            table = overview_table(overview.connections, overview.now, max(1, console.height - _LINES_BESIDE_ROWS))
            table.caption = caption(overview)
            live.update(table, refresh=True)


def caption(overview: Overview) -> str:
    """The line below the table."""
    counted = f"{overview.under_way} under way, {overview.in_trouble} in trouble"
    if overview.is_cut:
        counted += ", more not shown"
    if overview.walked < overview.total:
        return f"{counted}; {overview.walked:,} of {overview.total:,} connections checked so far"
    return f"{counted}, of {overview.total:,} connections"


class Watcher:
    """Finds the connections that are under way or in trouble, again and again, without reading all of them each time.

    Those it knows are read each time. Others come in by the events, which report every change of status, and by a walk
    through all records, some pages at a time: that finds what was so before, and what no event reports.
    """

    def __init__(
        self, records: Records, *, most: int = MOST, page: int = _PAGE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._records = records
        self._most = most
        self._page = page
        self._clock = clock
        self._shown: dict[str, Connection] = {}
        self._well_since: dict[str, float] = {}
        self._walked_to = ""
        self._walked = 0
        self._is_first_round = True
        self._is_cut = False
        newest = records.redis.xrevrange(EVENTS, count=1)
        self._events_read_to = str(newest[0][0]) if newest else "0-0"

    def read(self) -> Overview:
        """Read what is known, what events report, and a little further. Raises what redis-py raises."""
        now = 0.0
        for snapshots in (*self._load([*self._shown, *self._reported()]), *self._walk()):
            for snapshot in snapshots:
                now = snapshot.now()
                if snapshot.connection is not None:
                    self._update(snapshot.connection)
        self._drop_what_is_well()
        if len(self._shown) > self._most:
            self._is_cut = True
            for merchant_id in sorted(self._shown, key=self._urgency)[self._most :]:
                del self._shown[merchant_id]
        total = self._records.count()
        walked = min(self._walked, total) if self._is_first_round else total
        return Overview(tuple(self._shown.values()), now, walked, total, self._is_cut)

    def _update(self, connection: Connection) -> None:
        merchant_id = connection.merchant_id
        if is_under_way(connection) or connection.status in TROUBLED:
            self._shown[merchant_id] = connection
            self._well_since.pop(merchant_id, None)
        elif merchant_id in self._shown:
            self._shown[merchant_id] = connection
            self._well_since.setdefault(merchant_id, self._clock())

    def _drop_what_is_well(self) -> None:
        for merchant_id, since in list(self._well_since.items()):
            if self._clock() - since >= _STAYS:
                del self._well_since[merchant_id]
                self._shown.pop(merchant_id, None)

    def _urgency(self, merchant_id: str) -> tuple[bool, str]:
        return not is_under_way(self._shown[merchant_id]), merchant_id

    def _reported(self) -> list[str]:
        found: dict[str, None] = {}
        for position, event in self._records.events(after=self._events_read_to, count=_EVENTS_A_READ):
            self._events_read_to = position
            found[str(event.get("data", {}).get("merchant_id", ""))] = None
        return [merchant_id for merchant_id in found if merchant_id and merchant_id not in self._shown]

    def _walk(self) -> Iterator[list[Snapshot]]:
        until = self._clock() + _WALK_FOR
        while True:
            ids = self._records.merchant_ids(after=self._walked_to, count=self._page)
            self._walked_to = ids[-1] if len(ids) == self._page else ""
            if self._is_first_round:
                self._walked += len(ids)
            yield from self._load([merchant_id for merchant_id in ids if merchant_id not in self._shown])
            self._is_first_round = self._is_first_round and bool(self._walked_to)
            if not self._is_first_round or self._clock() >= until:
                return

    def _load(self, ids: Sequence[str]) -> Iterator[list[Snapshot]]:
        for start in range(0, len(ids), self._page):
            yield self._records.load_many(ids[start : start + self._page])
