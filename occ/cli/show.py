"""The commands that show connections: `occ status`, `occ explain`, `occ timeline`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path

import click

from integrations.connections.record import Connection
from integrations.connections.records import Records, Snapshot
from integrations.connections.rhythm import Rhythm
from integrations.connections.status import iso, status_object
from integrations.connections.status_index import StatusIndex
from integrations.silence.heard import rhythms_of
from occ.cli.explanation import explained, findings_explained
from occ.cli.facts import attention, colour, facts, registered
from occ.cli.failure import unknown_merchant
from occ.cli.options import Filters, any_recorded, filter_options, json_option, last_option, recorded
from occ.cli.plain_text import columns, date_and_clock, from_now, one_line
from occ.cli.request import last_refusal
from occ.cli.set_up import records_of, repeatedly, settings_of_what_runs
from occ.cli.views import JsonLines, View, progress_view

_PAGE = 500
_WATCH_ALL_EVERY = 2.0
_MOST_FORMER_STORES = 20
_SHOWN_BY_POSITION = ("at", "run", "what", "step", "slot", "attempt", "cause", "detail", "started_at")
_TIMES = ("at", "started_at", "until", "in_order_before", "heard_last", "silent_since", "first_at", "last_at")


@click.command("status")
@any_recorded
@filter_options
@click.option("--watch", is_flag=True, help="Keep showing changes until Ctrl+C.")
@json_option
def status(
    *,
    merchant: str | None,
    statuses: tuple[str, ...],
    findings: tuple[str, ...],
    hosts: tuple[str, ...],
    watch: bool,
    as_json: bool,
) -> None:
    """Show the status of connections.

    Without MERCHANT: all connections, or those that match, a line each. A merchant's former store is listed as
    MERCHANT@RUN, and you can ask for it by that name. If you repeat an option, any of its values matches.

    With --json, each connection is a JSON object on a line of its own; with --watch, another one for every change. The
    exit code is 0 whatever the status is; use `occ connect --wait` for an exit code that depends on it.
    """
    filters = Filters(statuses, findings, hosts)
    if merchant is not None and filters:
        raise click.UsageError("Name a merchant or use filters, not both.")
    with records_of(settings_of_what_runs()) as records:
        if watch:
            _watch(records, merchant, filters, as_json=as_json)
        elif merchant is not None:
            snapshot = _one(records, merchant)
            _show_one(snapshot, rhythms_of(records.redis, [merchant])[0], as_json=as_json)
        else:
            _show_all(records, filters, as_json=as_json)


@click.command("explain")
@recorded
@json_option
def explain(*, merchant: str, as_json: bool) -> None:
    """Explain a connection: what happened, why, and who must act.

    Takes a former store as MERCHANT@RUN. With --json, prints the connection's status object with the text in it as
    `explanation`.
    """
    with records_of(settings_of_what_runs()) as records:
        snapshot = _one(records, merchant)
        timeline = records.timeline(merchant)
        former = _former_stores(records, merchant)
        heard = rhythms_of(records.redis, [merchant])[0]
    for connection in _connections([snapshot]):
        text = "\n".join(explained(connection, snapshot.now(), timeline, former, heard))
        click.echo(json.dumps(status_object(connection, heard) | {"explanation": text}) if as_json else text)


@click.command("timeline")
@recorded
@last_option(200)
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Draw it as a picture into FILE instead (- for standard output).",
)
@json_option
def timeline(*, merchant: str, last: int, svg: Path | None, as_json: bool) -> None:
    """List what happened to a connection, or draw it.

    Oldest first. With --json, each entry is a JSON object on a line of its own. The picture has a row for each step and
    slot, and a bar for each attempt. It contains the merchant id, causes and times, but no URL and no key.
    """
    if svg is not None and as_json:
        raise click.UsageError("Draw a picture or print JSON, not both.")
    with records_of(settings_of_what_runs()) as records:
        entries = records.timeline(merchant, count=last)
        if not entries:
            _one(records, merchant)
    if svg is not None:
        from occ.cli.timeline_svg import timeline_svg  # noqa: PLC0415 - only a picture needs it

        _draw(svg, timeline_svg(merchant, entries))
        return
    for entry in entries:
        click.echo(json.dumps(with_times(entry)) if as_json else line_of(entry))


def _one(records: Records, merchant_id: str) -> Snapshot:
    snapshot = records.load(merchant_id)
    if snapshot.connection is None:
        raise unknown_merchant(merchant_id, last_refusal(records, merchant_id))
    return snapshot


def _watch(records: Records, merchant_id: str | None, filters: Filters, *, as_json: bool) -> None:
    view: AbstractContextManager[View] = (
        nullcontext(JsonLines()) if as_json else progress_view(as_json=False, single=merchant_id is not None)
    )
    with view as shown:
        if merchant_id is not None:
            for snapshot in repeatedly(lambda: _one(records, merchant_id)):
                shown.show(_connections([snapshot]), snapshot.now())
        else:
            index = StatusIndex(records)

            def matching() -> list[Snapshot]:
                return _matching(index.snapshots(filters.statuses, page=_PAGE), filters)

            for snapshots in repeatedly(matching, every=_WATCH_ALL_EVERY):
                if snapshots:
                    shown.show(_connections(snapshots), snapshots[-1].now())


def _show_one(snapshot: Snapshot, heard: Mapping[str, Rhythm], *, as_json: bool) -> None:
    for connection in _connections([snapshot]):
        if as_json:
            click.echo(json.dumps(status_object(connection, heard)))
        else:
            click.echo("\n".join(_described(connection, heard, snapshot.now())))


def _described(connection: Connection, heard: Mapping[str, Rhythm], now: float) -> Iterator[str]:
    status = click.style(connection.status, fg=colour(connection.status))
    yield f"{connection.merchant_id} is {status}: run {connection.run}, {one_line(connection.store_url)}"
    due = f", next check {from_now(connection.due_at, now)}" if connection.due_at is not None else ""
    yield f"last changed {date_and_clock(connection.updated_at)}{due}"
    if connection.request_id:
        yield f"last request {one_line(connection.request_id)}"
    yield ""
    rows = [("SUBJECT", "STATUS", "ATTEMPTS", "NEXT", "REMARK")]
    rows += [
        (fact.subject, fact.status, str(fact.attempts) if fact.attempts else "", fact.when(now), fact.remark)
        for fact in facts(connection, now, heard)
    ]
    yield from columns(rows)
    findings = list(findings_explained(connection, now))
    if findings:
        yield ""
        yield from findings


def _show_all(records: Records, filters: Filters, *, as_json: bool) -> None:
    """Page by page: there may be more than fit into memory. Each page is shown before the next is read."""
    remaining = StatusIndex(records).snapshots(filters.statuses, page=_PAGE)
    shown = False
    while page := list(islice(remaining, _PAGE)):
        connections = _connections(_matching(page, filters))
        if as_json:
            heard = rhythms_of(records.redis, [connection.merchant_id for connection in connections])
            lines: Iterable[str] = (json.dumps(status_object(*both)) for both in zip(connections, heard, strict=True))
        else:
            lines = _listed(connections, page[-1].now(), heading=not shown)
        if connections:
            click.echo("\n".join(lines))
        shown = shown or bool(connections)
    if not shown and not as_json:
        nothing = "No connection matches." if records.count() else "No connections yet; `occ connect` creates one."
        click.echo(nothing, err=True)


def _matching(snapshots: Iterable[Snapshot], filters: Filters) -> list[Snapshot]:
    return [snapshot for snapshot in snapshots if snapshot.connection and filters.match(snapshot.connection)]


def _listed(connections: Sequence[Connection], now: float, *, heading: bool) -> Iterator[str]:
    # Columns of a known width come first: they line up over all pages. Colour would not survive the lining up.
    rows = [("STATUS" + " " * 16, "SLOTS", "NEXT CHECK", "MERCHANT", "ATTENTION")]
    rows += [
        (
            str(connection.status),
            registered(connection),
            from_now(connection.due_at, now),
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


def _former_stores(records: Records, merchant_id: str) -> list[Connection]:
    """The records of the merchant's former stores, the latest last."""
    prefix = f"{merchant_id}@"
    ids = [found for found in records.merchant_ids(after=prefix, count=_MOST_FORMER_STORES) if found.startswith(prefix)]
    former = _connections(records.load_many(ids)) if ids else []
    return sorted(former, key=lambda connection: connection.run)


def _draw(file: Path, picture: str) -> None:
    if str(file) == "-":
        click.echo(picture, nl=False)
        return
    try:
        file.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None


def line_of(entry: Mapping[str, object]) -> str:
    """One entry of a timeline in words, on one line."""
    entry = with_times(entry)
    parts = [str(entry["at"]), f"run {entry.get('run')}", str(entry.get("what"))]
    parts += [str(entry[name]) for name in ("slot",) if name in entry]
    if "attempt" in entry:
        parts.append(f"attempt {entry['attempt']}")
    if "cause" in entry:
        parts.append(f"{entry['cause']} ({entry['detail']})" if "detail" in entry else str(entry["cause"]))
    parts += [f"{name}={_plain(value)}" for name, value in entry.items() if name not in _SHOWN_BY_POSITION]
    return "  ".join(map(one_line, parts))


def with_times(entry: Mapping[str, object]) -> dict[str, object]:
    """The entry with its times as ISO 8601 in UTC, not as seconds."""
    times = {name: iso(value) for name, value in entry.items() if name in _TIMES and isinstance(value, int | float)}
    return {**entry, **times}


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
