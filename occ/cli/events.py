"""`occ events`."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import click

from integrations.connections.records import EVENTS, Records
from occ.cli.following import looks
from occ.cli.parameters import MerchantId, json_option, last_option
from occ.cli.plain_text import one_line
from occ.cli.set_up import records_of, settings_of_what_runs

_PAGE = 1000
_LOOK_EVERY = 0.5
_POSITION = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?", re.ASCII)
_PREFIX = "occ.connection."

Told = tuple[str, dict[str, Any]]
"""Where in the stream, and the event."""


class Position(click.ParamType[str]):
    """Where in the stream an event is, as this command and Redis print it: 1795464352864-0."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails without repeating the value."""
        if not _POSITION.fullmatch(str(value)):
            self.fail("use the id of an event in the stream, as 1795464352864-0; 0 is before the first", param, ctx)
        return str(value)


class EventType(click.ParamType[str]):
    """A type, in full or without what all of them begin with."""

    name = "type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails without repeating the value."""
        if not re.fullmatch(r"[a-z_.]{1,64}", str(value)):
            self.fail("use a type of docs/events.md, such as degraded or occ.connection.degraded", param, ctx)
        return str(value) if "." in str(value) else f"{_PREFIX}{value}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    types: tuple[str, ...]
    merchants: tuple[str, ...]

    def match(self, event: Mapping[str, Any]) -> bool:
        return (not self.types or event.get("type") in self.types) and (
            not self.merchants or event.get("subject") in self.merchants
        )


@click.command("events")
@click.option("--follow", is_flag=True, help="Go on with new ones, until Ctrl+C.")
@click.option("--after", type=Position(), help="All that follow this one, instead of the latest; 0: all that are kept.")
@click.option("--type", "types", type=EventType(), multiple=True, help="Only events of this type, such as degraded.")
@click.option("--merchant", "merchants", type=MerchantId(), multiple=True, help="Only events of this merchant.")
@last_option(20)
@json_option
def command(
    *,
    follow: bool,
    after: str | None,
    types: tuple[str, ...],
    merchants: tuple[str, ...],
    last: int,
    as_json: bool,
) -> None:
    """Print the events that other systems read; go on with --follow.

    Oldest first: the latest --last of those that match, or with --after all since then. With --json each is its
    CloudEvent on a line of its own, and `streamid` in it says where to go on --after. Reading takes nothing away from
    other readers.
    """
    wanted = _Wanted(types, merchants)
    with records_of(settings_of_what_runs()) as records:
        if after is None:
            found, after = _latest(records, wanted, last)
            for told in found:
                _say(told, as_json=as_json)
        while page := records.events(after=after, count=_PAGE):
            after = _say_those(page, wanted, as_json=as_json)
        if follow:
            _follow(records, wanted, after, as_json=as_json)


def _follow(records: Records, wanted: _Wanted, after: str, *, as_json: bool) -> None:
    heard_to = after

    def read() -> list[Told]:
        return records.events(after=heard_to, count=_PAGE)

    for page in looks(read, every=_LOOK_EVERY):
        if page:
            heard_to = _say_those(page, wanted, as_json=as_json)


def _say_those(page: list[Told], wanted: _Wanted, *, as_json: bool) -> str:
    """Returns how far this came."""
    for told in page:
        if wanted.match(told[1]):
            _say(told, as_json=as_json)
    return page[-1][0]


def _latest(records: Records, wanted: _Wanted, most: int) -> tuple[list[Told], str]:
    """So many of the latest that match, oldest first, and where the stream ended; read backwards, page by page."""
    found: list[Told] = []
    end = ""
    for position, event in _backwards(records):
        end = end or position
        if wanted.match(event):
            found.append((position, event))
            if len(found) >= most:
                break
    return found[::-1], end or "0"


def _backwards(records: Records) -> Iterator[Told]:
    before = "+"
    while page := cast("list[Any]", records.redis.xrevrange(EVENTS, max=before, count=_PAGE)):
        yield from ((position, json.loads(fields["event"])) for position, fields in page)
        before = f"({page[-1][0]}"


def _say(told: Told, *, as_json: bool) -> None:
    position, event = told
    click.echo(json.dumps({**event, "streamid": position}) if as_json else line_of(position, event))


def line_of(position: str, event: Mapping[str, Any]) -> str:
    """One event in words, on one line."""
    data = event.get("data", {})
    about = [f"{finding.get('slot') or 'connection'}: {finding.get('code')}" for finding in data.get("findings", [])]
    about += [f"{name}={json.dumps(value)}" for name, value in data.items() if name not in _TOLD]
    parts = [
        *(str(event.get("time", ""))[:19] + "Z", position, str(event.get("subject", ""))),
        str(event.get("type", "")).removeprefix(_PREFIX),
        ", ".join(about),
    ]
    return "  ".join(filter(None, map(one_line, parts)))


_TOLD = {"merchant_id", "store_url", "run", "status", "previous_status", "findings"}
