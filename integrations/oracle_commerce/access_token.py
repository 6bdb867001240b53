"""Access tokens: cached per merchant, encrypted, bought once for all workers.

Application-key tokens live 5 minutes (Oracle, "Refresh an access token"), so a run with retries outlives its token.
Whether a token is fresh is decided here from its stored times by the server's clock; the TTL in Redis only tidies up.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import redis
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from integrations.connections.record import token_key
from integrations.egress.deadline import Deadline, next_wait
from integrations.errors import TransientError
from integrations.observer import NOBODY, Observer, TokenSource
from integrations.oracle_commerce.client import Login
from integrations.sealing.keyring import Keyring

# A share, not a fixed time: 5 minutes leave no room for the quarter of an hour that is customary elsewhere.
MARGIN = 0.2

_POLL = 0.05  # how often a waiting worker looks for the token another one is buying, seconds


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A short-lived bearer token, and when it was bought and ends (seconds since the epoch, the server's clock)."""

    text: str = field(repr=False)
    issued_at: float
    expires_at: float

    def is_fresh(self, now: float) -> bool:
        """Usable. A stale token, in the last share of its lifetime, might end on the way to the store."""
        margin = (self.expires_at - self.issued_at) * MARGIN
        return now < self.expires_at - margin


# KEYS: token. ARGV: token (JSON), when it was bought, lifetime in ms. An overtaken worker keeps the newer one.
_SHARE = """
local stored = redis.call('GET', KEYS[1])
if stored and cjson.decode(stored).issued_at > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
"""


class AccessTokens:
    """The access tokens of all merchants, shared by all workers."""

    def __init__(
        self,
        client: redis.Redis,
        keyring: Keyring,
        *,
        lock_lease: float,
        patience: float = 5.0,
        observer: Observer = NOBODY,
    ) -> None:
        """`lock_lease` must exceed what a login and one more call take, `patience` is how long others wait for them."""
        self._redis = client
        self._keyring = keyring
        self._lock_lease = lock_lease
        self._patience = patience
        self._observer = observer
        self._share_script = client.register_script(_SHARE)

    def get(
        self,
        merchant_id: str,
        fingerprint: str,
        login: Callable[[], Login],
        deadline: Deadline,
        *,
        newer_than: float = 0.0,
    ) -> AccessToken:
        """A fresh token of this application key, bought after `newer_than`; logs in if there is none.

        Of all workers that ask at once, one logs in and the others take what it got. Raises what `login` raises, and
        TransientError when another worker's login takes too long to wait for.
        """
        patience = deadline.within(self._patience)
        lock = self._lock(merchant_id)
        source = TokenSource.CACHE
        while True:
            if token := self._cached(merchant_id, fingerprint, newer_than):
                self._observer.token_taken(source)
                return token
            source = TokenSource.OTHER_WORKER
            if lock.acquire(blocking=False):
                try:
                    # Between our look and our lock another worker may have finished its login.
                    if token := self._cached(merchant_id, fingerprint, newer_than):
                        self._observer.token_taken(source)
                        return token
                    token = self._buy(login)
                    self._share(merchant_id, fingerprint, token)
                    return token
                finally:
                    _release(lock)
            _wait(patience)

    @contextlib.contextmanager
    def replacement(
        self, merchant_id: str, fingerprint: str, login: Callable[[], Login], deadline: Deadline, *, newer_than: float
    ) -> Iterator[tuple[AccessToken, bool]]:
        """A token bought after `newer_than` in place of one the store refused, and whether nobody else has it.

        Another worker's, if there is one meanwhile. Else one just bought, nobody else's while the context is open, and
        shared afterwards if all went well. Raises what `login` raises, and TransientError when another worker's login
        takes too long to wait for.
        """
        patience = deadline.within(self._patience)
        lock = self._lock(merchant_id)
        while True:
            token = self._cached(merchant_id, fingerprint, newer_than)
            if token is None and lock.acquire(blocking=False):
                try:
                    # Between our look and our lock another worker may have shared its own.
                    token = self._cached(merchant_id, fingerprint, newer_than)
                    if token is None:
                        bought = self._buy(login)
                        yield bought, True
                        self._share(merchant_id, fingerprint, bought)
                        return
                finally:
                    _release(lock)
            if token is not None:
                self._observer.token_taken(TokenSource.OTHER_WORKER)
                yield token, False
                return
            _wait(patience)

    def opened(self, merchant_id: str, fingerprint: str, stored: str | None) -> AccessToken | None:
        """The token that is stored like this, fresh or not; None if it was bought with another application key."""
        if stored is None:
            return None
        fields = json.loads(stored)
        if fields["fingerprint"] != fingerprint:
            return None
        text = self._keyring.decrypt_token(merchant_id, fields["token"])
        if text is None:  # under a sealing key that was retired
            return None
        return AccessToken(text, fields["issued_at"], fields["expires_at"])

    def note_reuse(self) -> None:
        """A token that was read before is used again."""
        self._observer.token_taken(TokenSource.CACHE)

    def drop(self, merchant_id: str) -> None:
        """Forget the token."""
        self._redis.delete(token_key(merchant_id))

    def _lock(self, merchant_id: str) -> Lock:
        """Owned by whoever took it: a worker whose lease ran out cannot release its successor's."""
        return Lock(self._redis, f"{token_key(merchant_id)}:lock", timeout=self._lock_lease, thread_local=False)

    def _buy(self, login: Callable[[], Login]) -> AccessToken:
        issued_at = self._now()  # before the call: the store's own clock for this token starts no earlier
        answer = login()
        self._observer.token_taken(TokenSource.LOGIN)
        return AccessToken(answer.access_token, issued_at, issued_at + answer.lifetime)

    def _share(self, merchant_id: str, fingerprint: str, token: AccessToken) -> None:
        stored = {
            "fingerprint": fingerprint,
            "issued_at": token.issued_at,
            "expires_at": token.expires_at,
            "token": self._keyring.encrypt_token(merchant_id, token.text),
        }
        lifetime = max(1, int((token.expires_at - token.issued_at) * 1000))
        self._share_script(keys=[token_key(merchant_id)], args=[json.dumps(stored), token.issued_at, lifetime])

    def _cached(self, merchant_id: str, fingerprint: str, newer_than: float) -> AccessToken | None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(token_key(merchant_id))
            pipe.time()
            text, (seconds, microseconds) = pipe.execute()
        token = self.opened(merchant_id, fingerprint, text)
        if token is None or token.issued_at <= newer_than or not token.is_fresh(seconds + microseconds / 1e6):
            return None
        return token

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return float(seconds) + float(microseconds) / 1e6


def _wait(patience: Deadline) -> None:
    if patience.remaining() <= 0:
        raise TransientError("token_renewal_pending", retry_after=1.0)
    next_wait()  # waiting for another worker's login is waiting for the store
    time.sleep(_POLL)


def _release(lock: Lock) -> None:
    # When our lease ran out and another worker took over, its lock is not ours to touch.
    with contextlib.suppress(LockNotOwnedError):
        lock.release()
