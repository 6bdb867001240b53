"""`occ status`."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import click

from integrations.connections.record import Connection
from integrations.connections.records import Records, Snapshot
from integrations.connections.status import status_object
from occ.cli.explanation import findings_explained
from occ.cli.facts import attention, colour, facts, registered
from occ.cli.failure import unknown_merchant
from occ.cli.filters import Filters, filter_options
from occ.cli.following import looks
from occ.cli.parameters import any_recorded, json_option
from occ.cli.plain_text import columns, date_and_clock, from_now, one_line
from occ.cli.set_up import records_of, settings_of_what_runs
from occ.cli.views import JsonLines, View, progress_view

_PAGE = 500
_WATCH_ALL_EVERY = 2.0


@click.command("status")
@any_recorded
@filter_options
@click.option("--watch", is_flag=True, help="Go on showing what changes, until Ctrl+C.")
@json_option
def command(
    *,
    merchant: str | None,
    statuses: tuple[str, ...],
    findings: tuple[str, ...],
    hosts: tuple[str, ...],
    watch: bool,
    as_json: bool,
) -> None:
    """Show how connections stand.

    Without MERCHANT: all of them, or those that match, a line each; a store that a merchant has left is MERCHANT@RUN,
    and can be asked for as such. Of several values of one option any will do.

    With --json each connection is one JSON object on a line of its own, and with --watch another one whenever it
    changes. The exit code is 0 whatever the status is; `occ connect --wait` is the command whose exit code tells.
    """
    filters = Filters(statuses, findings, hosts)
    if merchant is not None and filters:
        raise click.UsageError("Name a merchant, or filter all of them; not both.")
    with records_of(settings_of_what_runs()) as records:
        if watch:
            _watch(records, merchant, filters, as_json=as_json)
        elif merchant is not None:
            _show_one(_one(records, merchant), as_json=as_json)
        else:
            _show_all(records.all(page=_PAGE), filters, as_json=as_json)


def _one(records: Records, merchant_id: str) -> Snapshot:
    snapshot = records.load(merchant_id)
    if snapshot.connection is None:
        raise unknown_merchant(merchant_id)
    return snapshot


def _watch(records: Records, merchant_id: str | None, filters: Filters, *, as_json: bool) -> None:
    view: AbstractContextManager[View] = (
        nullcontext(JsonLines()) if as_json else progress_view(as_json=False, single=merchant_id is not None)
    )
    with view as shown:
        if merchant_id is not None:
            for snapshot in looks(lambda: _one(records, merchant_id)):
                shown.show(_connections([snapshot]), snapshot.now())
        else:
            for snapshots in looks(lambda: _matching(records.all(page=_PAGE), filters), every=_WATCH_ALL_EVERY):
                if snapshots:
                    shown.show(_connections(snapshots), snapshots[-1].now())


def _show_one(snapshot: Snapshot, *, as_json: bool) -> None:
    for connection in _connections([snapshot]):
        if as_json:
            click.echo(json.dumps(status_object(connection)))
        else:
            click.echo("\n".join(_described(connection, snapshot.now())))


def _described(connection: Connection, now: float) -> Iterator[str]:
    status = click.style(connection.status, fg=colour(connection.status))
    yield f"{connection.merchant_id} is {status}: run {connection.run}, {one_line(connection.store_url)}"
    due = f", next look {from_now(connection.due_at, now)}" if connection.due_at is not None else ""
    yield f"changed {date_and_clock(connection.updated_at)}{due}"
    yield ""
    rows = [("PART", "STATUS", "ATTEMPTS", "NEXT", "REMARK")]
    rows += [
        (
            fact.subject,
            fact.status,
            str(fact.attempts) if fact.attempts else "",
            fact.when(now),
            fact.remark,
        )
        for fact in facts(connection, now)
    ]
    yield from columns(rows)
    findings = list(findings_explained(connection, now))
    if findings:
        yield ""
        yield from findings


def _show_all(snapshots: Iterable[Snapshot], filters: Filters, *, as_json: bool) -> None:
    """Page by page, for there may be more than fit into memory; what a page holds is shown before the next is read."""
    remaining = iter(snapshots)
    shown = is_any = False
    while page := list(islice(remaining, _PAGE)):
        is_any = True
        connections = _connections(_matching(page, filters))
        if as_json:
            lines: Iterable[str] = (json.dumps(status_object(connection)) for connection in connections)
        else:
            lines = _listed(connections, page[-1].now(), heading=not shown)
        if connections:
            click.echo("\n".join(lines))
        shown = shown or bool(connections)
    if not shown and not as_json:
        click.echo("No connection matches." if is_any else "No connection yet; `occ connect` makes one.", err=True)


def _matching(snapshots: Iterable[Snapshot], filters: Filters) -> list[Snapshot]:
    return [snapshot for snapshot in snapshots if snapshot.connection and filters.match(snapshot.connection)]


def _listed(connections: Sequence[Connection], now: float, *, heading: bool) -> Iterator[str]:
    # Columns of a known width come first: they line up over all pages. Colour would not survive the lining up.
    rows = [("STATUS" + " " * 16, "SLOTS", "NEXT LOOK", "MERCHANT", "ATTENTION")]
    rows += [
        (
            str(connection.status),
            registered(connection),
            from_now(connection.due_at, now).ljust(9),
            connection.merchant_id,
            ", ".join(attention(connection)),
        )
        for connection in connections
    ]
    lines = columns(rows)
    first = next(lines)
    if heading:
        yield first
    yield from lines


def _connections(snapshots: Iterable[Snapshot]) -> list[Connection]:
    return [snapshot.connection for snapshot in snapshots if snapshot.connection is not None]
