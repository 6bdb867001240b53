"""`occ events`."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

import click

from integrations.connections.record import ConnectionStatus
from integrations.connections.records import EVENTS, Records
from occ.cli.options import MerchantId, json_option, last_option
from occ.cli.plain_text import one_line
from occ.cli.set_up import records_of, repeatedly, settings_of_what_runs

_PAGE = 1000
_READ_EVERY = 0.5
_POSITION = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?", re.ASCII)
_PREFIX = "occ.connection."
_OTHERS = ("recovered", "drifted", "key_expiring", "reauthorised", "reauthorisation_failed", "store_shared")

EVENT_TYPES = (
    *(f"{_PREFIX}{what}" for what in (*ConnectionStatus, *_OTHERS)),
    "occ.slot.heard",
    "occ.slot.silent",
    "occ.slot.deliveries_failing",
    "occ.slot.deliveries_cleared",
    "occ.request.refused",
    "occ.operator.outage_started",
    "occ.operator.outage_ended",
    "occ.operator.silence_started",
    "occ.operator.silence_ended",
)
"""The types of the contract."""

_NOT_SHOWN = {"merchant_id", "store_url", "run", "status", "previous_status", "findings"}

Entry = tuple[str, dict[str, Any]]
"""The position in the stream, and the event."""


class Position(click.ParamType[str]):
    """The position of an event in the stream, as this command and Redis print it: 1795464352864-0."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails without repeating the value."""
        if not _POSITION.fullmatch(str(value)):
            self.fail("use the stream id of an event, such as 1795464352864-0, or 0 for all", param, ctx)
        return str(value)


class EventType(click.ParamType[str]):
    """A type, in full or by its last part: a misspelt one would silently match nothing."""

    name = "type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails with similar types, without repeating the value."""
        by_name = {full.rpartition(".")[2]: full for full in EVENT_TYPES} | {full: full for full in EVENT_TYPES}
        if (known := by_name.get(str(value))) is not None:
            return known
        alike = get_close_matches(str(value)[:64].rpartition(".")[2], by_name, n=3)
        hint = f"did you mean {' or '.join(alike)}?" if alike else "docs/events.md lists them"
        raise click.BadParameter(f"there is no such event type; {hint}", ctx, param)


@dataclass(frozen=True, slots=True)
class _EventFilter:
    types: tuple[str, ...]
    merchants: tuple[str, ...]

    def match(self, event: Mapping[str, Any]) -> bool:
        return (not self.types or event.get("type") in self.types) and (
            not self.merchants or event.get("subject") in self.merchants
        )


@click.command("events")
@click.option("--follow", is_flag=True, help="Keep printing new events until Ctrl+C.")
@click.option("--after", type=Position(), help="Print all events after this one, instead of the latest; 0: all kept.")
@click.option("--type", "types", type=EventType(), multiple=True, help="Only events of this type, such as degraded.")
@click.option("--merchant", "merchants", type=MerchantId(), multiple=True, help="Only events about this merchant.")
@last_option(20)
@json_option
def events(
    *,
    follow: bool,
    after: str | None,
    types: tuple[str, ...],
    merchants: tuple[str, ...],
    last: int,
    as_json: bool,
) -> None:
    """Print the events that other systems receive.

    Oldest first: the latest --last that match, or all events --after one. With --json, each is a CloudEvent on a line
    of its own; pass its `streamid` to --after to continue from there. Reading takes nothing away from other readers.
    """
    wanted = _EventFilter(types, merchants)
    with records_of(settings_of_what_runs()) as records:
        if after is None:
            found, after = _latest(records, wanted, last)
            _print(found, wanted, as_json=as_json)
        while page := records.events(after=after, count=_PAGE):
            after = _print(page, wanted, as_json=as_json)
        if follow:
            _follow(records, wanted, after, as_json=as_json)


def _follow(records: Records, wanted: _EventFilter, after: str, *, as_json: bool) -> None:
    position = after

    def read() -> list[Entry]:
        return records.events(after=position, count=_PAGE)

    for page in repeatedly(read, every=_READ_EVERY):
        position = _print(page, wanted, as_json=as_json) or position


def _latest(records: Records, wanted: _EventFilter, most: int) -> tuple[list[Entry], str]:
    """The latest that match, oldest first, and where the stream ended; read backwards, page by page."""
    found: list[Entry] = []
    end = ""
    for position, event in _backwards(records):
        end = end or position
        if wanted.match(event):
            found.append((position, event))
            if len(found) >= most:
                break
    return found[::-1], end or "0"


def _backwards(records: Records) -> Iterator[Entry]:
    before = "+"
    while page := cast("list[Any]", records.redis.xrevrange(EVENTS, max=before, count=_PAGE)):
        yield from ((position, json.loads(fields["event"])) for position, fields in page)
        before = f"({page[-1][0]}"


def _print(page: list[Entry], wanted: _EventFilter, *, as_json: bool) -> str:
    """Returns the position of the last; empty if there is none."""
    for position, event in page:
        if wanted.match(event):
            click.echo(json.dumps({**event, "streamid": position}) if as_json else line_of(position, event))
    return page[-1][0] if page else ""


def line_of(position: str, event: Mapping[str, Any]) -> str:
    """One event in words, on one line."""
    data = event.get("data", {})
    about = [f"{finding.get('slot') or 'connection'}: {finding.get('code')}" for finding in data.get("findings", [])]
    about += [f"{name}={json.dumps(value)}" for name, value in data.items() if name not in _NOT_SHOWN]
    parts = [
        *(str(event.get("time", ""))[:19] + "Z", position, str(event.get("subject", ""))),
        str(event.get("type", "")).removeprefix(_PREFIX),
        ", ".join(about),
    ]
    return "  ".join(filter(None, map(one_line, parts)))
