"""What a bulk command did for each merchant, and how it is shown: lines, JSON, and a progress bar on a terminal."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import click

from integrations.connections.causes import explain
from integrations.errors import IntegrationError
from occ.cli.failure import ExitCode, describe_failure
from occ.cli.plain_text import one_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

FAILED = "failed"
DONE_BEFORE = "done_before"

# What a summary says of some outcomes, of one merchant and of several; of the others, the outcome itself.
_COUNTED = {
    "nothing_to_ask": ("had nothing to request", "had nothing to request"),
    "asked": ("requested", "requested"),
    "no_log": ("has no log", "have no log"),
    "passed_over": ("skipped", "skipped"),
    "under_way": ("already in progress", "already in progress"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """`who`: the merchant, or the place of what is no merchant id. `exit_code` counts if there is no other result."""

    who: str
    outcome: str
    sentence: str
    merchant_id: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    exit_code: ExitCode = ExitCode.OK

    @property
    def line(self) -> str:
        """For people."""
        if self.merchant_id is None:
            return one_line(f"{self.who.capitalize()} {self.sentence}")
        return one_line(f"{self.who}: {self.sentence}")

    @property
    def object(self) -> dict[str, object]:
        """For programs."""
        return {"merchant_id": self.merchant_id, "outcome": self.outcome, **self.details}


def result(merchant_id: str, outcome: str, sentence: str, **details: object) -> Result:
    """The result for a merchant."""
    return Result(merchant_id, outcome, sentence, merchant_id, details)


def failed(error: Exception, merchant_id: str, **details: object) -> Result:
    """It could not be done for a merchant, for this reason."""
    failure = describe_failure(error)
    remedy, about = str(failure.error["remedy"]), {**details, "error": failure.error}
    return Result(merchant_id, FAILED, remedy, merchant_id, about, ExitCode(failure.exit_code))


def not_a_merchant(error: Exception, where: str, sentence: str) -> Result:
    """What stands at `where` ("argument 3") names no merchant; `sentence` goes on from there."""
    failure = describe_failure(error)
    about = {"where": where, "error": failure.error}
    return Result(where, FAILED, sentence, None, about, ExitCode(failure.exit_code))


def failed_at_store(error: IntegrationError, merchant_id: str, **details: object) -> Result:
    """The store, or our record of it, did not allow it: explained like every cause."""
    explanation = explain(error.code)
    evidence = f"{error.code}, {error.detail}" if error.detail else error.code
    about = {"field": None, "code": error.code, "actor": explanation.actor, "remedy": explanation.sentence}
    sentence = f"{explanation.sentence} [{evidence}]"
    return Result(merchant_id, FAILED, sentence, merchant_id, {**details, "error": about}, ExitCode.NEEDS_ATTENTION)


class ResultView(Protocol):
    """Shows results and progress."""

    def show(self, result: Result) -> None:
        """Show the result for one merchant."""

    def advance(self, examined: int) -> None:
        """So many merchants have been examined."""


class _Lines:
    """A line for each merchant; failures go to standard error."""

    def show(self, result: Result) -> None:
        click.echo(result.line, err=result.outcome == FAILED)

    def advance(self, examined: int) -> None:
        pass


class _JsonLines:
    """An object for each merchant; failures go to standard error too, for people."""

    def show(self, result: Result) -> None:
        click.echo(json.dumps(result.object))
        if result.outcome == FAILED:
            click.echo(result.line, err=True)

    def advance(self, examined: int) -> None:
        pass


class _Bar:
    """A progress bar. `beside` shows the results elsewhere; without it, failures are printed above the bar."""

    def __init__(self, progress: "Progress", task: "TaskID", beside: ResultView | None) -> None:
        self._progress = progress
        self._task = task
        self._beside = beside
        self._tally: Counter[str] = Counter()

    def show(self, result: Result) -> None:
        self._tally[result.outcome] += 1
        if self._beside is not None:
            self._beside.show(result)
        elif result.outcome == FAILED:
            self._progress.console.print(result.line, markup=False, highlight=False, emoji=False)
        self._progress.update(self._task, counts=_counts(self._tally))

    def advance(self, examined: int) -> None:
        self._progress.update(self._task, completed=examined)


@contextmanager
def result_view(title: str, total: int | None, *, as_json: bool, dry_run: bool) -> Iterator[ResultView]:
    """`total`: how many merchants will be examined, None if that is not known."""
    shown: ResultView = _JsonLines() if as_json else _Lines()
    if dry_run or total == 1 or not _is_watched(as_json=as_json):
        yield shown
        return
    from rich.console import Console  # noqa: PLC0415 - of no use in a pipe
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(
        *columns, TextColumn("{task.fields[counts]}"), console=console, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        yield _Bar(progress, progress.add_task(title, total=total, counts=""), shown if as_json else None)


def summary(title: str, tally: Counter[str]) -> str:
    """How many merchants had which outcome: `revalidate: 297 accepted, 2 already in progress, 1 failed`."""
    return f"{title}: {_counts(tally) or 'no merchant matches'}"


def _counts(tally: Counter[str]) -> str:
    return ", ".join(f"{count} {_in_words(outcome, count)}" for outcome, count in tally.most_common())


def _in_words(outcome: str, count: int) -> str:
    one, several = _COUNTED.get(outcome, (outcome.replace("_", " "),) * 2)
    return one if count == 1 else several


def _is_watched(*, as_json: bool) -> bool:
    """Whether a bar disturbs nothing: JSON on the same terminal would be torn by it."""
    if os.environ.get("TERM", "dumb") in {"dumb", "unknown"} or not sys.stderr.isatty():
        return False
    return sys.stdout.isatty() is not as_json
