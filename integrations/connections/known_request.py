"""A request and what became of it, as it is remembered by its id. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as fields_of
from typing import Any, Self

from integrations.errors import RequestRefused

TAKING, SCHEDULED, REFUSED = "taking", "scheduled", "refused"


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A request, and what became of it.

    `request`: connect, revalidate, disconnect or heard. `reference`: the id of the inbox entry or Celery message.
    `digest`: of what it asks for; "" where it could not be read.
    `outcome`: `taking`, `scheduled`, `refused`, or what was answered. `run`: the one that began, or was under way.
    `due_at`: of one that waits. `at`: when this was written, by the server's clock. All times are epoch seconds.
    """

    request: str
    door: str
    outcome: str = TAKING
    request_id: str = ""
    reference: str = ""
    merchant_id: str | None = None
    digest: str = ""
    run: int | None = None
    due_at: float | None = None
    field: str | None = None
    code: str | None = None
    remedy: str | None = None
    at: float = 0.0

    def refused(self, refusal: RequestRefused) -> Self:
        """The same, refused."""
        return replace(self, outcome=REFUSED, field=refusal.field, code=refusal.code, remedy=refusal.remedy)

    def text(self) -> str:
        """As it is stored."""
        fields = {name: value for name, value in asdict(self).items() if value not in {None, ""} and name != "at"}
        return json.dumps({"digest": "", **fields})


def digest_of(*content: object) -> str:
    """The same for the same content."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def known_request_in(text: str) -> KnownRequest:
    """The stored request again; what a newer release has added is left out."""
    stored: Mapping[str, Any] = json.loads(text)
    known = {field.name for field in fields_of(KnownRequest)}
    return KnownRequest(**{name: value for name, value in stored.items() if name in known})
