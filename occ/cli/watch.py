"""`occ watch`."""

import sys
from collections.abc import Iterator

import click

from occ.cli.following import looks
from occ.cli.parameters import json_option
from occ.cli.patrol import Patrol, Sight
from occ.cli.set_up import records_of, settings_of_what_runs
from occ.cli.views import JsonLines, Lines, is_shown_live

_LOOK_EVERY = 1.0


@click.command("watch")
@json_option
def command(*, as_json: bool) -> None:
    """Show what is under way or in trouble, as it changes.

    Until Ctrl+C: on a terminal as a table, those first that need somebody; else a line for each change, and with --json
    the connection's status object. What is well again leaves the table after some seconds.
    """
    with records_of(settings_of_what_runs()) as records:
        patrol = Patrol(records)
        sights = looks(patrol.look, every=_LOOK_EVERY)
        if not as_json and is_shown_live(as_json=False):
            _show_table(sights)
        else:
            view = JsonLines() if as_json else Lines()
            for sight in sights:
                view.show(sight.connections, sight.now)


def _show_table(sights: Iterator[Sight]) -> None:
    from rich.console import Console  # noqa: PLC0415 - of no use in a pipe
    from rich.live import Live  # noqa: PLC0415

    from occ.cli.live_view import overview_table  # noqa: PLC0415

    console = Console(file=sys.stdout)
    with Live(console=console, auto_refresh=False) as live:
        for sight in sights:
            table = overview_table(sight.connections, sight.now, max(1, console.height - _LINES_BESIDE_ROWS))
            table.caption = caption(sight)
            live.update(table, refresh=True)


_LINES_BESIDE_ROWS = 6


def caption(sight: Sight) -> str:
    """What the table says of itself."""
    counted = f"{sight.under_way} under way, {sight.in_trouble} in trouble"
    if sight.is_cut:
        counted += ", and more that are not followed"
    if sight.walked < sight.total:
        return f"{counted}; {sight.walked:,} of {sight.total:,} connections looked at so far"
    return f"{counted}, of {sight.total:,} connections"
