"""How connections are shown while they change: lines for a file or a pipe, JSON for programs, or a table."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Protocol

import click

from integrations.connections.record import Connection, ConnectionStatus
from integrations.connections.status import status_object
from occ.cli.facts import Fact, facts
from occ.cli.plain_text import clock, clock_near

Write = Callable[[str], None]


class View(Protocol):
    """Takes connections as they are read and shows what has changed."""

    def show(self, connections: Sequence[Connection], now: float) -> None:
        """`now` is the server's time."""


class Lines:
    """One line for every change."""

    def __init__(self, write: Write = click.echo) -> None:
        self._write = write
        self._shown: dict[tuple[str, str], tuple[object, ...]] = {}

    def show(self, connections: Sequence[Connection], now: float) -> None:
        """Work that has not begun is not shown; work in progress only when it ends."""
        for connection in connections:
            for fact in _with_status_last(connection, now):
                place = connection.merchant_id, fact.subject
                news = fact.status, fact.cause, fact.next_attempt_at
                before = self._shown.get(place, ("pending", None, None))
                if news != before and not fact.underway:
                    self._shown[place] = news
                    self._write(f"{clock(now)} {connection.merchant_id} {_line(fact, now)}")


class JsonLines:
    """The status object of a connection, whenever it has changed."""

    def __init__(self, write: Write = click.echo) -> None:
        self._write = write
        self._shown: dict[str, str] = {}

    def show(self, connections: Sequence[Connection], now: float) -> None:  # noqa: ARG002 - times are in the objects
        """One object per line."""
        for connection in connections:
            line = json.dumps(status_object(connection))
            if self._shown.get(connection.merchant_id) != line:
                self._shown[connection.merchant_id] = line
                self._write(line)


class Nothing:
    """For programs that only want the result."""

    def show(self, connections: Sequence[Connection], now: float) -> None:
        """Shows nothing."""


def progress_view(*, as_json: bool, single: bool = True) -> AbstractContextManager[View]:
    """A table on a terminal, else lines. `as_json` keeps standard output free: only a terminal shows progress."""
    if is_shown_live(as_json=as_json):
        from occ.cli.tables import live_view  # noqa: PLC0415 - rich is of no use in a pipe

        return live_view(_stream(as_json=as_json), single=single)
    return nullcontext(Nothing() if as_json else Lines())


def is_shown_live(*, as_json: bool) -> bool:
    """Whether a terminal is watching that can redraw a table."""
    return _stream(as_json=as_json).isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def _stream(*, as_json: bool) -> IO[str]:
    return sys.stderr if as_json else sys.stdout


def _with_status_last(connection: Connection, now: float) -> Iterator[Fact]:
    yield from facts(connection, now)
    before_all = "pending" if connection.status is ConnectionStatus.ONBOARDING else connection.status
    yield Fact("connection", before_all)


def _line(fact: Fact, now: float) -> str:
    subject = "is" if fact.subject == "connection" else f"{fact.subject}:"
    line = f"{subject} {fact.status}"
    if fact.note:
        line += f", {fact.note}"
    if fact.cause is not None and fact.attempts:
        line += f", attempt {fact.attempts}"
    if fact.next_attempt_at is not None:
        line += f", next at {clock_near(fact.next_attempt_at, now)}"
    return f"{line} - {fact.reason}" if fact.reason else line
