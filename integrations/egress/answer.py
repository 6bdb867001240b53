"""An HTTP answer as plain data, for those who judge it without having made the call."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """What a store answered, whole and decompressed."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Looked up without regard to case."""
    body: bytes = field(repr=False)
    received_at: float
    """Epoch seconds; only dates a Retry-After."""
