"""How long things wait: the paces of claims, retries and re-validations. Pure.

All durations are seconds.
"""

import hashlib
from dataclasses import dataclass

from integrations.oracle_commerce.connection import Connection, ConnectionStatus


@dataclass(frozen=True, slots=True)
class Pace:
    """The durations that the record's transitions need, from the settings."""

    lease: float = 60.0
    retry_attempts: int = 8
    confirm_rejection: float = 300.0
    second_look: float = 300.0
    recheck_degraded: float = 3600.0
    revalidate_every: float = 86400.0

    def next_look(self, connection: Connection, now: float) -> float:
        """When a connection whose slots all have an outcome is looked at again.

        Soon after a registration, for a store may drop it; after a while if something is amiss; else at the merchant's
        own moment of the period, so that load is even and a restart moves nobody.
        """
        # Not before a second look would come: what was established just now need not be asked again.
        regular = next_in_phase(connection.merchant_id, self.revalidate_every, now + self.second_look)
        if connection.status is not ConnectionStatus.ACTIVE:
            return min(now + self.recheck_degraded, regular)
        if connection.wrote_to_store:
            return min(now + self.second_look, regular)
        return regular


def next_in_phase(merchant_id: str, period: float, now: float) -> float:
    """The next moment after `now` that belongs to this merchant in every period."""
    digest = hashlib.sha256(merchant_id.encode()).digest()
    offset = int.from_bytes(digest[:8]) / 2**64 * period
    return now + period - (now - offset) % period
