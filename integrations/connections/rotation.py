"""Sealing all application keys anew for the newest sealing key, online, until an older one is not needed any more.

A sealed key says which key pair it needs, so the records themselves are the progress: whoever starts again after a kill
skips what is done. A key that a merchant sends meanwhile is never overwritten by an older one.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from integrations.connections.sealed_keys import Place, SealedKeys
from integrations.errors import RequestRefused
from integrations.sealing.keyring import Keyring, key_id_of

_PASSES = 5
_NAMED = 20


@dataclass(slots=True)
class Progress:
    """How far a rotation is. `unreadable`: merchants whose key no active key pair opens; only they can send another."""

    looked_at: int = 0
    resealed: int = 0
    unreadable: set[str] = field(default_factory=set)

    def named(self) -> list[str]:
        """A few of the merchants in `unreadable`."""
        return sorted(self.unreadable)[:_NAMED]


class Rotation:
    """Rotates the keys that application keys are sealed to."""

    def __init__(self, sealed_keys: SealedKeys, keyring: Keyring) -> None:
        self._sealed_keys = sealed_keys
        self._keyring = keyring

    def run(self, report: Callable[[Progress], object]) -> Progress:
        """Seal everything to the newest key; `tell` hears how far it is after every page.

        Goes round again while connects under an older key keep coming in, a few times at most. Raises TransientError
        or redis.RedisError when the server does not take it; what was done stays done.
        """
        progress = Progress()
        for _ in range(_PASSES):
            progress.looked_at = 0
            left = sum(self._reseal(page, progress, report) for page in self._sealed_keys.pages())
            if not left:
                break
        self.confirm()
        return progress

    def confirm(self) -> None:
        """Wait until what was sealed anew is on disk: an older key must not be needed again after a power cut."""
        self._sealed_keys.confirm(self._keyring.newest.key_id)

    def needed(self) -> Counter[str | None]:
        """How many records need each key pair, by key id; None for what is not a sealed key."""
        return Counter(key_id_of(sealed) for page in self._sealed_keys.pages() for sealed in page.values())

    def _reseal(self, page: dict[Place, str], progress: Progress, report: Callable[[Progress], object]) -> int:
        """Returns how many were there to be sealed anew, whoever did it."""
        newest = self._keyring.newest.key_id
        replacements: dict[Place, tuple[str, str]] = {}
        for place, sealed in page.items():
            if key_id_of(sealed) == newest:
                continue
            try:
                replacements[place] = sealed, self._keyring.reseal(sealed, place.merchant_id)
            except RequestRefused:
                progress.unreadable.add(place.merchant_id)
        progress.resealed += self._sealed_keys.replace(replacements)
        progress.looked_at += len(page)
        report(progress)
        return len(replacements)
