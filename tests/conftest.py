"""What every test may ask for. The server is a real one, and ends with the test run however that ends."""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
import structlog

from occ.local.server import EmbeddedServer
from tests.side_by_side import Dispatcher, in_order

# A shell that starts us in the background has us ignore Ctrl+C, and what we start would inherit that.
for _ignorable in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_ignorable) is signal.SIG_IGN:
        signal.signal(_ignorable, signal.default_int_handler if _ignorable == signal.SIGINT else signal.SIG_DFL)

# --hypothesis-profile=NAME, or HYPOTHESIS_PROFILE=NAME: how many examples the laws look at that name no number.
# Machines are noisy: slow examples are no finding. "quick" and "full" look at the same ones each time: what a new draw
# finds is for whoever draws it, not for the next change that comes by, nor for a stranger's first run.
_PROFILES = {"quick": 25, "full": 100, "drawn": 100, "long": 10_000}
for _name, _examples in _PROFILES.items():
    hypothesis.settings.register_profile(
        _name,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        max_examples=_examples,
        derandomize=_name in {"quick", "full"},
    )
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "full"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tests with servers and workers mostly wait, so more of them run side by side than there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if _without_servers(config) else 3 * cores


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where no test of a module would be run, it need not be imported: a third of the time of a quick run."""
    if collection_path.suffix != ".py" or not _without_servers(config):
        return None
    text = collection_path.read_text(encoding="utf-8")
    return re.search(r"^pytestmark = .*\bmark\.(server|end_to_end)\b", text, re.MULTILINE) is not None or None


def _without_servers(config: pytest.Config) -> bool:
    return "not server and not end_to_end" in config.option.markexpr


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Dispatcher:
    """See `side_by_side`."""
    return Dispatcher(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See `side_by_side`. By now they are shuffled."""
    items[:] = in_order(items)


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
