"""Beat's scheduler: sends each entry when its interval has passed by a clock that nobody can set.

Celery's own remembers the wall-clock time of the last run, in memory and in a file. Set that clock back by two minutes
and nothing is sent for two minutes, a restart included; the tick is what all else waits for. Nothing here needs a
memory: a tick too many is harmless, so beat sends one as soon as it starts.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule

ALIVE = "beat-alive"
"""In the data folder: touched whenever a message was sent. `deploy/image/occ-alive` reads it."""


class SteadyScheduler(Scheduler):
    """Sends entries at fixed intervals of the monotonic clock; keeps no file of last runs.

    Raises ValueError for an entry whose schedule is no plain interval.
    """

    _next_at: dict[str, float]

    def __init__(self, app: Any, *args: Any, schedule_filename: str | None = None, **kwargs: Any) -> None:
        """`schedule_filename`: its folder is where `ALIVE` is kept; no schedule is written."""
        self._alive = Path(schedule_filename or ".").with_name(ALIVE)
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """Read the entries from the settings; all of them are due at once."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self._next_at = dict.fromkeys(self.schedule, time.monotonic())
        for entry in self.schedule.values():
            _interval(entry)

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due; answer with the seconds until the next entry is."""
        now = time.monotonic()
        for name, entry in self.schedule.items():
            if self._next_at[name] <= now:
                # Counted from now on, not from when it was due: after a pause, one message and not a volley.
                self._next_at[name] = now + _interval(entry)
                self.apply_entry(entry, producer=self.producer)
        return max(0.0, min(self._next_at.values(), default=now + 1.0) - time.monotonic())

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002 - as in Celery
        """Send one message, and leave a sign that it was sent."""
        sent = super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        with suppress(OSError):  # a full disk is no reason to stop; whoever watches will look closer
            self._alive.touch()
        return sent

    @property
    def info(self) -> str:
        """What beat prints when it starts."""
        return f"    . entries -> {', '.join(sorted(self.schedule))}"


def _interval(entry: ScheduleEntry) -> float:
    """Seconds between two messages of an entry."""
    every = entry.schedule
    if type(every) is not schedule:  # crontab and others are its children
        raise ValueError(f"beat_schedule: {entry.name} needs a plain interval in seconds")
    return float(every.run_every.total_seconds())  # type: ignore[attr-defined]  # the stubs leave it out
