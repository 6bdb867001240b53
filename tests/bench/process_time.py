"""CPU time of other processes, and of the machine."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 - a file of the kernel
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except FileNotFoundError:
        text = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
        return sum(float(part) * 60.0**place for place, part in enumerate(reversed(text.strip().split(":"))))


def cpu_of(pids: Iterable[int]) -> float:
    """The same, of several together."""
    return sum(map(cpu_seconds, pids))


@dataclass(frozen=True, slots=True)
class MachineTime:
    """CPU seconds of all cores together since the machine started: doing something, and altogether."""

    busy: float
    total: float


def machine_time() -> MachineTime | None:
    """What the whole machine has been doing; None where the kernel does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, idle, iowait, irq, softirq, *_ = map(int, stat.read_text(encoding="ascii").split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + irq + softirq
    return MachineTime(busy / ticks, (busy + idle + iowait) / ticks)
