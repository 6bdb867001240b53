"""Sessions that call the servers of `wire_servers`, by the names of stores."""

from collections.abc import Iterator

import pytest
import redis
import trustme

from integrations.connections.records import Records
from integrations.egress.session import GuardedSession
from tests.integrations.wire_servers import LOOPBACK, resolve_to


@pytest.fixture(scope="session")
def session() -> Iterator[GuardedSession]:
    """One session for all tests, as there is one per process."""
    session = GuardedSession(dev_stores=LOOPBACK, resolve=resolve_to("127.0.0.1"))
    yield session
    session.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that only `tls_session` trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its certificate in a file."""
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


@pytest.fixture(scope="session")
def tls_session(ca_bundle: str) -> Iterator[GuardedSession]:
    """A session that trusts the test authority too."""
    session = GuardedSession(dev_stores=LOOPBACK, resolve=resolve_to("127.0.0.1"), ca_bundle=ca_bundle)
    yield session
    session.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of an empty server; answers are text."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def records(client: redis.Redis) -> Records:
    """The records on an empty server."""
    return Records(client)
