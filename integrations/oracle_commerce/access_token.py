"""Access tokens: cached per merchant, encrypted, bought once for all workers.

Application-key tokens live 5 minutes (Oracle, "Refresh an access token"), so a run with retries outlives its token.
Whether a token is fresh is decided here from its times by the pipeline's clock; the TTL in Redis only tidies up. A
process keeps the tokens it has used last, so that the calls of a run ask the server once.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import cast

import redis

from integrations.connections.record import token_key
from integrations.egress.deadline import Deadline, next_wait
from integrations.errors import TransientError
from integrations.lua import lua_beside
from integrations.observer import NOBODY, Observer, TokenSource
from integrations.oracle_commerce.client import Login
from integrations.sealing.keyring import Keyring

# A share, not a fixed time: 5 minutes leave no room for the quarter of an hour that is customary elsewhere.
MARGIN = 0.2

_KEPT = 1000
"""Tokens that a process keeps at most."""

_POLL = 0.05  # how often a waiting worker looks for the token another one is buying, seconds


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A short-lived bearer token, and when it was bought and ends (seconds since the epoch)."""

    text: str = field(repr=False)
    issued_at: float
    expires_at: float

    def is_fresh(self, now: float) -> bool:
        """Usable. A stale token, in the last share of its lifetime, might end on the way to the store."""
        margin = (self.expires_at - self.issued_at) * MARGIN
        return now < self.expires_at - margin


class AccessTokens:
    """The access tokens of all merchants, shared by all workers. Safe to share between threads."""

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
        self._take_script, self._end_script = (
            client.register_script(lua_beside(__file__, name)) for name in ("take_login", "end_login")
        )
        self._guard = Lock()
        self._kept: dict[tuple[str, str], AccessToken] = {}  # by merchant and fingerprint, the last one last

    @contextlib.contextmanager
    def fresh(
        self,
        merchant_id: str,
        fingerprint: str,
        login: Callable[[], Login],
        deadline: Deadline,
        *,
        now: Callable[[], float],
        newer_than: float = 0.0,
    ) -> Iterator[tuple[AccessToken, bool]]:
        """A fresh token of this application key, bought after `newer_than`, and whether nobody else has it.

        Of all workers that ask at once, one logs in and the others take what it got. One that was just bought is nobody
        else's while the context is open, and shared afterwards if all went well. `now`: the time. Raises what `login`
        raises, and TransientError when another worker's login takes too long to wait for.
        """
        patience = deadline.within(self._patience)
        source = TokenSource.CACHE
        while True:
            owner = f"{now():.3f} {uuid.uuid4().hex}"
            found = self._found(merchant_id, fingerprint, newer_than, owner, now)
            if isinstance(found, AccessToken):
                self._observer.token_taken(source)
                yield found, False
                return
            if found:
                shared, lifetime = "", 0.0
                try:
                    bought = self._buy(login, now)
                    yield bought, True
                    shared = self._stored(merchant_id, fingerprint, bought)
                    lifetime = bought.expires_at - bought.issued_at
                    self._keep(merchant_id, fingerprint, bought, now())
                finally:
                    self._end(merchant_id, owner, shared, lifetime)
                return
            source = TokenSource.OTHER_WORKER
            _wait(patience)

    def drop(self, merchant_id: str) -> None:
        """Forget the token."""
        with self._guard:
            for key in [key for key in self._kept if key[0] == merchant_id]:
                del self._kept[key]
        self._redis.delete(token_key(merchant_id))

    def _found(
        self, merchant_id: str, fingerprint: str, newer_than: float, owner: str, now: Callable[[], float]
    ) -> AccessToken | bool:
        """A token as it is asked for; else whether the right to log in is ours now."""
        with self._guard:
            kept = self._kept.get((merchant_id, fingerprint))
        if kept is not None and kept.issued_at > newer_than and kept.is_fresh(now()):
            return kept
        while True:
            stored = self._take(merchant_id, owner, newer_than, now())
            if not isinstance(stored, str):
                return stored
            fields = json.loads(stored)
            if fields["fingerprint"] == fingerprint:
                # None where the sealing key was retired.
                text = self._keyring.decrypt_token(merchant_id, fields["token"])
                token = AccessToken(text or "", fields["issued_at"], fields["expires_at"])
                if text is not None and token.is_fresh(now()):
                    self._keep(merchant_id, fingerprint, token, now())
                    return token
            newer_than = fields["issued_at"]

    def _keep(self, merchant_id: str, fingerprint: str, token: AccessToken, now: float) -> None:
        with self._guard:
            self._kept.pop((merchant_id, fingerprint), None)
            for key, oldest in list(self._kept.items()):
                if len(self._kept) < _KEPT and oldest.is_fresh(now):
                    break
                del self._kept[key]
            self._kept[merchant_id, fingerprint] = token

    def _buy(self, login: Callable[[], Login], now: Callable[[], float]) -> AccessToken:
        issued_at = now()  # before the call: the store's own clock for this token starts no earlier
        answer = login()
        self._observer.token_taken(TokenSource.LOGIN)
        return AccessToken(answer.access_token, issued_at, issued_at + answer.lifetime)

    def _take(self, merchant_id: str, owner: str, newer_than: float, now: float) -> str | bool:
        """The token that is stored, if it was bought after `newer_than`; else whether the lock is ours."""
        keys, lease = _keys(merchant_id), round(self._lock_lease * 1000)
        args: list[str | int] = [repr(newer_than), owner, lease, repr(now - self._lock_lease)]
        answer = cast("str | int", self._take_script(keys=keys, args=args))
        return answer if isinstance(answer, str) else bool(answer)

    def _end(self, merchant_id: str, owner: str, stored: str, lifetime: float) -> None:
        """Give the lock back, and share what was bought."""
        lasts = max(1, int(lifetime * 1000))
        self._end_script(keys=_keys(merchant_id), args=[owner, stored, lasts])

    def _stored(self, merchant_id: str, fingerprint: str, token: AccessToken) -> str:
        fields = {
            "fingerprint": fingerprint,
            "issued_at": token.issued_at,
            "expires_at": token.expires_at,
            "token": self._keyring.encrypt_token(merchant_id, token.text),
        }
        return json.dumps(fields)


def _keys(merchant_id: str) -> list[str]:
    return [token_key(merchant_id), f"{token_key(merchant_id)}:lock"]


def _wait(patience: Deadline) -> None:
    if patience.remaining() <= 0:
        raise TransientError("token_renewal_pending", retry_after=1.0)
    next_wait()  # waiting for another worker's login is waiting for the store
    time.sleep(_POLL)
