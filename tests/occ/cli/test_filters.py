"""Which connections match a filter. Pure."""

import click
import pytest

from integrations.connections.record import Cause, Connection
from occ.cli.options import Filters, FindingCode
from occ.simulator.clocks import StoppedClock
from tests.integrations.oracle_commerce.by_hand import RecordsInMemory
from tests.integrations.oracle_commerce.recorded import Worker


def a_connection(*, failing: str | None = None) -> Connection:
    records = RecordsInMemory(StoppedClock(1_795_435_200.0))
    Worker(records).connect(failing={"order-update": Cause(failing)} if failing else None)
    return records.connection


FINE, AMISS = a_connection(), a_connection(failing="slot_refused")


@pytest.mark.parametrize(
    ("filters", "matching"),
    [
        (Filters(), [FINE, AMISS]),
        (Filters(statuses=("degraded",)), [AMISS]),
        (Filters(statuses=("degraded", "active")), [FINE, AMISS]),
        (Filters(statuses=("unreachable",)), []),
        (Filters(findings=("slot_refused", "key_rejected")), [AMISS]),
        (Filters(findings=("key_rejected",)), []),
        (Filters(hosts=("ccadmin-z1a2.oracleoutsourcing.com",)), [FINE, AMISS]),
        (Filters(hosts=("CCADMIN-*",)), [FINE, AMISS]),
        (Filters(hosts=("*.example.com",)), []),
        (Filters(statuses=("active",), findings=("slot_refused",)), []),
    ],
)
def test_any_value_of_every_kind_has_to_match(filters: Filters, matching: list[Connection]) -> None:
    assert [connection for connection in (FINE, AMISS) if filters.match(connection)] == matching


def test_a_misspelt_finding_is_not_quietly_nothing() -> None:
    with pytest.raises(click.BadParameter, match="did you mean slot_refused"):
        FindingCode().convert("slot_refusd", None, None)
    with pytest.raises(click.BadParameter) as refused:
        FindingCode().convert("hunter2", None, None)
    assert "hunter2" not in str(refused.value)
