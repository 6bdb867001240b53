"""Sealing keys anew on a real server: what a merchant sent meanwhile stays, a kill costs only what was not done."""

import pytest
import redis

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import requests
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import Connection
from integrations.connections.records import Records
from integrations.connections.sealed_keys import Place, Progress, Rotation, SealedKeys
from integrations.sealing.keyring import Keyring, SealingKey, key_id_of, seal
from tests.integrations.oracle_commerce.fakes import SLOTS
from tests.integrations.oracle_commerce.recorded import committed
from tests.usual import PACE

pytestmark = pytest.mark.server

OLD, NEW = SealingKey("old", b"o" * 32), SealingKey("new", b"n" * 32)


@pytest.fixture
def sealed_keys(records: Records) -> SealedKeys:
    return SealedKeys(records)


def connect(records: Records, merchant_id: str, application_key: str = "a.b.c", key: SealingKey = OLD) -> str:
    """A connection with this application key; returns it sealed."""
    sealed = seal(key.public_key, key.key_id, merchant_id, application_key)
    wanted = Desired(
        merchant_id, "https://ccadmin-z1.example", sealed, application_key, None, dict.fromkeys(SLOTS, True)
    )

    def decide(connection: Connection | None, now: float) -> Change | Stop:
        return requests.begin(connection, wanted, Moment(now, PACE))

    committed(records.change(merchant_id, decide))
    return sealed


def opened(records: Records, merchant_id: str, *keys: SealingKey) -> str:
    return Keyring(keys).open(records.load(merchant_id).sealed_key or "", merchant_id)


def ignore(progress: Progress) -> None:
    pass


def test_every_key_is_the_same_under_the_newest_sealing_key(records: Records, sealed_keys: SealedKeys) -> None:
    for number in range(30):
        connect(records, f"m-{number}", f"a.b.{number}")
    versions = [records.load(f"m-{number}").version for number in range(30)]
    rotation = Rotation(sealed_keys, Keyring([NEW, OLD]))
    assert rotation.run(ignore).resealed == 30
    assert rotation.needed() == {"new": 30}
    assert [opened(records, f"m-{number}", NEW) for number in range(30)] == [f"a.b.{number}" for number in range(30)]
    assert [records.load(f"m-{number}").version for number in range(30)] == versions
    assert rotation.run(ignore).resealed == 0


def test_a_key_that_comes_meanwhile_is_not_overwritten(records: Records, sealed_keys: SealedKeys) -> None:
    was = connect(records, "m-1")
    becomes = Keyring([NEW, OLD]).reseal(was, "m-1")
    connect(records, "m-1", "another.key.it-is")
    assert sealed_keys.replace({Place("m-1", "sealed_key"): (was, becomes)}) == 0
    assert opened(records, "m-1", OLD) == "another.key.it-is"


def test_connects_under_the_old_key_during_a_rotation_are_sealed_anew_too(
    records: Records, sealed_keys: SealedKeys
) -> None:
    for number in range(3):
        connect(records, f"m-{number}")
    late = iter(["a-late-one", "another-late-one"])

    def meanwhile(progress: Progress) -> None:
        if merchant_id := next(late, None):
            connect(records, merchant_id)

    rotation = Rotation(sealed_keys, Keyring([NEW, OLD]))
    assert rotation.run(meanwhile).resealed == 5
    assert rotation.needed() == {"new": 5}


def test_a_rotation_that_was_killed_goes_on_where_it_was(records: Records, sealed_keys: SealedKeys) -> None:
    for number in range(10):
        connect(records, f"m-{number}")
    pages = sealed_keys.pages

    class Killed(BaseException):
        pass

    def kill(progress: Progress) -> None:
        raise Killed

    rotation = Rotation(sealed_keys, Keyring([NEW, OLD]))
    sealed_keys.pages = lambda *, page=4: pages(page=page)  # type: ignore[method-assign]
    for done in (4, 4):  # the next one looks at the first page, finds it done, and is killed behind it
        with pytest.raises(Killed):
            rotation.run(kill)
        assert rotation.needed() == {"new": done, "old": 10 - done}
    assert rotation.run(ignore).resealed == 6
    assert rotation.needed() == {"new": 10}


def test_a_key_nobody_can_open_is_told_and_left(records: Records, sealed_keys: SealedKeys, client: redis.Redis) -> None:
    connect(records, "m-1")
    connect(records, "m-2", key=SealingKey("gone", b"g" * 32))
    connect(records, "m-3")
    client.hset("occ:connection:m-3", "sealed_key", "rubbish")
    rotation = Rotation(sealed_keys, Keyring([NEW, OLD]))
    progress = rotation.run(ignore)
    assert (progress.resealed, progress.named()) == (1, ["m-2", "m-3"])
    assert rotation.needed() == {"new": 1, "gone": 1, None: 1}


def test_a_resealed_key_opens_for_its_merchant_only() -> None:
    resealed = Keyring([NEW, OLD]).reseal(seal(OLD.public_key, "old", "m-1", "a.b.c"), "m-1")
    assert key_id_of(resealed) == "new"
    assert Keyring([NEW]).open(resealed, "m-1") == "a.b.c"
    assert key_id_of("eyJ.a.b") is None
