"""The second act of the demo: shoppers order something, and what receives the orders fails for one merchant."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from integrations.connections.findings import Finding, findings_of
from integrations.connections.record import Connection, ConnectionStatus, SlotStatus
from occ.demo.stage import Merchant, Stage

_MOST = 24
_WITHIN = 60.0
_CHECK_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Orders:
    """What came of the orders, by the parts' names: which were `heard`, and whose receiver `failing`, if anybody's."""

    heard: Sequence[str]
    slots: int
    failing: str | None
    found: str
    differences: Sequence[str]

    def as_object(self) -> dict[str, object]:
        """For programs."""
        return {"heard": list(self.heard), "slots_heard": self.slots, "failing": self.failing, "found": self.found}


def place_orders(stage: Stage, pause: Callable[[float], None]) -> Orders:
    """An order at each store that is connected; the last one's receiver fails, and a re-validation finds that out."""
    merchants = [one for one in stage.merchants if one.part.is_healthy][:_MOST]
    connections = _connections(stage, merchants)
    merchants = [one for one in merchants if _is_connected(connections.get(one.id))]
    failing = merchants.pop() if len(merchants) > 1 else None
    if failing is not None:
        stage.receiver.failing.add(failing.id)
    for merchant in [*merchants, *([failing] if failing else [])]:
        stage.order(merchant)
    differences = _await(lambda: _unheard(stage, merchants), pause, "was not heard from")
    found = ""
    if failing is not None:
        differences += _await(lambda: [] if stage.given_up(failing) else [failing.part.name], pause, "gave up nothing")
        stage.revalidate(failing)
        differences += _await(lambda: _unfound(stage, failing), pause, "was not found to fail")
        found = ", ".join(dict.fromkeys(finding.detail.rpartition(": ")[2] for finding in _failures(stage, failing)))
    slots = sum(len(_registered(connections[one.id])) for one in merchants)
    name = failing.part.name if failing else None
    return Orders([one.part.name for one in merchants], slots, name, found, differences)


def outcome_lines(orders: Orders) -> list[str]:
    """In words, a line each."""
    stores = "1 store" if len(orders.heard) == 1 else f"{len(orders.heard)} stores"
    lines = [f"An order at each: {stores} heard from, {orders.slots} slots; the whole way works."]
    if orders.failing is not None:
        lines.append(
            f"What receives the orders of {orders.failing} failed: deliveries_failing ({orders.found}), found by one "
            "re-validation; operator acts."
        )
    return lines


def _connections(stage: Stage, merchants: Sequence[Merchant]) -> Mapping[str, Connection]:
    snapshots = stage.records.load_many([one.id for one in merchants]) if merchants else []
    return {
        one.id: snapshot.connection
        for one, snapshot in zip(merchants, snapshots, strict=True)
        if snapshot.connection is not None
    }


def _is_connected(connection: Connection | None) -> bool:
    return connection is not None and connection.status is ConnectionStatus.ACTIVE


def _registered(connection: Connection) -> list[str]:
    return [name for name, slot in connection.slots.items() if slot.status is SlotStatus.REGISTERED]


def _unheard(stage: Stage, merchants: Sequence[Merchant]) -> list[str]:
    connections = _connections(stage, merchants)
    return [
        one.part.name
        for one in merchants
        if any(connections[one.id].slots[name].heard_at is None for name in _registered(connections[one.id]))
    ]


def _failures(stage: Stage, merchant: Merchant) -> list[Finding]:
    connection = _connections(stage, [merchant])[merchant.id]
    return [finding for finding in findings_of(connection) if finding.code == "deliveries_failing"]


def _unfound(stage: Stage, merchant: Merchant) -> list[str]:
    return [] if _failures(stage, merchant) else [merchant.part.name]


def _await(left: Callable[[], Sequence[str]], pause: Callable[[float], None], what: str) -> list[str]:
    """Until nobody is left; else whoever is, in a sentence each."""
    until = time.monotonic() + _WITHIN
    while names := left():
        if time.monotonic() > until:
            return [f"{name}: {what}" for name in names]
        pause(_CHECK_EVERY)
    return []
