"""What tests of the records may ask for."""

from collections.abc import Iterator

import pytest
import redis

from integrations.oracle_commerce.records import Records


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of an empty server; answers are text."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def records(client: redis.Redis) -> Records:
    """The records on an empty server."""
    return Records(client)
