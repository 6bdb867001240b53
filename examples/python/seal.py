"""Seals an application key, as docs/sealing.md shows."""

import base64
import json

from nacl.public import PublicKey, SealedBox


def seal(public_key: str, key_id: str, merchant_id: str, application_key: str) -> str:
    box = SealedBox(PublicKey(base64.urlsafe_b64decode(public_key + "==")))
    content = json.dumps({"merchant_id": merchant_id, "application_key": application_key})
    return f"sealed.v1.{key_id}.{base64.urlsafe_b64encode(box.encrypt(content.encode())).decode()}"
