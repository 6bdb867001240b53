"""Waiting for what others do. No test says how fast they are: the machine may be busy."""

import time
from collections.abc import Callable

PATIENCE = 180.0
"""Seconds after which whatever a test waits for is taken not to come."""


def eventually(
    true: Callable[[], bool], *, within: float = PATIENCE, meanwhile: Callable[[], object] = lambda: None
) -> bool:
    """Whether it comes true within that many seconds; returns as soon as it is."""
    until = time.monotonic() + within
    while not true():
        if time.monotonic() > until:
            return False
        meanwhile()
        time.sleep(0.01)
    return True


def wait_until(
    true: Callable[[], bool],
    *,
    what: str = "it",
    within: float = PATIENCE,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Return as soon as it is true; fail with what was waited for."""
    assert eventually(true, within=within, meanwhile=meanwhile), f"waited {within:g} s in vain for {what}"
