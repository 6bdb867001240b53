"""Calls go through whatever happens to the access token, and a refusal that is not the token's is no loop."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import redis

from integrations.egress.deadline import Deadline
from integrations.errors import CredentialRejected, IntegrationError, PermanentError, SlotNotFound, TransientError
from integrations.oracle_commerce.access_token import AccessTokens
from integrations.oracle_commerce.client import Login, ShippingMethod
from integrations.oracle_commerce.registration import register
from integrations.oracle_commerce.slot import Ours
from integrations.oracle_commerce.store import Store
from integrations.sealing.keyring import Keyring, SealingKey
from occ.simulator.direct import DirectCommerceCloud
from occ.simulator.store import SimulatedStore
from tests.integrations.oracle_commerce.fakes import SLOTS

pytestmark = pytest.mark.server

THEIRS = "https://oms.example.net/in"


@pytest.fixture
def tokens(redis_url: str) -> Iterator[AccessTokens]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield AccessTokens(client, Keyring([SealingKey.generate()]), lock_lease=20)


@pytest.fixture
def simulated() -> SimulatedStore:
    return SimulatedStore("s", slots={name: {"urls": [THEIRS]} for name in SLOTS})


def store_of(
    simulated: SimulatedStore,
    tokens: AccessTokens,
    *,
    deadline: float = 10,
    now: Callable[[], float] = time.time,
) -> Store:
    return Store(
        DirectCommerceCloud(simulated),
        tokens,
        merchant_id="m-1",
        fingerprint="key-1",
        open_key=lambda: simulated.application_key,
        deadline=Deadline.after(deadline),
        now=now,
    )


def test_a_token_that_becomes_stale_during_the_work_is_renewed(simulated: SimulatedStore, tokens: AccessTokens) -> None:
    began, passed = time.time(), [0.0]
    store = store_of(simulated, tokens, now=lambda: began + passed[0])
    store.shipping_methods()
    passed[0] = 235
    store.shipping_methods()
    assert counts(simulated)["login"] == 1
    passed[0] = 245
    store.shipping_methods()
    assert counts(simulated)["login"] == 2


def test_a_refused_token_is_not_used_again(simulated: SimulatedStore, tokens: AccessTokens) -> None:
    store = store_of(simulated, tokens)
    store.shipping_methods()
    simulated.change(kill_tokens=True)
    for _ in range(3):
        store.shipping_methods()
    assert counts(simulated) == {"login": 2, "shipping_methods": 5}, "refused once, repeated once"


def ours(name: str) -> str:
    return f"https://hooks.example.com/occ/m-1/{name}"


def connect(store: Store) -> None:
    """A whole run."""
    store.exchange_key(since=0.0)
    assert any(method.enabled for method in store.shipping_methods())
    for name in SLOTS:
        register(store, name, Ours(ours(name)), "urls")


def counts(simulated: SimulatedStore) -> dict[str, int]:
    return dict(simulated.calls.endpoints)


def test_a_healthy_connect_is_one_login_one_look_and_a_read_and_a_write_per_slot(
    simulated: SimulatedStore, tokens: AccessTokens
) -> None:
    connect(store_of(simulated, tokens))
    assert counts(simulated) == {"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4}
    simulated.reset_counts()
    connect(store_of(simulated, tokens))
    assert counts(simulated) == {"shipping_methods": 1, "read_slot": 4}, "registering again writes nothing"


def test_a_token_that_ends_early_costs_one_login_and_one_repeat(
    simulated: SimulatedStore, tokens: AccessTokens
) -> None:
    store = store_of(simulated, tokens)
    store.shipping_methods()
    simulated.reset_counts()
    simulated.change(kill_tokens=True)
    assert store.read_slot(SLOTS[0])["urls"] == [THEIRS]
    assert counts(simulated) == {"read_slot": 2, "login": 1}
    store.read_slot(SLOTS[1])
    assert counts(simulated) == {"read_slot": 3, "login": 1}


@pytest.mark.parametrize("shape", ["errorCode", "plain", "error", "empty", "html"])
def test_a_run_completes_although_the_token_ends_between_every_pair_of_calls(
    simulated: SimulatedStore, tokens: AccessTokens, shape: str
) -> None:
    simulated.change(token_uses=1, token_refusal=shape)
    connect(store_of(simulated, tokens))
    for name in SLOTS:
        assert simulated.urls(name) == [THEIRS, ours(name)]
    assert counts(simulated)["login"] == 9, "one for each call at most"
    assert simulated.losses.urls == []


@pytest.mark.parametrize("before", range(9))
def test_a_run_completes_with_one_more_login_wherever_the_token_ends(
    simulated: SimulatedStore, tokens: AccessTokens, before: int
) -> None:
    """Nine calls follow the login; the token ends just before one of them."""
    steps: list[Callable[[Store], object]] = [lambda store: store.shipping_methods()]
    for name in SLOTS:
        steps.append(lambda store, name=name: store.read_slot(name))  # type: ignore[misc]
        steps.append(lambda store, name=name: store.write_slot(name, {"urls": [THEIRS, ours(name)]}))  # type: ignore[misc]
    store = store_of(simulated, tokens)
    store.exchange_key(since=0.0)
    for number, step in enumerate(steps):
        if number == before:
            simulated.change(kill_tokens=True)
        step(store)
    assert counts(simulated)["login"] == 2
    assert sum(counts(simulated).values()) == 2 + 9 + 1


CALLS: dict[str, Callable[[Store], object]] = {
    "shipping_methods": lambda store: store.shipping_methods(),
    "read_slot": lambda store: store.read_slot(SLOTS[0]),
    "write_slot": lambda store: store.write_slot(SLOTS[0], {"urls": [THEIRS]}),
    "failed_messages": lambda store: store.failed_messages(limit=250, offset=0),
    "resend": lambda store: store.resend_failed_message("200001"),
}


@pytest.mark.parametrize("endpoint", CALLS)
def test_a_refusal_whatever_the_token_is_a_matter_of_permission_and_no_loop(
    simulated: SimulatedStore, tokens: AccessTokens, endpoint: str
) -> None:
    store_of(simulated, tokens).exchange_key(since=0.0)
    simulated.reset_counts()
    simulated.fail(endpoint, *[401] * 50)
    for piece_of_work in (1, 2):
        with pytest.raises(PermanentError) as denied:
            CALLS[endpoint](store_of(simulated, tokens))
        assert denied.value.code == "permission_denied"
        assert counts(simulated) == {"login": piece_of_work, endpoint: 2 * piece_of_work}


@pytest.mark.parametrize("endpoint", CALLS)
def test_a_narrow_role_costs_neither_a_login_nor_a_repeat(
    simulated: SimulatedStore, tokens: AccessTokens, endpoint: str
) -> None:
    store = store_of(simulated, tokens)
    store.exchange_key(since=0.0)
    simulated.fail(endpoint, 403)
    with pytest.raises(PermanentError) as denied:
        CALLS[endpoint](store)
    assert denied.value.code == "permission_denied"
    assert counts(simulated) == {"login": 1, endpoint: 1}


def test_failed_messages_are_read_and_queued_again_whatever_happens_to_the_token(
    simulated: SimulatedStore, tokens: AccessTokens
) -> None:
    simulated.change(token_uses=1)
    message_id = simulated.give_up_delivery(SLOTS[0], [ours(SLOTS[0])])
    store = store_of(simulated, tokens)
    assert store.failed_messages(limit=250, offset=0).items[0]["resend"] is False
    store.resend_failed_message(message_id)
    (message,) = store.failed_messages(limit=250, offset=0).items
    assert (message["id"], message["resend"]) == (message_id, True)


def test_four_slots_that_meet_an_ended_token_at_once_log_in_once(
    simulated: SimulatedStore, tokens: AccessTokens
) -> None:
    store_of(simulated, tokens).exchange_key(since=0.0)
    simulated.change(kill_tokens=True)
    barrier = Barrier(4)

    def slot(name: str) -> None:
        store = store_of(simulated, tokens)
        barrier.wait()
        register(store, name, Ours(ours(name)), "urls")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(slot, SLOTS))
    assert counts(simulated)["login"] == 2
    assert simulated.calls.endpoints["write_slot"] == 4


def test_four_slots_at_once_complete_although_every_token_is_good_for_one_call(
    simulated: SimulatedStore, tokens: AccessTokens
) -> None:
    """A token just bought may be used up by another slot; one that nobody else has is not."""
    simulated.change(token_uses=1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: register(store_of(simulated, tokens), name, Ours(ours(name)), "urls"), SLOTS))
    for name in SLOTS:
        assert simulated.urls(name) == [THEIRS, ours(name)]
    assert counts(simulated)["login"] <= 8 * 3


def test_a_key_that_was_revoked_meanwhile_is_a_rejection(simulated: SimulatedStore, tokens: AccessTokens) -> None:
    store = store_of(simulated, tokens)
    store.exchange_key(since=0.0)
    simulated.change(kill_tokens=True, revoke_keys=True)
    with pytest.raises(CredentialRejected):
        store.read_slot(SLOTS[0])
    assert counts(simulated) == {"login": 2, "read_slot": 1}


def test_a_token_bought_earlier_does_not_prove_that_the_key_is_alive(
    simulated: SimulatedStore, tokens: AccessTokens
) -> None:
    store = store_of(simulated, tokens)
    store.exchange_key(since=0.0)
    simulated.change(revoke_keys=True)
    store.shipping_methods()  # the token lives on for a while
    with pytest.raises(CredentialRejected):
        store.exchange_key(since=4e9)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(503, TransientError), (429, TransientError), (404, SlotNotFound), ({"fault": "reset"}, TransientError)],
)
def test_other_trouble_is_passed_on_at_once(
    simulated: SimulatedStore, tokens: AccessTokens, fault: object, kind: type[IntegrationError]
) -> None:
    store = store_of(simulated, tokens)
    store.exchange_key(since=0.0)
    simulated.fail("read_slot", fault)
    with pytest.raises(kind):
        store.read_slot(SLOTS[0])
    assert counts(simulated) == {"login": 1, "read_slot": 1}


def test_nothing_is_called_after_the_deadline(simulated: SimulatedStore, tokens: AccessTokens) -> None:
    store = store_of(simulated, tokens, deadline=-1)
    with pytest.raises(TransientError):
        store.read_slot(SLOTS[0])
    assert simulated.urls(SLOTS[0]) == [THEIRS]


@pytest.mark.parametrize(
    ("spent", "seconds_left", "code"),
    [
        ((0.0, 58.0), 0, "store_timeout"),
        ((23.0, 35.0), 0, "store_timeout"),
        ((50.0, 8.0), 0, "internal_error"),
        ((50.0, 35.0), 60, "store_timeout"),
    ],
)
def test_time_that_ran_out_on_our_side_is_not_held_against_the_store(
    simulated: SimulatedStore, tokens: AccessTokens, spent: tuple[float, float], seconds_left: float, code: str
) -> None:
    (by_us, by_the_store), now = spent, [1000.0]

    def passes(seconds: float) -> None:
        now[0] += seconds

    class SlowStore(DirectCommerceCloud):
        def login(self, _application_key: str, _deadline: Deadline) -> Login:
            return Login("token", 300.0)

        def shipping_methods(self, _access_token: str, _deadline: Deadline) -> list[ShippingMethod]:
            passes(by_the_store)
            raise TransientError("store_timeout", "no whole answer")

    def open_key() -> str:
        passes(by_us)
        return simulated.application_key

    store = Store(
        SlowStore(simulated),
        tokens,
        merchant_id="m-1",
        fingerprint="key-1",
        open_key=open_key,
        deadline=Deadline.after(seconds_left),
        now=time.time,
        clock=lambda: now[0],
    )
    with pytest.raises(TransientError) as caught:
        store.shipping_methods()
    assert caught.value.code == code
