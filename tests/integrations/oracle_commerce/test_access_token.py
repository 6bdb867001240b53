"""Access tokens are renewed in time, bought once for everybody, and never taken from or given to the wrong one."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.egress.deadline import Deadline
from integrations.errors import CredentialRejected, TransientError
from integrations.oracle_commerce import access_token
from integrations.oracle_commerce.access_token import MARGIN, AccessToken, AccessTokens
from integrations.oracle_commerce.client import Login
from integrations.sealing.keyring import Keyring, SealingKey
from occ.local.processes import PROJECT
from tests.waiting import wait_until

NOON = 1_700_000_000.0
SEALING_KEY = SealingKey.generate()
LOCK = "occ:token:m-1:lock"


# --- Freshness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "fresh"),
    [(0, True), (239.999, True), (240, False), (299, False), (300, False), (10_000, False)],
)
def test_a_token_of_five_minutes_is_renewed_a_minute_before_the_store_would_refuse_it(
    seconds: float, fresh: bool
) -> None:
    assert AccessToken("t", NOON, NOON + 300).is_fresh(NOON + seconds) is fresh


@settings(deadline=None)
@given(lifetime=st.floats(min_value=0.5, max_value=1e6), share=st.floats(min_value=0, max_value=2))
def test_the_margin_is_a_share_of_the_lifetime(lifetime: float, share: float) -> None:
    token = AccessToken("t", NOON, NOON + lifetime)
    if share < 1 - MARGIN - 1e-3:
        assert token.is_fresh(NOON + lifetime * share)
    if share > 1 - MARGIN + 1e-3:
        assert not token.is_fresh(NOON + lifetime * share)


@pytest.mark.parametrize("lifetime", [0, -5])
def test_a_token_without_a_lifetime_is_never_fresh(lifetime: float) -> None:
    assert not AccessToken("t", NOON, NOON + lifetime).is_fresh(NOON)


def test_no_token_shows_itself() -> None:
    assert "canary" not in repr(AccessToken("canary", NOON, NOON + 300))
    assert "canary" not in repr(Login("canary", 300))


# --- On a server -----------------------------------------------------------------------------------------------------


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def tokens(client: redis.Redis) -> AccessTokens:
    return of_a_worker(client)


def of_a_worker(client: redis.Redis, *, lock_lease: float = 20, patience: float = 5.0) -> AccessTokens:
    """Those of another worker each time."""
    return AccessTokens(client, Keyring([SEALING_KEY]), lock_lease=lock_lease, patience=patience)


class Logins:
    """A store's login; counts, and may take its time or say no."""

    def __init__(self, *, lifetime: float = 300, before: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self.lifetime = lifetime
        self.before = before

    def __call__(self) -> Login:
        self.count += 1
        number = self.count
        self.before()
        return Login(f"token-{number}", self.lifetime)


def get(
    tokens: AccessTokens,
    login: Callable[[], Login],
    key: str = "key-1",
    *,
    newer_than: float = 0.0,
    now: Callable[[], float] = time.time,
    merchant_id: str = "m-1",
) -> AccessToken:
    with tokens.fresh(merchant_id, key, login, Deadline.after(10), now=now, newer_than=newer_than) as (token, _):
        return token


@pytest.mark.server
def test_a_fresh_token_is_bought_once_and_used_again(tokens: AccessTokens, client: redis.Redis) -> None:
    login = Logins()
    first = get(tokens, login)
    assert get(tokens, login) == first
    assert get(of_a_worker(client), login) == first
    assert login.count == 1


@pytest.mark.server
def test_a_token_that_was_used_here_before_is_used_without_asking_the_server(
    tokens: AccessTokens, client: redis.Redis
) -> None:
    login = Logins()
    first = get(tokens, login)
    client.flushdb()
    assert get(tokens, login) == first
    other = of_a_worker(client)
    assert get(other, login).text == "token-2", "whoever has not used it has to look"
    assert get(tokens, login, newer_than=first.issued_at).text == "token-2", "as does who needs a newer one"
    client.flushdb()
    assert get(other, login).text == get(tokens, login).text == "token-2"
    assert login.count == 2


@pytest.mark.server
def test_a_process_keeps_so_many_tokens_and_none_that_is_over(
    tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_token, "_KEPT", 3)
    for number in range(5):
        get(tokens, Logins(), merchant_id=f"m-{number}")
    assert [merchant_id for merchant_id, _ in tokens._kept] == ["m-2", "m-3", "m-4"]
    get(tokens, Logins(), merchant_id="m-5", now=lambda: time.time() + 241)
    assert [merchant_id for merchant_id, _ in tokens._kept] == ["m-5"]
    tokens.drop("m-5")
    assert not tokens._kept


@pytest.mark.server
def test_a_stale_token_is_renewed(tokens: AccessTokens, client: redis.Redis) -> None:
    login, began, passed = Logins(), time.time(), [0.0]

    def bought(by: AccessTokens) -> str:
        return get(by, login, now=lambda: began + passed[0]).text

    assert bought(tokens) == "token-1"
    passed[0] = 300 * (1 - MARGIN) - 0.1
    assert bought(tokens) == bought(of_a_worker(client)) == "token-1"
    passed[0] += 0.2
    assert bought(of_a_worker(client)) == bought(tokens) == "token-2"


@pytest.mark.server
def test_freshness_is_decided_by_times_and_the_ttl_only_tidies_up(tokens: AccessTokens, client: redis.Redis) -> None:
    login = Logins()
    get(tokens, login)
    assert 290 < client.ttl("occ:token:m-1") <= 300
    client.persist("occ:token:m-1")
    stored = json.loads(client.get("occ:token:m-1") or "")
    client.set("occ:token:m-1", json.dumps(stored | {k: stored[k] - 241 for k in ("issued_at", "expires_at")}))
    assert get(of_a_worker(client), login).text == "token-2"


@pytest.mark.server
def test_only_a_token_bought_after_a_moment_proves_anything_about_that_moment(tokens: AccessTokens) -> None:
    login = Logins()
    first = get(tokens, login)
    assert get(tokens, login, newer_than=first.issued_at - 1e-3) == first
    second = get(tokens, login, newer_than=first.issued_at)
    assert second.text == "token-2"
    assert second.issued_at > first.issued_at


@pytest.mark.server
def test_the_token_of_another_application_key_is_not_used(tokens: AccessTokens) -> None:
    login = Logins()
    assert get(tokens, login, key="key-1").text == "token-1"
    assert get(tokens, login, key="key-2").text == "token-2"
    assert get(tokens, login, key="key-2").text == "token-2"


@pytest.mark.server
def test_a_token_that_cannot_be_opened_is_as_good_as_none(tokens: AccessTokens, client: redis.Redis) -> None:
    get(tokens, Logins())
    rotated = AccessTokens(client, Keyring([SealingKey.generate()]), lock_lease=20)
    login = Logins()
    assert get(rotated, login).text == "token-1"
    assert login.count == 1


@pytest.mark.server
def test_a_token_copied_to_another_merchant_is_not_used(tokens: AccessTokens, client: redis.Redis) -> None:
    get(tokens, Logins())
    client.copy("occ:token:m-1", "occ:token:m-2")
    login = Logins()
    get(tokens, login, merchant_id="m-2")
    assert login.count == 1


@pytest.mark.server
def test_the_token_is_not_in_the_database_in_the_clear(tokens: AccessTokens, client: redis.Redis) -> None:
    get(tokens, lambda: Login("canary-token", 300))
    assert "canary" not in (client.get("occ:token:m-1") or "")


@pytest.mark.server
def test_a_dropped_token_is_bought_again(tokens: AccessTokens) -> None:
    login = Logins()
    get(tokens, login)
    tokens.drop("m-1")
    assert get(tokens, login).text == "token-2"


@pytest.mark.server
def test_a_refused_login_is_told_to_who_asked_and_holds_up_nobody(tokens: AccessTokens, client: redis.Redis) -> None:
    def refuse() -> Login:
        raise CredentialRejected("HTTP 401")

    with pytest.raises(CredentialRejected):
        get(tokens, refuse)
    assert not client.exists(LOCK)
    assert get(tokens, Logins()).text == "token-1"


@pytest.mark.server
def test_whoever_waits_in_vain_for_another_worker_comes_again_later(client: redis.Redis) -> None:
    tokens = of_a_worker(client, patience=0.2)
    client.set(LOCK, "somebody else", px=5000)
    with pytest.raises(TransientError) as waiting:
        get(tokens, Logins())
    assert waiting.value.code == "token_renewal_pending"
    assert client.get(LOCK) == "somebody else"


# --- Single flight ---------------------------------------------------------------------------------------------------


@contextmanager
def asker(redis_url: str, threads: int, mode: str, lock_lease: float = 20) -> Iterator[subprocess.Popen[str]]:
    """A process that asks; killed in the end if it has not ended by itself."""
    module = "tests.integrations.oracle_commerce.token_asker"
    command = [sys.executable, "-m", module, redis_url, str(threads), str(lock_lease), mode]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(SEALING_KEY.export())
        process.stdin.close()
        process.stdin = None
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.server
def test_64_threads_in_4_processes_that_ask_at_once_are_one_login(redis_url: str, client: redis.Redis) -> None:
    with (
        asker(redis_url, 16, "ask") as a,
        asker(redis_url, 16, "ask") as b,
        asker(redis_url, 16, "ask") as c,
        asker(redis_url, 16, "ask") as d,
    ):
        wait_until(lambda: client.get("waiting") == "64")
        client.set("go", 1)
        got = [token for process in (a, b, c, d) for token in process.communicate(timeout=180)[0].split()]
    assert got == ["token-1"] * 64
    assert client.get("logins") == "1"
    assert not client.exists(LOCK)


@pytest.mark.server
def test_a_holder_killed_in_mid_login_is_taken_over_within_its_lease(redis_url: str, client: redis.Redis) -> None:
    lease = 3.0
    with asker(redis_url, 1, "hold", lease) as holder:
        client.set("go", 1)
        wait_until(lambda: client.get("logins") == "1")
        assert 0 < client.pttl(LOCK) <= lease * 1000
        holder.kill()
        holder.wait(60)
        tokens = of_a_worker(client, lock_lease=lease)
        login = Logins()
        got = get(tokens, login)
    assert got.text == "token-1"
    assert login.count == 1


@pytest.mark.server
def test_the_lock_of_a_lost_worker_ends_though_the_servers_clock_was_set_back(client: redis.Redis) -> None:
    tokens = of_a_worker(client, patience=0.0)
    client.set(LOCK, f"{NOON - 19.0:.3f} somebody", px=3_600_000)  # as its TTL is then
    with pytest.raises(TransientError, match="token_renewal_pending"):
        get(tokens, Logins(), now=lambda: NOON)
    client.set(LOCK, f"{NOON - 21.0:.3f} somebody", px=3_600_000)
    assert get(tokens, Logins(), now=lambda: NOON).text == "token-1"


@pytest.mark.server
def test_a_holder_whose_lease_ran_out_does_not_release_its_successor(client: redis.Redis) -> None:
    first_may_end, second_may_end = Event(), Event()
    slow = Logins(before=lambda: first_may_end.wait(60))
    quick = Logins(before=lambda: second_may_end.wait(60))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(get, of_a_worker(client, lock_lease=0.2), slow)
        wait_until(lambda: slow.count == 1)
        second = pool.submit(get, of_a_worker(client), quick)
        wait_until(lambda: quick.count == 1)
        successors = client.get(LOCK)
        first_may_end.set()
        assert first.result(60).text == "token-1"
        assert client.get(LOCK) == successors
        second_may_end.set()
        second.result(60)
    assert not client.exists(LOCK)


@pytest.mark.server
def test_a_holder_whose_lease_ran_out_does_not_replace_a_newer_token(client: redis.Redis) -> None:
    first_may_end = Event()
    slow, quick = Logins(before=lambda: first_may_end.wait(60)), Logins()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(get, of_a_worker(client, lock_lease=0.2), slow)
        wait_until(lambda: slow.count == 1)
        newer = get(of_a_worker(client), quick)
        first_may_end.set()
        assert first.result(60).issued_at < newer.issued_at
    assert get(of_a_worker(client), quick) == newer


# --- A token that nobody else has ------------------------------------------------------------------------------------


def replacement(
    tokens: AccessTokens, login: Logins, refused: AccessToken | None = None
) -> AbstractContextManager[tuple[AccessToken, bool]]:
    newer_than = refused.issued_at if refused else 0.0
    return tokens.fresh("m-1", "key-1", login, Deadline.after(10), now=time.time, newer_than=newer_than)


@pytest.mark.server
def test_an_unshared_token_is_nobody_elses_until_it_has_served(tokens: AccessTokens) -> None:
    login = Logins()
    shared = get(tokens, login)
    with replacement(tokens, login, shared) as (unshared, is_ours_alone):
        assert is_ours_alone
        assert unshared.text == "token-2"
        assert get(tokens, login) == shared
    assert get(tokens, login) == unshared
    with replacement(tokens, login, shared) as (newer, is_ours_alone):
        assert (newer, is_ours_alone) == (unshared, False)
    assert login.count == 2


@pytest.mark.server
def test_an_unshared_token_that_failed_stays_unshared(tokens: AccessTokens, client: redis.Redis) -> None:
    login = Logins()
    with pytest.raises(TransientError), replacement(tokens, login):
        raise TransientError("store_error")
    assert not client.exists(LOCK)
    assert not client.exists("occ:token:m-1")


@pytest.mark.server
def test_two_unshared_tokens_wait_for_each_other(client: redis.Redis) -> None:
    tokens = of_a_worker(client, patience=0.2)
    login = Logins()
    with (
        replacement(tokens, login),
        pytest.raises(TransientError) as waiting,
        replacement(tokens, login),
    ):
        pass
    assert waiting.value.code == "token_renewal_pending"
    assert login.count == 1
