"""Running a bulk command: at a capped rate, several merchants at a time, each once, and none stopping the others."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

import click
import redis

from integrations.settings import load_settings
from occ.cli.bulk.journal import Journal
from occ.cli.bulk.results import DONE_BEFORE, FAILED, Result, ResultView, failed, result_view, summary
from occ.cli.bulk.selection import Chosen, Order, Selection
from occ.cli.failure import ExitCode
from occ.cli.set_up import Installation, environment_of_what_runs, records_of

_EXAMPLES = 3

AT_A_TIME = 80
"""Each is waiting most of the time: for a store, or for the server's disk, which confirms about once a second. Each
holds a connection to the server meanwhile, of which a client has 100."""


def run_bulk(
    title: str,
    order: Order,
    make: Callable[[Installation], "Action"],
    *,
    confirm: Callable[[str], None] | None = None,
) -> ExitCode:
    """Run a bulk command from its options to its exit code.

    `title`: the command with the options that change what it does; a journal of another is refused. `make` creates the
    action. `confirm` is called with the merchants in words before anything is done, and raises to stop it.
    """
    variables = environment_of_what_runs()
    settings = load_settings(variables)
    with (
        records_of(settings) as records,
        Installation(settings, variables) as installation,
        Journal(order.resume, title, read_only=order.dry_run) as journal,
    ):
        selection = order.selection(records)
        if confirm is not None and not order.dry_run:
            _confirm(selection, journal, confirm)
        with result_view(title, selection.total, as_json=order.as_json, dry_run=order.dry_run) as view:
            bulk = Bulk(make(installation), Rate(order.rate), journal, view)
            try:
                if order.dry_run:
                    bulk.plan(selection)
                else:
                    bulk.run(selection, lambda: selection.examined)
            except BaseException:
                _report_the_stop(order)
                raise
    if not order.is_single or order.dry_run:
        sys.stdout.flush()
        click.echo(summary(title, bulk.tally) + (" (dry run: nothing was done)" if order.dry_run else ""), err=True)
    return bulk.exit_code


def _confirm(selection: Selection, journal: Journal, confirm: Callable[[str], None]) -> None:
    """Counts first: you confirm a number, not a pattern."""
    examples: list[str] = []
    count = 0
    for entry in selection:
        if isinstance(entry, Chosen) and not journal.is_done(entry.merchant_id):
            count += 1
            if count <= _EXAMPLES:
                examples.append(entry.merchant_id)
    if count:
        more = f" and {count - len(examples)} more" if count > len(examples) else ""
        confirm(", ".join(examples) + more)


def _report_the_stop(order: Order) -> None:
    if not order.is_single and not order.dry_run:
        again = "run the same command again to continue" if order.resume else "with --resume FILE you could continue"
        click.echo(f"Stopped early; {again}.", err=True)


class Action(Protocol):
    """What a bulk command does for each merchant."""

    def plan(self, chosen: Chosen) -> Result:
        """What doing it would result in, without doing anything."""

    def prepare(self) -> None:
        """Called once before the first merchant, if there is one."""

    def do(self, chosen: Chosen) -> Result:
        """Do it; called in threads. An exception is this merchant's failure; redis.RedisError ends the command."""

    def was_done(self, chosen: Chosen, since: float) -> bool:
        """Whether the record shows that it has been done since a time of the server's clock."""


class Rate:
    """Spaces starts evenly, and never makes up for lost time: no second sees more than its share."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1.0 / per_second
        self._clock = clock
        self.sleep = sleep
        self._next = clock()

    def left(self) -> float:
        """Seconds until something may start; 0 if it may now."""
        return max(0.0, self._next - self._clock())

    def begin(self) -> None:
        """Something starts now."""
        self._next = max(self._next, self._clock()) + self._interval


class Bulk:
    """One bulk command at work. `tally`: how many merchants had which outcome."""

    def __init__(self, action: Action, rate: Rate, journal: Journal, view: ResultView) -> None:
        self._action = action
        self._rate = rate
        self._journal = journal
        self._view = view
        self._under_way: dict[Future[Result], None] = {}  # in the order of their beginning
        self._prepared = False
        self._exit_codes: set[ExitCode] = set()
        self.tally: Counter[str] = Counter()

    @property
    def exit_code(self) -> ExitCode:
        """OK if nothing failed; the one code if all failed with it; else NEEDS_ATTENTION."""
        if not self.tally[FAILED]:
            return ExitCode.OK
        alone = len(self._exit_codes) == 1 and self.tally[FAILED] == self.tally.total()
        return next(iter(self._exit_codes)) if alone else ExitCode.NEEDS_ATTENTION

    def plan(self, entries: Iterable[Chosen | Result]) -> None:
        """Show what would be done, and do nothing."""
        for entry in entries:
            if isinstance(entry, Result):
                self._show(entry)
            elif self._journal.is_done(entry.merchant_id):
                self.tally[DONE_BEFORE] += 1
            else:
                self._show(self._action.plan(entry))

    def run(self, entries: Iterable[Chosen | Result], examined: Callable[[], int] = lambda: 0) -> None:
        """Do it for each. What has begun is finished and written down, even if we are interrupted.

        `examined`: how many merchants the entries were chosen from so far.
        """
        with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="bulk") as pool:
            try:
                for entry in entries:
                    self._take(entry, pool)
                    self._view.advance(examined())
                while self._under_way:
                    self._collect(None)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                self._write_down([future for future in self._under_way if _has_result(future)])
                raise

    def _take(self, entry: Chosen | Result, pool: ThreadPoolExecutor) -> None:
        if isinstance(entry, Result):
            self._show(entry)
            return
        if self._is_done(entry):
            self.tally[DONE_BEFORE] += 1
            return
        self._wait_for_rate()
        if not self._prepared:
            self._action.prepare()
            self._prepared = True
        self._rate.begin()
        self._journal.begin(entry.merchant_id, entry.snapshot.now())
        self._under_way[pool.submit(_done, self._action, entry)] = None

    def _is_done(self, chosen: Chosen) -> bool:
        if self._journal.is_done(chosen.merchant_id):
            return True
        in_doubt_since = self._journal.in_doubt_since(chosen.merchant_id)
        if in_doubt_since is None or not self._action.was_done(chosen, in_doubt_since):
            return False
        self._journal.end([Result(chosen.merchant_id, DONE_BEFORE, "", chosen.merchant_id)])
        return True

    def _wait_for_rate(self) -> None:
        """Until the rate allows another, and there is room for it; results are shown as they come."""
        while len(self._under_way) >= AT_A_TIME:
            self._collect(None)
        while (left := self._rate.left()) > 0:
            self._collect(left)

    def _collect(self, within: float | None) -> None:
        if not self._under_way:
            self._rate.sleep(within or 0.0)
            return
        ended, _ = wait(self._under_way, timeout=within, return_when=FIRST_COMPLETED)
        self._write_down([future for future in self._under_way if future in ended])

    def _write_down(self, ended: Sequence[Future[Result]]) -> None:
        for future in ended:
            del self._under_way[future]
        results = [future.result() for future in ended if _has_result(future)]
        self._journal.end(results)
        for result in results:
            self._show(result)
        for future in ended:
            future.result()  # raises what ends it all

    def _show(self, result: Result) -> None:
        self.tally[result.outcome] += 1
        if result.outcome == FAILED:
            self._exit_codes.add(result.exit_code)
        self._view.show(result)


def _done(action: Action, chosen: Chosen) -> Result:
    try:
        return action.do(chosen)
    except redis.RedisError:
        raise  # not about this merchant
    except Exception as error:  # noqa: BLE001 - a defect at one merchant must not keep the others waiting
        return failed(error, chosen.merchant_id)


def _has_result(future: Future[Result]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
