"""How long things wait: the paces of claims, retries and re-validations. Pure.

All durations are seconds.
"""

import hashlib
from dataclasses import dataclass

from integrations.connections.record import DAY, Connection, ConnectionStatus

EXPIRY_WARNINGS = (30, 14, 7, 1)
"""Days before an application key expires at which an event says so."""

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class Pace:
    """The durations that the record's transitions need, from the settings."""

    lease: float
    retry_attempts: int
    confirm_rejection: float
    second_look: float
    recheck_degraded: float
    patience: float  # the longest wait within one re-validation
    revalidate_every: float
    repairs_per_day: int
    clean_up_for: float

    def next_revalidation(self, connection: Connection, now: float) -> float:
        """When a connection whose slots all have an outcome is re-validated.

        Soon after a registration, for a store may drop it; after a while if something is amiss; else at the
        connection's own moment of the period, so that load is even and a restart moves nobody.
        """
        # Not before a second re-validation would come: what was established just now need not be checked again.
        regular = next_in_phase(phase_of(connection), self.revalidate_every, now + self.second_look)
        if connection.status is not ConnectionStatus.ACTIVE:
            return min(self.next_try(connection, now), regular)
        times = [regular]
        if connection.wrote_to_store:
            times.append(now + self.second_look)
        if (warning := _next_expiry_warning(connection.credential.expires_at, now)) is not None:
            times.append(max(warning, now + self.second_look))
        return min(times)

    def next_try(self, connection: Connection, now: float) -> float:
        """When a connection in trouble is re-validated: less and less often, but several times a period."""
        rarest = max(self.recheck_degraded, self.revalidate_every / 4)
        return now + min(self.recheck_degraded * 2.0 ** min(connection.failed_revalidations, 30), rarest)


def days_left_to_report(expires_at: float | None, now: float) -> int | None:
    """The warning that is due for a key: the fewest days of `EXPIRY_WARNINGS` that are not yet undercut.

    None for a key that has expired: there is nothing left to warn of, and the store decides whether it still works.
    """
    if expires_at is None or expires_at <= now:
        return None
    return min((days for days in EXPIRY_WARNINGS if expires_at - now <= days * DAY), default=None)


def _next_expiry_warning(expires_at: float | None, now: float) -> float | None:
    if expires_at is None:
        return None
    moments = (expires_at - days * DAY for days in EXPIRY_WARNINGS)
    return min((moment for moment in moments if moment > now), default=None)


def spread_phase(number: int) -> float:
    """The place in the period of the connection that comes after `number` others.

    Steps of the golden ratio fill a period evenly, however many there are. Places taken from a hash of the merchant id
    do not: of 100,000 connections in a day, the fullest minute would get 1.4 times its share.
    """
    return number * _GOLDEN % 1.0


def phase_of(connection: Connection) -> float:
    """The connection's place in every period, 0 to 1; that of a record without one is given by its merchant id."""
    if connection.phase is not None:
        return connection.phase
    digest = hashlib.sha256(connection.merchant_id.encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def next_in_phase(phase: float, period: float, now: float) -> float:
    """The next moment after `now` that has this place in its period."""
    offset = phase * period
    return now + period - (now - offset) % period
