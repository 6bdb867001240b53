"""What `occ status` costs whoever waits for it, over few connections and over many: the command as a shell starts it.

The first page is what somebody sees first; of the time until then, the start of Python and the loading of modules are
told apart. Compare with a Python that does nothing, in the same run.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import redis

from integrations.connections.status_index import status_key
from occ.local.processes import PROJECT
from tests.bench.due import SIZES
from tests.bench.resting import Server, ids_of, write_connections

# As __main__ does it, and then gone: how it ends is no part of how it starts.
_MODULES = "import gc, os; gc.set_threshold(100_000); import occ.cli.command_line, occ.cli.show; os._exit(0)"


@dataclass(frozen=True, slots=True)
class Ran:
    """One call: seconds to its first line and to its end, memory in MB, what it asked the server."""

    first_line: float
    end: float
    peak_mb: float
    records_read: int
    round_trips: int
    lines: int


def measure_status(*, sizes: Sequence[int] = SIZES, runs: int) -> dict[str, object]:
    """The figures, by name. Times are medians of so many runs, but for what reads everything, which runs once."""
    figures: dict[str, object] = {}
    for size in sizes:
        server = Server()
        with server as (client, counted):
            write_connections(client, size)
            call = _Call(server.url, counted)
            nothings: list[float] = []
            starts: list[float] = []
            pages: list[Ran] = []
            for _ in range(runs):  # by turns: the machine is not equally busy all the time
                nothings.append(_timed([sys.executable, "-c", "pass"]))
                starts.append(_timed([sys.executable, "-c", _MODULES]))
                pages.append(call.until_first_page())
            nothing, modules = statistics.median(nothings), statistics.median(starts)
            first = statistics.median(ran.first_line for ran in pages)
            figures[f"{size}_python_that_does_nothing_ms"] = _ms(nothing)
            figures[f"{size}_modules_loaded_ms"] = _ms(modules)
            figures[f"{size}_first_page_ms"] = _ms(first)
            figures[f"{size}_first_page_without_start_ms"] = _ms(first - modules)
            figures[f"{size}_first_page_to_python_that_does_nothing"] = round(first / nothing, 1)
            figures[f"{size}_first_page_peak_mb"] = round(max(ran.peak_mb for ran in pages), 1)
            figures[f"{size}_first_page_round_trips"] = max(ran.round_trips for ran in pages)
            last = f"ccadmin-{size - 1}.oracleoutsourcing.com"
            figures |= _figures(f"{size}_all", call.to_the_end())
            figures |= _figures(f"{size}_one_merchant", call.to_the_end(ids_of(size)[-1]))
            figures |= _figures(f"{size}_filter_that_the_last_one_matches", call.to_the_end("--host", last))
            client.zrem(status_key("active"), ids_of(size)[-1])  # as if it had another status
            client.zadd(status_key("degraded"), {ids_of(size)[-1]: 0})
            figures |= _figures(f"{size}_status_that_one_has", call.to_the_end("--status", "degraded"))
    return figures


class _Call:
    """`occ status` on one server."""

    def __init__(self, url: str, counted: redis.Redis) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OCC_")},
            "OCC_REDIS_URL": url,
            "PYTHONPATH": str(PROJECT),
        }
        self._counted = counted

    def until_first_page(self) -> Ran:
        """Through `head -1`, as it were: it is left alone as soon as it has said something."""
        return self._run([], to_the_end=False)

    def to_the_end(self, *arguments: str) -> Ran:
        """Everything it has to say."""
        return self._run(arguments, to_the_end=True)

    def _run(self, arguments: Sequence[str], *, to_the_end: bool) -> Ran:
        before, began = self._asked(), time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "occ.cli", "status", *arguments],
            stdout=subprocess.PIPE,
            env=self._environment,
        )
        assert process.stdout is not None
        with process.stdout as output:
            lines = len(output.readline().splitlines())
            first_line, peak = time.perf_counter() - began, _peak_mb(process.pid)
            if to_the_end:
                for line in output:
                    lines += len(line.splitlines())
                    if lines % 1000 == 0:
                        peak = max(peak, _peak_mb(process.pid))
        if process.wait() != 0 and to_the_end:
            raise RuntimeError(f"occ status ended with {process.returncode}")
        after = self._asked()
        asked = {name: count - before.get(name, 0) for name, count in after.items()}
        # Each page is one ZRANGE, and one pipeline that begins with TIME; and a PING, and what it says first.
        trips = asked.get("zrange", 0) + asked.get("time", 0) + asked.get("ping", 0) + 1
        return Ran(
            first_line,
            time.perf_counter() - began,
            peak,
            asked.get("hmget", 0),
            trips,
            lines,
        )

    def _asked(self) -> Mapping[str, int]:
        stats = self._counted.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}


def _peak_mb(pid: int) -> float:
    """The most memory a running process had so far; 0 where the kernel does not tell, or it has ended.

    Not as `wait` tells it: that counts what its parent had when it was forked.
    """
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as told:  # noqa: PTH123
        for line in told:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1e3
    return 0.0


def _timed(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=PROJECT)
    return time.perf_counter() - began


def _figures(name: str, ran: Ran) -> dict[str, object]:
    return {
        f"{name}_ms": _ms(ran.end),
        f"{name}_peak_mb": round(ran.peak_mb, 1),
        f"{name}_records_read": ran.records_read,
        f"{name}_round_trips": ran.round_trips,
        f"{name}_lines": ran.lines,
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
