"""Many connections at rest, quickly, with the real record and without stores."""

from dataclasses import replace

from integrations.connections.change import Change
from integrations.connections.record import Connection
from integrations.connections.records import Records
from occ.simulator.clocks import StoppedClock
from tests.integrations.oracle_commerce.by_hand import RecordsInMemory
from tests.integrations.oracle_commerce.recorded import Worker


def rest(records: Records, *merchant_ids: str) -> None:
    """Each is connected, with its next look to come; what was asked of it is done."""
    for merchant_id in merchant_ids:
        records.change(merchant_id, lambda _, now, whose=merchant_id: Change(at_rest(whose, now)))  # type: ignore[misc]


def at_rest(merchant_id: str, now: float) -> Connection:
    """A connection that works."""
    records = RecordsInMemory(StoppedClock(now))
    Worker(records).connect()
    return replace(records.connection, merchant_id=merchant_id)


def asked(records: Records, merchant_id: str, what: str = "look_asked") -> list[float]:
    """When this was asked of a connection."""
    return [line["at"] for line in records.timeline(merchant_id) if line["what"] == what]
