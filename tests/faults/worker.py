"""What the workers of the fault suite run: Celery with our app, and around it what FAULTS_* variables ask for.

    FAULTS_POOL=prefork      the pool (Celery's own --pool=prefork does not override a configured pool)
    FAULTS_CLOCK=300         the worker's wall clock is wrong by so many seconds (its monotonic clock goes on)
    FAULTS_POINTS=1          the worker kills its process where a crash point is armed (see points.py)
    FAULTS_FILES=110         the worker may open so many files
    FAULTS_DEADLY=poison-    work of merchants whose id starts so kills its process; before that, if it starts with
                             request-of-poison-, their request does
    FAULTS_COPIES=3          each task message is sent so many times, the copies at random moments

The clock is set before anything else is imported: `from time import time` keeps what it finds.
"""

# ruff: noqa: PLC0415 - the clock comes first

import os
import sys


def _shift_clock(seconds: float) -> None:
    import datetime as dates
    import time

    real_time, real_time_ns, real = time.time, time.time_ns, dates.datetime

    class Everything(type(real)):  # type: ignore[misc]  # a datetime made by C code is one too
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, real)

    class Shifted(real, metaclass=Everything):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: dates.tzinfo | None = None) -> dates.datetime:
            return real.now(tz) + dates.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> dates.datetime:
            return cls.now(dates.UTC).replace(tzinfo=None)

    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + int(seconds * 1e9)
    dates.datetime = Shifted  # type: ignore[misc]


def main() -> None:
    """`python -m tests.faults.worker ARGUMENTS OF CELERY`."""
    if "FAULTS_CLOCK" in os.environ:
        _shift_clock(float(os.environ["FAULTS_CLOCK"]))
    if "FAULTS_FILES" in os.environ:
        import resource

        most = int(os.environ["FAULTS_FILES"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    from celery.__main__ import main as celery

    from tests.faults import points

    if "FAULTS_POOL" in os.environ:
        from tasks.celery import app

        app.conf.worker_pool = os.environ["FAULTS_POOL"]
    points.wrap(os.environ)
    sys.argv = ["celery", *sys.argv[1:]]
    sys.exit(celery())


if __name__ == "__main__":
    main()
