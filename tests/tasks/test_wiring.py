"""The parts put together: a key goes only to hosts that are allowed now, whatever the record says."""

import dataclasses

import pytest

from integrations.connections.record import Connection, Credential, Step
from integrations.connections.records import Snapshot
from integrations.egress.deadline import Deadline
from integrations.errors import PermanentError
from integrations.sealing.keyring import SealingKey
from integrations.settings import load_settings
from tasks.wiring import Wiring

CONNECTION = Connection(
    merchant_id="m-1",
    store_url="https://ccadmin-z1a2.oracleoutsourcing.com",
    run=1,
    started_at=0,
    updated_at=0,
    credential=Credential("f"),
    step=Step.VALIDATE_KEY,
    work=None,
)


def wiring(**settings: str) -> Wiring:
    needed = {
        "OCC_REDIS_URL": "redis://127.0.0.1:1/0",
        "OCC_SEALING_KEYS": SealingKey.generate().export(),
        "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
    }
    return Wiring(load_settings(needed | settings))


def ask_for_store(services: Wiring, store_url: str) -> None:
    connection = dataclasses.replace(CONNECTION, store_url=store_url)
    services.store(Snapshot(connection, 1, "sealed", None, 0.0, 0.0), connection, Deadline.after(1))


def test_the_store_of_a_record_is_called_where_its_host_is_allowed() -> None:
    ask_for_store(wiring(), CONNECTION.store_url)
    ask_for_store(wiring(OCC_ALLOWED_HOSTS="*.shops.example.com"), "https://a.shops.example.com")


@pytest.mark.parametrize(
    "store_url",
    [
        "https://evil.example.com",
        "http://ccadmin-z1a2.oracleoutsourcing.com:8800",
        "https://ccadmin-z1a2.oracleoutsourcing.com.evil.example",
        "https://169.254.169.254",
    ],
)
def test_a_record_that_somebody_changed_sends_no_key_elsewhere(store_url: str) -> None:
    with pytest.raises(PermanentError, match="egress_blocked"):
        ask_for_store(wiring(), store_url)


def test_a_host_that_is_no_longer_allowed_is_no_longer_called() -> None:
    with pytest.raises(PermanentError, match="host_not_allowed"):
        ask_for_store(wiring(OCC_ALLOWED_HOSTS="*.shops.example.com"), CONNECTION.store_url)
