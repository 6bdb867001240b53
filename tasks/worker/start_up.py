"""What a worker checks before it takes work: the server answers, and keeps what it accepts."""

import resource
import sys
import time
from contextlib import suppress

import redis
import structlog

from integrations.server_safety import dangers_of
from tasks.wiring import Wiring

log = structlog.get_logger(__name__)

_ASK_EVERY = 1.0
_MANY_FILES = 10_240


def raise_file_limit() -> None:
    """Have as many files open as the system lets us: each call to a store takes one, and 1,024 are soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    # Some systems say "any number" and take less, such as macOS.
    for limit in (hard, _MANY_FILES):
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return


def await_safe_server(services: Wiring) -> None:
    """Wait for the server, however long it takes; end the process if it is unsafe and that is not allowed."""
    dangers = _dangers_once_it_answers(services)
    if dangers and not services.settings.allow_unsafe_server:
        allowance = "OCC_ALLOW_UNSAFE_SERVER=yes lets it be used all the same, for development."
        sys.exit("\n".join(["This server may forget accepted work:", *(f"  * {one}" for one in dangers), allowance]))
    for danger in dangers:
        log.warning("unsafe_server", danger=danger)


def _dangers_once_it_answers(services: Wiring) -> list[str]:
    waited = False
    while True:
        try:
            return dangers_of(services.redis)
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            log.warning("server_not_checked", error=type(error).__name__)
            return []
        except (redis.ConnectionError, redis.TimeoutError):
            if not waited:
                log.warning("waiting_for_server")
            waited = True
            time.sleep(_ASK_EVERY)
