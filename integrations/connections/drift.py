"""What can have changed in a slot that was in order, and what is remembered of it. Pure.

`Seen` holds names and short hashes: enough to notice that something has gone, too little to give anything away.
"""

from dataclasses import dataclass
from enum import StrEnum


class Drift(StrEnum):
    """What happened to a slot that was in order."""

    URL_MISSING = "url_missing"
    URL_DUPLICATED = "url_duplicated"
    URL_CHANGED = "url_changed"  # somebody rewrote ours: http, another end, a query
    FORMER_URL = "former_url"  # ours from before OCC_CALLBACK_URL changed is in it
    SLOT_GONE = "slot_gone"  # the store no longer offers it
    PREVIEW_ONLY = "preview_only"  # only its twin on the preview server carries our URL
    URLS_ALTERED = "urls_altered"  # a write of ours made something else of somebody else's URL
    SETTINGS_LOST = "settings_lost"  # a header or the basic authentication is gone
    SECRET_RESET = "secret_reset"  # noqa: S105 - a name; seen only where the store shows the secret or its hash


MENDABLE = frozenset({Drift.URL_MISSING, Drift.URL_DUPLICATED, Drift.URL_CHANGED, Drift.FORMER_URL, Drift.PREVIEW_ONLY})
"""What a registration mends. The rest is not ours to write: headers, credentials and the secret are shared."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A slot as it was when it was last in order, without a single value.

    `secret`: which property showed one, and a short SHA-256 of what it showed; empty if none was readable. `alike`:
    short SHA-256 of URLs beside ours that resemble it: they were there before, so they are somebody else's. `others`:
    how many URLs of others there were.
    """

    headers: tuple[str, ...] = ()
    basic_authentication: bool = False
    secret: str = ""
    alike: tuple[str, ...] = ()
    others: int = 0
