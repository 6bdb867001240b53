"""How a bulk command shows what it does: a line or a JSON object for each merchant, and a bar on a terminal."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import click

from occ.cli.bulk import View
from occ.cli.result import FAILED, Result


class _Lines:
    """A line for each merchant. What failed goes to standard error, unless there is a list to be complete."""

    def show(self, result: Result) -> None:
        click.echo(result.line, err=result.outcome == FAILED)

    def advance(self, examined: int) -> None:
        pass


class _JsonLines:
    """An object for each merchant; people are told on standard error what failed."""

    def show(self, result: Result) -> None:
        click.echo(json.dumps(result.object))
        if result.outcome == FAILED:
            click.echo(result.line, err=True)

    def advance(self, examined: int) -> None:
        pass


@contextmanager
def bulk_view(title: str, total: int | None, *, as_json: bool, dry_run: bool) -> Iterator[View]:
    """`total`: how many merchants are to be looked at, None if that is not known."""
    shown: View = _JsonLines() if as_json else _Lines()
    if dry_run or total == 1 or not _is_watched(as_json=as_json):
        yield shown
        return
    from occ.cli.bulk_bar import bulk_bar  # noqa: PLC0415 - rich is of no use in a pipe

    with bulk_bar(title, total, shown if as_json else None) as bar:
        yield bar


def summary(title: str, tally: Counter[str]) -> str:
    """How many came to which outcome: `recheck: 297 accepted, 2 under way, 1 failed`."""
    counts = [f"{count} {outcome.replace('_', ' ')}" for outcome, count in tally.most_common()]
    return f"{title}: {', '.join(counts) or 'no merchant matches'}"


def _is_watched(*, as_json: bool) -> bool:
    """Whether a bar disturbs nothing: JSON on the same terminal would be torn by it."""
    if os.environ.get("TERM", "dumb") in {"dumb", "unknown"} or not sys.stderr.isatty():
        return False
    return sys.stdout.isatty() is not as_json
