"""`occ timeline`."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from integrations.connections.status import iso
from occ.cli.failure import unknown_merchant
from occ.cli.parameters import json_option, last_option, recorded
from occ.cli.plain_text import one_line
from occ.cli.set_up import records_of, settings_of_what_runs
from occ.cli.timeline_svg import timeline_svg

_TOLD_BY_POSITION = ("at", "run", "what", "step", "slot", "attempt", "cause", "detail", "started_at")
_TIMES = ("at", "started_at", "until", "in_order_before")


@click.command("timeline")
@recorded
@last_option(200)
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Draw it as a picture into FILE (- for standard output) instead.",
)
@json_option
def command(*, merchant: str, last: int, svg: Path | None, as_json: bool) -> None:
    """List what happened to a connection, or draw it.

    Oldest first. With --json each entry is one JSON object on a line of its own. The picture has a lane for each step
    and slot, and a bar for each attempt; it holds the merchant id, causes and times, no URL and no key.
    """
    if svg is not None and as_json:
        raise click.UsageError("Draw a picture or print JSON, not both.")
    with records_of(settings_of_what_runs()) as records:
        entries = records.timeline(merchant, count=last)
        if not entries and records.load(merchant).connection is None:
            raise unknown_merchant(merchant)
    if svg is not None:
        _draw(svg, timeline_svg(merchant, entries))
        return
    for entry in entries:
        click.echo(json.dumps(with_times(entry)) if as_json else line_of(entry))


def _draw(file: Path, picture: str) -> None:
    if str(file) == "-":
        click.echo(picture, nl=False)
        return
    try:
        file.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None


def line_of(entry: Mapping[str, object]) -> str:
    """One entry in words, on one line."""
    entry = with_times(entry)
    parts = [str(entry["at"]), f"run {entry.get('run')}", str(entry.get("what"))]
    parts += [str(entry[name]) for name in ("slot",) if name in entry]
    if "attempt" in entry:
        parts.append(f"attempt {entry['attempt']}")
    if "cause" in entry:
        parts.append(f"{entry['cause']} ({entry['detail']})" if "detail" in entry else str(entry["cause"]))
    parts += [f"{name}={_plain(value)}" for name, value in entry.items() if name not in _TOLD_BY_POSITION]
    return "  ".join(map(one_line, parts))


def with_times(entry: Mapping[str, object]) -> dict[str, object]:
    """The entry with its times as ISO 8601 in UTC, not as seconds."""
    times = {name: iso(value) for name, value in entry.items() if name in _TIMES and isinstance(value, int | float)}
    return {**entry, **times}


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
