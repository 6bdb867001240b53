"""Signatures of what we deliver, as Standard Webhooks 1.0.0 asks for them: HMAC-SHA256, scheme `v1`. Pure."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

PREFIX = "whsec_"
_LEAST, _MOST = 24, 64  # bytes, both from the specification ("Signature scheme")


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """What we and the receiver share."""

    key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `whsec_` and base64 of 24 to 64 bytes. Raises ValueError, whose text does not repeat it."""
        try:
            key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not text.startswith(PREFIX) or not _LEAST <= len(key) <= _MOST:
            raise ValueError(f"write {PREFIX} and {_LEAST} to {_MOST} random bytes in base64")
        return cls(key)


def signature(secrets: Iterable[SigningSecret], event_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret, so that one can be changed for another.

    The specification warns of ids with dots, because id, time and body are joined by dots. Ours have some. A body of
    ours begins with a brace and no id holds one, so no other way to take the three apart leaves a body of JSON.
    """
    signed = b"%s.%d.%s" % (event_id.encode(), timestamp, body)
    return " ".join(
        f"v1,{base64.b64encode(hmac.new(secret.key, signed, hashlib.sha256).digest()).decode()}" for secret in secrets
    )
