"""The slots of one store and what a write does to them.

A list or a map in a write replaces the stored one, an absent field stays (occ-api.md 3.4). Nothing is merged, nothing
is locked, and the secret belongs to the name: production and publishing share it.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from occ.simulator.spelling import Spelling

PLAIN_IDS = ("order-submit", "order-update", "shipment-create", "shipment-update")
REAL_NAMES = ("submitOrder", "submitOrderForNonPCITargets", "registerProfile", "updateProfile", "publishEvent")
REAL_IDS = tuple(f"{server}-{name}" for name in REAL_NAMES for server in ("production", "publishing"))
ALL_IDS = PLAIN_IDS + REAL_IDS

WHOLE_NUMBERS = ("maxNumberOfResendAttempts", "resendDelaySeconds", "subEntityTruncationSize")
QUOTED_NUMBERS = ("maxNumberOfResendAttempts", "resendDelaySeconds")
SWITCHES = ("applyResendDelayToFirstAttempt", "includeChangesOnly")
MAPS = ("headers", "basicAuthentication")
LISTS = ("urls", "urlApplicationSuppressionList")
WRITABLE = frozenset((*WHOLE_NUMBERS, *SWITCHES, *MAPS, *LISTS))
MASK = "********"


class UnknownSlotError(Exception):
    """The store has no slot under this id."""


class BadWriteError(Exception):
    """The body of a write is not acceptable; the error code is invented, Oracle publishes none."""

    def __init__(self, message: str, error_code: str) -> None:
        super().__init__(message)
        self.error_code = error_code


@dataclass(frozen=True, slots=True)
class Shaping:
    """How this tenant writes its slots into answers; all of it is seen or documented somewhere."""

    quoted_numbers: bool = True
    body_style: str = "urls"  # "url": one target per slot, as function webhooks have it
    masked_credentials: bool = False
    ids: str = "as_they_are"  # or "upper"


@dataclass(slots=True)
class Slot:
    """One webhook position: what it carries, and which of that somebody else put there."""

    id: str
    name: str
    server_type: str
    display_name: str
    fields: dict[str, object]
    missing: frozenset[str] = frozenset()
    foreign_urls: set[str] = field(default_factory=set)
    foreign_settings: set[str] = field(default_factory=set)

    @property
    def urls(self) -> list[str]:
        """The targets, in the store's order."""
        urls = self.fields.get("urls")
        return [str(url) for url in urls] if isinstance(urls, list) else []

    def replace_urls(self, urls: Iterable[str]) -> None:
        """What the store sends to from now on."""
        self.fields["urls"] = list(urls)
        self.missing -= {"urls"}


@dataclass(frozen=True, slots=True)
class Change:
    """What one write altered."""

    fields: tuple[str, ...]
    added_urls: tuple[str, ...]
    removed_urls: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.fields)


def _new_slot(slot_id: str) -> Slot:
    server, dash, name = slot_id.partition("-")
    if not dash or server not in ("production", "publishing"):
        server, name = "production", slot_id
    # Some releases show the resource key instead of the text (occ-api.md 3.2).
    raw = f"atg.service.webhook.Resources->webHookDisplayName_{name}"
    display = raw if server == "publishing" else f"{name} - Production"
    return Slot(slot_id, name, server, display, _empty_fields())


def _empty_fields() -> dict[str, object]:
    return {
        "urls": [],
        "headers": None,
        "maxNumberOfResendAttempts": 5,
        "resendDelaySeconds": 3600,
        "applyResendDelayToFirstAttempt": False,
        "includeChangesOnly": False,
        "subEntityTruncationSize": None,
        "urlApplicationSuppressionList": [],
    }


class Webhooks:
    """The catalogue of slots: fixed by the store, there is no create and no delete."""

    def __init__(self, ids: Iterable[str] = ALL_IDS, *, allows_http: bool = False) -> None:
        self.allows_http = allows_http
        self.spelling = Spelling()
        # made when first looked at: most of ten thousand stores are never asked for most of their slots
        self._slots: dict[str, Slot | None] = dict.fromkeys(ids)
        self._secrets: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[Slot]:
        return iter([self.find(slot_id) for slot_id in self._slots])

    def find(self, slot_id: str) -> Slot:
        """Raises UnknownSlotError."""
        if slot_id not in self._slots:
            raise UnknownSlotError(slot_id)
        slot = self._slots[slot_id]
        if slot is None:
            slot = self._slots[slot_id] = _new_slot(slot_id)
        return slot

    def remove(self, slot_id: str) -> None:
        """The store no longer offers it."""
        self._slots.pop(slot_id, None)

    def fill(self, slot_id: str, content: Mapping[str, object], *, own_prefix: str | None = None) -> None:
        """Put somebody else's content into a slot as it is, well formed or not.

        `missing` in it names fields left out of answers. URLs beginning with `own_prefix` do not count as foreign.
        """
        self._slots.setdefault(slot_id, None)
        slot = self.find(slot_id)
        missing = content.get("missing")
        slot.missing = frozenset(missing) if isinstance(missing, (list, tuple)) else slot.missing
        for name, value in content.items():
            if name == "displayName":
                slot.display_name = str(value)
            elif name != "missing":
                slot.fields[name] = value
                if name != "urls" and value is not None:
                    slot.foreign_settings.add(name)
        slot.foreign_urls.update(url for url in slot.urls if own_prefix is None or not url.startswith(own_prefix))

    def write(self, slot_id: str, body: object, *, style: str = "urls", store: bool = True) -> tuple[Slot, Change]:
        """Replace what the body names; returns the slot as it is then and what changed. `store=False` only tries.

        Raises UnknownSlotError, BadWriteError.
        """
        slot = self.find(slot_id)
        if not isinstance(body, Mapping):
            raise BadWriteError("The request body must be a JSON object.", "34001")
        fields = dict(body)
        if style == "url" and "url" in fields:
            fields["urls"] = [] if fields["url"] is None else [fields["url"]]
        wanted = {name: self._checked(name, value) for name, value in fields.items() if name in WRITABLE}
        change = _difference(slot, wanted)
        if not store:
            trial = Slot(slot.id, slot.name, slot.server_type, slot.display_name, {**slot.fields, **wanted})
            return trial, change
        slot.fields.update(wanted)
        slot.missing -= wanted.keys()
        return slot, change

    def _checked(self, name: str, value: object) -> object:
        if value is None:
            return None
        if name == "urls":
            return self._checked_urls(value)
        if name in WHOLE_NUMBERS:
            return _checked_number(name, value)
        kind = bool if name in SWITCHES else dict if name in MAPS else list
        if not isinstance(value, kind):
            raise BadWriteError(f"Invalid value for {name}.", "34004")
        return value

    def _checked_urls(self, value: object) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
            raise BadWriteError("urls must be an array of strings.", "34004")
        schemes = ("https", "http") if self.allows_http else ("https",)
        for url in value:
            parts = urlsplit(url)
            if parts.scheme not in schemes or not parts.hostname:
                raise BadWriteError(f"Invalid webhook URL: it must use {' or '.join(schemes)}.", "34002")
        return self.spelling.stored(value)

    def secret_of(self, slot: Slot) -> str:
        """base64, shared by all slots of one name."""
        return base64.b64encode(self._secrets.setdefault(slot.name, secrets.token_bytes(32))).decode()

    def reset_secret(self, slot_id: str) -> str:
        """A new secret for everybody who listens under this name. Raises UnknownSlotError."""
        slot = self.find(slot_id)
        self._secrets[slot.name] = secrets.token_bytes(32)
        return self.secret_of(slot)

    def shown(
        self,
        slot: Slot,
        *,
        shaping: Shaping,
        base_url: str,
        with_secret: bool = False,
        urls: Iterable[str] | None = None,
    ) -> dict[str, object]:
        """The slot as the body of an answer. `urls`: in place of those it has by now."""
        fields = dict(slot.fields)
        held = fields.get("urls") if urls is None else list(urls)
        fields["urls"] = self.spelling.shown(map(str, held)) if self.spelling.bends and isinstance(held, list) else held
        if shaping.quoted_numbers:
            # The documentation types these as integers, its sample quotes them (op-ccadmin-v1-webhooks-id-get.html).
            fields |= {name: str(fields[name]) for name in QUOTED_NUMBERS if isinstance(fields.get(name), int)}
        credentials = fields.get("basicAuthentication")
        if shaping.masked_credentials and isinstance(credentials, Mapping):
            fields["basicAuthentication"] = dict.fromkeys(credentials, MASK)
        if shaping.body_style == "url":
            shown = _list(fields.pop("urls"))
            fields["url"] = next(iter(shown), None)
        secret = self.secret_of(slot) if with_secret else None
        whole = {
            "id": slot.id.upper() if shaping.ids == "upper" else slot.id,
            "name": slot.name,
            "serverType": slot.server_type,
            "displayName": slot.display_name,
            **fields,
            "secretKey": secret,
            "secretKeySHA512": base64.b64encode(hashlib.sha512(secret.encode()).digest()).decode() if secret else None,
            "links": [{"rel": "self", "href": f"{base_url}/ccadmin/v1/webhooks/{slot.id}"}],
        }
        return {name: value for name, value in whole.items() if name not in slot.missing}


def _checked_number(name: str, value: object) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadWriteError(f"Invalid value for {name}.", "34004")
    if name == "subEntityTruncationSize" and not 100 <= value <= 50_000:
        raise BadWriteError("subEntityTruncationSize must be between 100 and 50000.", "34004")
    return value


def _difference(slot: Slot, wanted: Mapping[str, object]) -> Change:
    changed = tuple(name for name, value in wanted.items() if not _same(name, slot.fields.get(name), value))
    before = slot.urls
    after = [str(url) for url in _list(wanted["urls"])] if "urls" in wanted else before
    return Change(
        changed,
        tuple(url for url in after if url not in before),
        tuple(url for url in before if url not in after),
    )


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _same(name: str, before: object, after: object) -> bool:
    if name in WHOLE_NUMBERS and None not in (before, after):
        return str(before) == str(after)
    return before == after
