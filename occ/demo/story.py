"""What the demo says: who takes part, what changes meanwhile, how everybody ended, and what it took."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from integrations.connections.causes import Actor, explain
from integrations.connections.findings import findings_of
from integrations.connections.record import Connection, ConnectionStatus, SlotStatus
from occ.cli.facts import attention, colour, registered
from occ.cli.plain_text import clock, columns
from occ.demo.merchants import LISTED_ONE_BY_ONE, Part
from occ.demo.verdict import Seen

_ONE_BY_ONE = 24
_ACTS = {
    Actor.MERCHANT: "merchant acts",
    Actor.OPERATOR: "operator acts",
    Actor.ORACLE: "Oracle acts",
    Actor.NOBODY: "we keep trying",
}
_CALLS = {
    "login": ("{} login", "{} logins"),
    "shipping_methods": ("{} check of shipping methods", "{} checks of shipping methods"),
    "read_slot": ("{} slot read", "{} slot reads"),
    "write_slot": ("{} slot write", "{} slot writes"),
}


class MerchantLines:
    """A view for files and pipes: a line whenever the status of a connection changes, or what needs attention."""

    def __init__(self, names: Mapping[str, str], say: Callable[[str], None] = click.echo) -> None:
        """`names` are the merchants' names by id."""
        self._names = names
        self._width = max(map(len, names.values()))
        self._said: dict[str, object] = {}
        self._say = say

    def show(self, connections: Sequence[Connection], now: float) -> None:
        """Nothing is said of what goes on as it should."""
        for connection in connections:
            remarks = list(attention(connection))
            if connection.status is ConnectionStatus.ONBOARDING and not remarks:
                continue
            news = connection.status, remarks
            if self._said.get(connection.merchant_id) != news:
                self._said[connection.merchant_id] = news
                name = self._names[connection.merchant_id].ljust(self._width)
                line = f"{clock(now)}  {name}  {connection.status:<21}  {registered(connection)}  {', '.join(remarks)}"
                self._say(line.rstrip())


def opening(parts: Sequence[Part]) -> Iterator[str]:
    """Who takes part."""
    many = f"{len(parts)} merchants" if len(parts) > 1 else "a merchant"
    yield f"Connecting {many} of a simulated Oracle Commerce Cloud."
    yield ""
    alone, crowd = _alone_and_crowd(parts)
    rows = [("MERCHANT", "ITS STORE"), *((part.name, part.store) for part in alone)]
    rows += [(_called(group), store) for store, group in crowd.items()]
    yield from (f"  {line}" for line in columns(rows))


def ending(parts: Sequence[Part], seen: Mapping[str, Seen]) -> Iterator[str]:
    """How everybody ended, a line each; `seen` is by the parts' names. Fits into 100 columns."""
    alone, crowd = _alone_and_crowd(parts)
    rows = [("MERCHANT", "ITS STORE", "HOW IT ENDED")]
    rows += [(part.name, part.store, how_it_ended(part, seen[part.name])) for part in alone]
    for store, group in crowd.items():
        statuses = Counter(_status(seen[part.name]) for part in group)
        ends = [f"{number} {status}" for status, number in statuses.most_common()]
        rows.append((_called(group), store, ", ".join(ends) if len(ends) > 1 else f"{next(iter(statuses))}, all"))
    for line, (_, _, end) in zip(columns(rows), rows, strict=True):
        yield f"  {line.removesuffix(end)}{_coloured(end)}"


def how_it_ended(part: Part, seen: Seen) -> str:
    """Status, why, who must act; or what it took to get there."""
    connection = seen.connection
    if connection is None:
        return _refused(part, seen)
    slots = f", {registered(connection)} slots" if _any_registered(connection) else ""
    if findings_of(connection):
        codes = dict.fromkeys(finding.code for finding in findings_of(connection))
        acts = dict.fromkeys(_ACTS[explain(code).actor] for code in codes)
        return f"{connection.status}{slots}: {', '.join([*codes, *acts])}"
    took = [_counted(seen.waits, "after {} wait", "after {} waits")] if seen.waits else []
    if (tokens := seen.counts.get("tokens_issued", 0)) > 1:
        took.append(f"with {tokens} access tokens")
    if foreign := sum(map(len, part.foreign_urls.values())):
        took.append(f"{foreign - len(seen.counts.get('foreign_urls_lost', []))} of {foreign} foreign URLs kept")
    return ", ".join([f"{connection.status}{slots}", *took])


def totals(parts: Sequence[Part], seen: Mapping[str, Seen], counted: Mapping[str, Any]) -> Iterator[str]:
    """What it took altogether; `counted` are the simulator's totals."""
    calls = [_counted(counted["endpoints"].get(name, 0), *words) for name, words in _CALLS.items()]
    foreign = sum(len(urls) for part in parts for urls in part.foreign_urls.values())
    healthy = [part.name for part in parts if part.is_healthy]
    others = [part.name for part in parts if part.status is ConnectionStatus.UNREACHABLE]
    facts = [
        ("Calls at the stores", ", ".join(calls)),
        ("URLs of others", f"{foreign} in their slots, {len(counted['foreign_urls_lost'])} lost"),
        ("Retry-After", f"undercut {_counted(len(counted['retry_after_undercut']), '{} time', '{} times')}"),
        ("Healthy stores", f"done {_span(healthy, seen)} after their request was taken on"),
    ]
    if others:
        facts.append(("The hanging store", f"given up after {_span(others, seen)}, to be tried again later"))
    yield from (f"  {line}" for line in columns(facts))


def _alone_and_crowd(parts: Sequence[Part]) -> tuple[Sequence[Part], Mapping[str, Sequence[Part]]]:
    """Those to be shown by name, and the others by what their stores do."""
    if len(parts) <= _ONE_BY_ONE:
        return parts, {}
    crowd: dict[str, list[Part]] = {}
    for part in parts[LISTED_ONE_BY_ONE:]:
        crowd.setdefault(part.store, []).append(part)
    return parts[:LISTED_ONE_BY_ONE], crowd


def _called(group: Sequence[Part]) -> str:
    return _counted(len(group), "{} other", "{} others")


def _status(seen: Seen) -> str:
    return seen.connection.status if seen.connection else "refused" if seen.refusal else "missing"


def _coloured(end: str) -> str:
    """With its status in colour; only now, because columns would count colours as letters."""
    word = re.match("[a-z_]*", end)
    status = word[0] if word else ""
    return click.style(status, fg=colour(status)) + end[len(status) :] if status else end


def _refused(part: Part, seen: Seen) -> str:
    if seen.refusal is None:
        return "missing"
    if part.refusal is not None and part.refusal.named in str(seen.refusal["remedy"]):
        return f"refused: use {part.refusal.named}"
    return f"refused: {seen.refusal['code']}"


def _any_registered(connection: Connection) -> bool:
    return any(slot.status is SlotStatus.REGISTERED for slot in connection.slots.values())


def _span(names: Sequence[str], seen: Mapping[str, Seen]) -> str:
    """From the shortest to the longest time between acceptance and outcome."""
    connections = [connection for name in names if (connection := seen[name].connection)]
    took = sorted(connection.updated_at - connection.started_at for connection in connections) or [0.0]
    shortest, longest = f"{took[0]:.1f}", f"{took[-1]:.1f}"
    return f"{longest} s" if shortest == longest else f"{shortest} to {longest} s"


def _counted(number: int, one: str, several: str) -> str:
    return (one if number == 1 else several).format(number)
