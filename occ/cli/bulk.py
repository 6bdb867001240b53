"""Doing one thing for many merchants: at a capped rate, several at a time, each once, and none stopping the others."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

import redis

from occ.cli.exit_codes import ExitCode
from occ.cli.journal import Journal
from occ.cli.rate import Rate
from occ.cli.result import DONE_BEFORE, FAILED, Result, failed
from occ.cli.selection import Chosen

AT_A_TIME = 80
"""Each is waiting most of the time: for a store, or for the server's disk, which confirms about once a second. Each
holds a connection to the server meanwhile, of which a client has 100."""


class Deed(Protocol):
    """What is to be done for each merchant."""

    def plan(self, chosen: Chosen) -> Result:
        """What would come of it, found out without doing anything."""

    def prepare(self) -> None:
        """Called once before the first is done, if there is one."""

    def do(self, chosen: Chosen) -> Result:
        """Do it; called in threads. What it raises is told as this merchant's failure; redis.RedisError ends all."""

    def was_done(self, chosen: Chosen, since: float) -> bool:
        """Whether the record tells that it has been done since a time of the server's clock."""


class View(Protocol):
    """Shows how far it has come."""

    def show(self, result: Result) -> None:
        """This came of one merchant."""

    def advance(self, examined: int) -> None:
        """So many have been looked at."""


class Bulk:
    """One bulk command at work. `tally`: how many merchants came to which outcome."""

    def __init__(self, deed: Deed, rate: Rate, journal: Journal, view: View) -> None:
        self._deed = deed
        self._rate = rate
        self._journal = journal
        self._view = view
        self._under_way: dict[Future[Result], None] = {}  # in the order of their beginning
        self._prepared = False
        self._exit_codes: set[ExitCode] = set()
        self.tally: Counter[str] = Counter()

    @property
    def exit_code(self) -> ExitCode:
        """OK if nothing failed. The reason if nothing else happened than failing for it, else NEEDS_ATTENTION."""
        if not self.tally[FAILED]:
            return ExitCode.OK
        alone = len(self._exit_codes) == 1 and self.tally[FAILED] == self.tally.total()
        return next(iter(self._exit_codes)) if alone else ExitCode.NEEDS_ATTENTION

    def plan(self, entries: Iterable[Chosen | Result]) -> None:
        """Show what would be done, and do nothing."""
        for entry in entries:
            if isinstance(entry, Result):
                self._tell(entry)
            elif self._journal.is_done(entry.merchant_id):
                self.tally[DONE_BEFORE] += 1
            else:
                self._tell(self._deed.plan(entry))

    def run(self, entries: Iterable[Chosen | Result], examined: Callable[[], int] = lambda: 0) -> None:
        """Do it for each. What has begun is finished and written down, also when we are interrupted meanwhile.

        `examined` tells how many the entries were chosen among so far.
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
            self._tell(entry)
            return
        if self._is_done(entry):
            self.tally[DONE_BEFORE] += 1
            return
        self._wait_for_turn()
        if not self._prepared:
            self._deed.prepare()
            self._prepared = True
        self._rate.begin()
        self._journal.begin(entry.merchant_id, entry.snapshot.now())
        self._under_way[pool.submit(_done, self._deed, entry)] = None

    def _is_done(self, chosen: Chosen) -> bool:
        if self._journal.is_done(chosen.merchant_id):
            return True
        in_doubt_since = self._journal.in_doubt_since(chosen.merchant_id)
        if in_doubt_since is None or not self._deed.was_done(chosen, in_doubt_since):
            return False
        self._journal.end([Result(chosen.merchant_id, DONE_BEFORE, "", chosen.merchant_id)])
        return True

    def _wait_for_turn(self) -> None:
        """Until the rate allows another, and there is room for it; what ends meanwhile is shown at once."""
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
            self._tell(result)
        for future in ended:
            future.result()  # raises what ends it all

    def _tell(self, result: Result) -> None:
        self.tally[result.outcome] += 1
        if result.outcome == FAILED:
            self._exit_codes.add(result.exit_code)
        self._view.show(result)


def _done(deed: Deed, chosen: Chosen) -> Result:
    try:
        return deed.do(chosen)
    except redis.RedisError:
        raise  # not about this merchant
    except Exception as error:  # noqa: BLE001 - a defect of ours at one merchant must not keep the others waiting
        return failed(error, chosen.merchant_id)


def _has_result(future: Future[Result]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
