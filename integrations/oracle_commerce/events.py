"""Events for other systems: one CloudEvent for every change of a connection's status. Pure."""

from datetime import UTC, datetime

from integrations.oracle_commerce.causes import explain
from integrations.oracle_commerce.connection import Connection, ConnectionStatus

_TROUBLED = {ConnectionStatus.DEGRADED, ConnectionStatus.UNREACHABLE, ConnectionStatus.NEEDS_REAUTHORISATION}


def status_event(before: Connection | None, after: Connection, *, version: int, now: float) -> dict[str, object] | None:
    """The CloudEvents 1.0 JSON object about a new status, None if the status stayed.

    `id` is the same however often the event is delivered; `sequence` grows with every event of one merchant.
    """
    was = before.status if before else None
    if after.status is was:
        return None
    recovered = after.status is ConnectionStatus.ACTIVE and was in _TROUBLED
    return {
        "specversion": "1.0",
        "id": f"{after.merchant_id}.{version}",
        "source": "occ-connect",
        "type": f"occ.connection.{'recovered' if recovered else after.status}",
        "subject": after.merchant_id,
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "sequence": f"{version:012d}",
        "datacontenttype": "application/json",
        "data": {
            "merchant_id": after.merchant_id,
            "store_url": after.store_url,
            "run": after.run,
            "status": after.status,
            "previous_status": was,
            "findings": [
                {"code": finding.code, "slot": finding.slot, "actor": explain(finding.code).actor}
                for finding in after.findings
            ],
        },
    }
