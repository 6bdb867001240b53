"""Application keys as OCC issues them: JWTs whose segments are padded standard base64 (=, + and / occur).

Nobody outside the store can verify them (HS256). Claims seen in real ones: sub, iss, iat, exp (occ-api.md section 2).
"""

import base64
import json
import secrets
import time
import uuid

YEAR = 365 * 86_400
HEADER = {"typ": "JWT", "alg": "HS256"}


def segment(value: object) -> str:
    """One JWT segment the way OCC encodes it."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def make_application_key(
    subject: str | None = None,
    *,
    issued_at: float | None = None,
    lifetime: float | None = YEAR,
    expires_at: float | None = None,
    signature: bytes | None = None,
) -> str:
    """A fresh key. `lifetime=None` leaves `exp` out, as newer releases do; `expires_at` (epoch seconds) wins over it.

    A signature of 31 bytes ends in `=`, which is what trips strict JWT parsers.
    """
    issued = int(time.time() if issued_at is None else issued_at)
    claims: dict[str, object] = {"sub": subject or str(uuid.uuid4()), "iss": "applicationAuth", "iat": issued}
    if expires_at is not None:
        claims["exp"] = int(expires_at)
    elif lifetime is not None:
        claims["exp"] = issued + int(lifetime)
    encoded = base64.b64encode(secrets.token_bytes(31) if signature is None else signature).decode()
    return f"{segment(HEADER)}.{segment(claims)}.{encoded}"


def expiry_of_key(application_key: str) -> float | None:
    """The `exp` claim as epoch seconds, None without one or if the key is unreadable."""
    try:
        claims = json.loads(base64.b64decode(application_key.split(".")[1]))
    except (ValueError, IndexError):
        return None
    expiry = claims.get("exp") if isinstance(claims, dict) else None
    return float(expiry) if isinstance(expiry, int) else None
