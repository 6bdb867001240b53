"""Application keys arrive sealed to one of our public keys; access tokens rest encrypted. Nothing here does I/O.

A sealed key is plain libsodium (`crypto_box_seal`), so that producers in any language can make one:

    sealed.v1.<key id>.<base64url of crypto_box_seal({"merchant_id": ..., "application_key": ...})>

The merchant's id is inside the box, so a key sealed for one merchant cannot be used for another. An access token is
encrypted with XChaCha20-Poly1305 under a key derived from the newest private key, and bound to its merchant as well:

    v1.<key id>.<base64url of nonce and ciphertext>
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from typing import NoReturn, Self

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import Aead

from integrations.errors import RequestRefused

MAX_SEALED_LENGTH = 16 * 1024
"""Characters; a sealed application key of a real store has about 1,000."""

_FIELD = "application_key"
_KEY_BYTES = 32
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_SEALED_WITHIN = re.compile(r"sealed\.v[0-9]{1,3}\.", re.IGNORECASE | re.ASCII)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}", re.ASCII)
_HOW_TO_SEAL = "`./run occ seal MERCHANT` seals one, and docs/sealing.md shows how to do it from other languages"


class SealingKey:
    """One key pair of ours. Shows its id and its public half; only `export` gives the private half away."""

    __slots__ = ("_private", "key_id", "public_key")

    key_id: str
    public_key: str

    def __init__(self, key_id: str, private_key: bytes) -> None:
        if not KEY_ID.fullmatch(key_id):
            raise ValueError("a key id has 1 to 32 letters, digits, dashes or underscores")
        if len(private_key) != _KEY_BYTES:
            raise ValueError(f"a private key has {_KEY_BYTES} bytes")
        self.key_id = key_id
        self._private = PrivateKey(private_key)
        self.public_key = _encode(bytes(self._private.public_key))

    @classmethod
    def generate(cls) -> Self:
        """A new key pair; its id is derived from the public key, so that two of them hardly ever share one."""
        private = PrivateKey.generate()
        return cls(hashlib.sha256(bytes(private.public_key)).hexdigest()[:8], bytes(private))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<key id>:<base64url>`, as `export` writes it. ValueError says what is wrong without repeating it."""
        key_id, separator, encoded = text.strip().partition(":")
        private_key = _decode(encoded)
        if not separator or private_key is None:
            raise ValueError("a sealing key looks like `<key id>:<base64url>`, as `occ keygen` prints it")
        return cls(key_id, private_key)

    def export(self) -> str:
        """The private key as text, for OCC_SEALING_KEYS."""
        return f"{self.key_id}:{_encode(bytes(self._private))}"

    def unseal(self, box: bytes) -> bytes | None:
        """What the box holds; None when it was not sealed to this key, or has been changed since."""
        try:
            return SealedBox(self._private).decrypt(box)
        except CryptoError:
            return None

    def derive(self, purpose: bytes) -> bytes:
        """A symmetric key of 32 bytes for one purpose (at most 16 bytes of name)."""
        return hashlib.blake2b(key=bytes(self._private), person=purpose, digest_size=_KEY_BYTES).digest()

    def __repr__(self) -> str:
        return f"SealingKey({self.key_id!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SealingKey):
            return NotImplemented
        return self.key_id == other.key_id and hmac.compare_digest(bytes(self._private), bytes(other._private))

    def __hash__(self) -> int:
        return hash((self.key_id, self.public_key))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        # A pickle would carry the private key to wherever it is written: a queue, a file, another process's pipe.
        raise TypeError("a sealing key is not pickled: the other process reads its own settings")


class Keyring:
    """Our active key pairs, newest first: the newest encrypts, any of them opens."""

    def __init__(self, keys: Sequence[SealingKey]) -> None:
        if not keys:
            raise ValueError("a keyring needs at least one sealing key")
        self._newest = keys[0]
        self._keys = {key.key_id: key for key in keys}
        if len(self._keys) != len(keys):
            raise ValueError("two sealing keys share an id")
        self._token_keys = {key.key_id: key.derive(b"access token v1") for key in keys}

    @property
    def newest(self) -> SealingKey:
        """The key that producers should seal to."""
        return self._newest

    def open(self, sealed: str, merchant_id: str) -> str:
        """The application key in a sealed key that was made for this merchant.

        Raises RequestRefused with one of the codes not_sealed, too_large, malformed, unknown_key_id, cannot_be_opened,
        sealed_for_another_merchant. Its text never repeats the input: it may be a key in the clear.
        """
        key_id, box = _parts_of(sealed)
        key = self._keys.get(key_id)
        if key is None:
            known = ", ".join(self._keys)
            raise _refused("unknown_key_id", f"it is sealed to a key that is not in use here; active key ids: {known}")
        opened = key.unseal(box)
        if opened is None:
            raise _refused(
                "cannot_be_opened",
                f"it does not open with key {key.key_id}: sealed to another public key, cut short, or changed since",
            )
        sealed_for, application_key = _content_of(opened)
        if sealed_for != merchant_id:
            raise _refused(
                "sealed_for_another_merchant", "the merchant_id inside differs from the request's; seal it again"
            )
        return application_key

    def knows(self, sealed: str) -> bool:
        """Whether a sealed key was made for one of these key pairs, going by the key id it names."""
        return any(sealed.startswith(f"sealed.v1.{key_id}.") for key_id in self._keys)

    def reseal(self, sealed: str, merchant_id: str) -> str:
        """The same application key, sealed to the newest key. Raises RequestRefused like `open`."""
        return seal(self._newest.public_key, self._newest.key_id, merchant_id, self.open(sealed, merchant_id))

    def encrypt_token(self, merchant_id: str, token: str) -> str:
        """An access token as text that only this keyring reads, and only for this merchant."""
        box = Aead(self._token_keys[self._newest.key_id])
        encrypted = box.encrypt(_bytes(token), aad=_token_context(merchant_id))
        return f"v1.{self._newest.key_id}.{_encode(encrypted)}"

    def decrypt_token(self, merchant_id: str, text: str) -> str | None:
        """The access token again; None when it is another merchant's, damaged, or under a key that is gone."""
        version, _, rest = text.partition(".")
        key_id, _, encoded = rest.partition(".")
        key = self._token_keys.get(key_id)
        encrypted = _decode(encoded)
        if version != "v1" or key is None or encrypted is None:
            return None
        try:
            return Aead(key).decrypt(encrypted, aad=_token_context(merchant_id)).decode(errors="surrogatepass")
        except (CryptoError, UnicodeDecodeError):
            return None

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)})"


def seal(public_key: str, key_id: str, merchant_id: str, application_key: str) -> str:
    """Seal an application key the way producers do; opening it takes our private key.

    `public_key` is base64url, as `occ keygen` prints it. ValueError if it is not a key, or if an argument is empty.
    """
    recipient = _decode(public_key)
    if recipient is None or len(recipient) != _KEY_BYTES:
        raise ValueError(f"a public key is base64url of {_KEY_BYTES} bytes")
    if not KEY_ID.fullmatch(key_id):
        raise ValueError("a key id has 1 to 32 letters, digits, dashes or underscores")
    if not merchant_id or not application_key:
        raise ValueError("sealing needs a merchant id and an application key")
    content = json.dumps({"merchant_id": merchant_id, "application_key": application_key})
    try:
        box = SealedBox(PublicKey(recipient)).encrypt(content.encode())
    except (CryptoError, RuntimeError):
        # libsodium refuses points of small order: nobody could hold the private half.
        raise ValueError("that public key cannot be sealed to") from None
    return f"sealed.v1.{key_id}.{_encode(box)}"


def is_sealed(text: str) -> bool:
    """Whether this is meant to be a sealed key, whatever an editor or a program has put around it."""
    return text.startswith("sealed.") or _SEALED_WITHIN.search(text) is not None


def key_id_of(sealed: str) -> str | None:
    """Which key pair a sealed key needs; None if it does not say."""
    try:
        return _parts_of(sealed)[0]
    except RequestRefused:
        return None


def _parts_of(sealed: str) -> tuple[str, bytes]:
    """The key id and the box of a sealed key."""
    if len(sealed) > MAX_SEALED_LENGTH:
        raise _refused("too_large", f"a sealed application key has at most {MAX_SEALED_LENGTH} characters")
    kind, _, rest = sealed.strip().partition(".")
    if kind != "sealed" and is_sealed(sealed):
        raise _refused(
            "malformed",
            "it is sealed, but something stands in front of it or around it (a byte order mark, quotes, a word): send "
            "what sealing gave, from `sealed.` to its end, and nothing else",
        )
    if kind != "sealed":
        raise _refused("not_sealed", f"a key in the clear is refused and was not kept; {_HOW_TO_SEAL}")
    version, _, rest = rest.partition(".")
    key_id, _, encoded = rest.partition(".")
    box = _decode(encoded)
    if version != "v1" or not KEY_ID.fullmatch(key_id) or box is None:
        raise _refused(
            "malformed",
            f"it must look like `sealed.v1.<key id>.<base64url>`, with - and _, not + and /; {_HOW_TO_SEAL}",
        )
    return key_id, box


def _content_of(opened: bytes) -> tuple[str, str]:
    """The merchant id and the application key inside a box that opened."""
    try:
        content = json.loads(opened)
    except (ValueError, RecursionError):
        content = None
    match content:
        case {"merchant_id": str(merchant_id), "application_key": str(application_key), **extra} if not extra:
            return merchant_id, application_key
    raise _refused(
        "malformed",
        'it opens, but must hold JSON with exactly the texts "merchant_id" and "application_key", in UTF-8; '
        + _HOW_TO_SEAL,
    ) from None


def _refused(code: str, remedy: str) -> RequestRefused:
    return RequestRefused(_FIELD, code, remedy)


def _token_context(merchant_id: str) -> bytes:
    return b"occ-connect access token v1\0" + _bytes(merchant_id)


def _bytes(text: str) -> bytes:
    # JSON from a store or a producer may hold half a surrogate pair, which plain UTF-8 refuses.
    return text.encode(errors="surrogatepass")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    """Base64url with or without padding; None for anything else, also for its near relative with + and /."""
    if not _BASE64URL.fullmatch(text):
        return None
    bare = text.rstrip("=")
    try:
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except ValueError:
        return None
