"""CPU time of other processes."""

import os
import subprocess


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 - a file of the kernel
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except FileNotFoundError:
        text = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
        return sum(float(part) * 60.0**place for place, part in enumerate(reversed(text.strip().split(":"))))
