"""What every test may ask for. The server is a real one, and ends with the test run however that ends."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator

import hypothesis
import pytest
import redis
import structlog

from occ.local.server import EmbeddedServer

# A shell that starts us in the background has us ignore Ctrl+C, and what we start would inherit that.
for _ignorable in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_ignorable) is signal.SIG_IGN:
        signal.signal(_ignorable, signal.default_int_handler if _ignorable == signal.SIGINT else signal.SIG_DFL)

# HYPOTHESIS_PROFILE=long: the laws that name no number of examples look at 10,000.
# Machines are noisy: slow examples are no finding.
_SLOW_IS_FINE = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("short", deadline=None, suppress_health_check=_SLOW_IS_FINE)
hypothesis.settings.register_profile("long", deadline=None, suppress_health_check=_SLOW_IS_FINE, max_examples=10_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_the_developers_shell() -> None:
    for name in [name for name in os.environ if name.startswith("OCC_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def _no_log_context_of_another_test() -> None:
    """Steps bind what they are about; in a worker the end of the task clears that."""
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def _no_logging_set_up_by_another_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands that run in the test's own process set up logging for good; a process of their own would end."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One real server for the whole test run, with its append-only file on."""
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def redis_url(server: EmbeddedServer) -> str:
    """The URL of an empty server."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of an empty server; answers are bytes."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
