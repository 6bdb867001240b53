"""What every test may ask for. The server is a real one, and ends with the test run however that ends."""

import os
from collections.abc import Iterator

import pytest
import redis

from tasks.local.server import EmbeddedServer


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_the_developers_shell() -> None:
    for name in [name for name in os.environ if name.startswith("OCC_")]:
        del os.environ[name]


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
