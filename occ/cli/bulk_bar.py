"""A progress bar on a terminal, with what needs attention above it."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from occ.cli.bulk import View
from occ.cli.result import FAILED, Result


class _Bar:
    def __init__(self, progress: Progress, task: TaskID, beside: View | None) -> None:
        self._progress = progress
        self._task = task
        self._beside = beside
        self._tally: Counter[str] = Counter()

    def show(self, result: Result) -> None:
        self._tally[result.outcome] += 1
        if self._beside is not None:
            self._beside.show(result)
        elif result.outcome == FAILED:
            self._progress.console.print(Text(result.line))
        counts = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in self._tally.most_common())
        self._progress.update(self._task, counts=counts)

    def advance(self, examined: int) -> None:
        self._progress.update(self._task, completed=examined)


@contextmanager
def bulk_bar(title: str, total: int | None, beside: View | None) -> Iterator[View]:
    """A bar on standard error; `beside` shows the results elsewhere, else failures are printed above it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    progress = Progress(
        *columns, TextColumn("{task.fields[counts]}"), console=console, redirect_stdout=False, redirect_stderr=False
    )
    with progress:
        yield _Bar(progress, progress.add_task(title, total=total, counts=""), beside)
