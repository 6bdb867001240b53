"""Access tokens: issued, used up, dead. About 2 KB each, like a captured one (occ-api.md section 2)."""

import base64
import secrets
from dataclasses import dataclass

from occ.simulator.application_keys import segment

TOKEN_HEADER = segment(
    {"alg": "RS256", "jku": "/ccadmin/v1/tenantCertChain", "kid": None, "x5u": "/ccadmin/v1/tenantCertChain"}
)
ROLES = [f"ora.advancedApplicationPlusExtensionsRole.{number:03}" for number in range(20)]
TOKENS_KEPT = 500  # dead or alive, before the dead ones are cleared away


@dataclass(slots=True)
class Token:
    """One access token: until when (monotonic) and for how many more calls it is good; None: no limit."""

    serial: int
    text: str
    dies_at: float
    uses_left: int | None

    def lives(self, now: float) -> bool:
        """Whether the store still takes it."""
        return now < self.dies_at and self.uses_left != 0


class TokenBook:
    """The access tokens of one store. Each exchange adds one; older ones stay good, as far as anybody has seen."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self.issued = 0
        self._tidy_at = TOKENS_KEPT

    def issue(self, now: float, lifetime: float, uses: int | None, wall: float) -> Token:
        """A new one that dies `lifetime` seconds from now."""
        self.issued += 1
        if len(self._tokens) >= self._tidy_at:
            self._tokens = {text: token for text, token in self._tokens.items() if token.lives(now)}
            self._tidy_at = 2 * len(self._tokens) + TOKENS_KEPT
        claims = {
            "iss": "applicationAuth",
            "aud": "applicationAccess",
            "sub": f"access-{self.issued}",
            "iat": int(wall),
            "exp": int(wall + lifetime),
            "com.oracle.atg.cloud.commerce.roles": ROLES,
            "occs.admin.version": "24.2.1",
            "occs.admin.profileId": "service",
        }
        signature = base64.b64encode(secrets.token_bytes(256)).decode()
        token = Token(self.issued, f"{TOKEN_HEADER}.{segment(claims)}.{signature}", now + lifetime, uses)
        self._tokens[token.text] = token
        return token

    def use(self, text: str, now: float) -> Token | None:
        """One authorised call with it; None if the store does not take it (any more)."""
        token = self._tokens.get(text)
        if token is None or not token.lives(now):
            return None
        if token.uses_left is not None:
            token.uses_left -= 1
        return token

    def serial_of(self, text: str) -> int | None:
        """The serial number of a token, dead or alive."""
        token = self._tokens.get(text)
        return token.serial if token else None

    def kill(self, text: str) -> None:
        """The store forgets this one."""
        self._tokens.pop(text, None)

    def kill_all(self) -> None:
        """The store refuses every token it has issued so far."""
        for token in self._tokens.values():
            token.uses_left = 0

    def living(self, now: float) -> int:
        """How many the store takes at this moment."""
        return sum(token.lives(now) for token in self._tokens.values())
