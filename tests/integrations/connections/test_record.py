"""Statuses, findings and due times are read from the record, and from nothing else."""

from dataclasses import replace
from itertools import product

import pytest

from integrations.connections.findings import findings_of
from integrations.connections.record import (
    Cause,
    Claim,
    Connection,
    ConnectionStatus,
    Credential,
    KeyVerdict,
    ShippingMethods,
    ShippingVerdict,
    Slot,
    SlotStatus,
    Step,
    Target,
    Trouble,
    Work,
)
from tests.integrations.oracle_commerce.fakes import NOON, SLOTS, disconnected_one, slot

REGISTERED = Slot(verdict=SlotStatus.REGISTERED)
FAILED = Slot(verdict=SlotStatus.FAILED, cause=Cause("slot_refused", "HTTP 400"))
CONFIGURED = ShippingMethods(ShippingVerdict.CONFIGURED, 2)
UNREACHED = Trouble(Cause("store_timeout"), passing=True)
ENDED = Trouble(Cause("permission_denied", "HTTP 403"), passing=False)


def healthy(**changes: object) -> Connection:
    """A connection whose slots are all registered, waiting for its re-validation."""
    connection = Connection(
        merchant_id="m-1",
        store_url="https://ccadmin-z1.oracleoutsourcing.com",
        run=1,
        started_at=NOON,
        updated_at=NOON,
        credential=Credential("0" * 16, verdict=KeyVerdict.VALID),
        step=Step.VALIDATE_KEY,
        work=Work(NOON + 60, NOON + 60),
        shipping_methods=CONFIGURED,
        slots=dict.fromkeys(SLOTS, REGISTERED),
    )
    return replace(connection, **changes)  # type: ignore[arg-type]


def key(verdict: KeyVerdict) -> Credential:
    return Credential("0" * 16, verdict=verdict)


@pytest.mark.parametrize(
    ("connection", "status"),
    [
        (healthy(), "active"),
        (disconnected_one(healthy()), "disconnected"),
        (disconnected_one(healthy(credential=key(KeyVerdict.REJECTED))), "disconnected"),
        (healthy(credential=key(KeyVerdict.REJECTED)), "needs_reauthorisation"),
        (healthy(credential=key(KeyVerdict.REJECTED), trouble=UNREACHED), "needs_reauthorisation"),
        (healthy(credential=key(KeyVerdict.DOUBTED)), "active"),
        (healthy(trouble=UNREACHED), "unreachable"),
        (healthy(trouble=UNREACHED, shipping_methods=ShippingMethods(ShippingVerdict.MISSING, 0)), "unreachable"),
        (healthy(trouble=ENDED), "degraded"),
        (healthy(shipping_methods=ShippingMethods(ShippingVerdict.MISSING, 0)), "degraded"),
        (healthy(shipping_methods=ShippingMethods()), "onboarding"),
        (healthy(slots={**healthy().slots, "order-submit": Slot()}), "onboarding"),
        (healthy(slots={**healthy().slots, "order-submit": FAILED}), "degraded"),
        (healthy(slots={**healthy().slots, "order-submit": Slot(verdict=SlotStatus.CONTESTED)}), "degraded"),
        (healthy(slots={**healthy().slots, "order-submit": Slot(verdict=SlotStatus.NOT_OFFERED)}), "degraded"),
        (
            healthy(slots={**healthy().slots, "order-submit": Slot(required=False, verdict=SlotStatus.NOT_OFFERED)}),
            "active",
        ),
        (healthy(slots={**healthy().slots, "order-submit": replace(FAILED, required=False)}), "degraded"),
        (healthy(cause=Cause("store_timeout")), "active"),
    ],
)
def test_the_status_follows_from_the_record(connection: Connection, status: str) -> None:
    assert connection.status == status


def test_being_unreachable_never_asks_for_a_new_key() -> None:
    for verdict in (KeyVerdict.PENDING, KeyVerdict.VALID, KeyVerdict.DOUBTED):
        for trouble, cause in product((None, UNREACHED), (None, Cause("store_unreachable"))):
            connection = healthy(credential=key(verdict), trouble=trouble, cause=cause)
            assert connection.status is not ConnectionStatus.NEEDS_REAUTHORISATION


@pytest.mark.parametrize(
    ("slot", "status", "attempts", "next_attempt_at"),
    [
        (Slot(), "pending", 0, None),
        (Slot(work=Work(NOON, NOON + 60)), "pending", 0, None),
        (Slot(work=Work(NOON, NOON + 60, 1, 0, Claim("w", NOON + 60, NOON))), "pending", 1, None),
        (Slot(work=Work(NOON + 9, NOON + 9, 3), cause=Cause("store_busy")), "retrying", 3, NOON + 9),
        (
            Slot(work=Work(NOON, NOON, 4, 0, Claim("w", NOON + 9, NOON)), cause=Cause("store_busy")),
            "retrying",
            4,
            None,
        ),
        (Slot(verdict=SlotStatus.REGISTERED, last_attempts=2), "registered", 2, None),
        (
            Slot(verdict=SlotStatus.REGISTERED, work=Work(NOON + 9, NOON + 9, 1), cause=Cause("store_busy")),
            "registered",
            1,
            NOON + 9,
        ),
        (Slot(verdict=SlotStatus.FAILED, last_attempts=8, cause=Cause("store_busy")), "failed", 8, None),
    ],
)
def test_a_slots_status_follows_from_the_record(
    slot: Slot, status: str, attempts: int, next_attempt_at: float | None
) -> None:
    assert (slot.status, slot.attempts, slot.next_attempt_at) == (status, attempts, next_attempt_at)


def codes(connection: Connection) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.slot) for finding in findings_of(connection)]


def test_a_healthy_connection_has_no_findings() -> None:
    assert codes(healthy()) == []


def test_findings_name_the_connections_trouble_first_and_then_each_slot() -> None:
    connection = healthy(
        credential=key(KeyVerdict.DOUBTED),
        cause=Cause("key_rejected"),
        shipping_methods=ShippingMethods(ShippingVerdict.MISSING, 0),
        slots={**healthy().slots, "order-update": FAILED},
    )
    assert codes(connection) == [
        ("key_doubted", None),
        ("no_shipping_methods", None),
        ("slot_refused", "order-update"),
    ]


def test_a_finding_says_when_we_try_again() -> None:
    (finding,) = findings_of(healthy(trouble=UNREACHED))
    assert finding.next_attempt_at == NOON + 60
    waiting = Slot(work=Work(NOON + 9, NOON + 9, 3), cause=Cause("store_busy", "HTTP 429"))
    connection = healthy(step=Step.REGISTER_SLOT, work=None, slots={"order-submit": waiting})
    (finding,) = findings_of(connection)
    assert (finding.detail, finding.slot, finding.next_attempt_at) == ("HTTP 429", "order-submit", NOON + 9)


def test_a_rejected_key_is_not_explained_by_a_later_timeout() -> None:
    connection = healthy(
        credential=key(KeyVerdict.REJECTED), cause=Cause("store_timeout", "no whole answer within 35 s")
    )
    (rejected, *_) = findings_of(connection)
    assert rejected.code == "key_rejected"
    assert "no whole answer" not in rejected.detail


def test_work_is_only_that_of_the_stage_the_connection_is_at() -> None:
    waiting = Slot(work=Work(NOON, NOON + 60))
    validating = healthy(slots={"order-submit": waiting})
    assert validating.work_on(slot("order-submit")) is None
    assert validating.work_on(Target(Step.CHECK_SHIPPING_METHODS)) is None
    assert validating.due() == {None: NOON + 60}
    registering = replace(validating, step=Step.REGISTER_SLOT, work=None)
    assert registering.work_on(Target(Step.VALIDATE_KEY)) is None
    assert registering.work_on(slot("no-such-slot")) is None
    assert registering.due() == {"order-submit": NOON + 60}


def test_a_disconnected_connection_has_no_work_and_no_due_time() -> None:
    connection = disconnected_one(healthy(slots={"order-submit": Slot(work=Work(NOON, NOON))}))
    assert connection.due() == {}
    assert connection.due_at is None
    assert connection.ready(NOON + 1e6) == set()
    assert connection.work_on(Target(Step.VALIDATE_KEY)) is None


def test_the_edges_of_a_lease_and_of_a_wait_belong_to_the_next_worker() -> None:
    held = Work(NOON, NOON + 60, claim=Claim("w", until=NOON + 60, since=NOON))
    assert held.is_held(NOON + 59.999)
    assert not held.is_held(NOON + 60)
    waiting = Work(NOON + 9, NOON + 9)
    assert not waiting.is_ready(NOON + 8.999)
    assert waiting.is_ready(NOON + 9)


def test_a_hint_is_not_too_early_for_a_reader_whose_time_is_behind() -> None:
    """Else nobody would take the work up before its lease has passed."""
    hinted = Work(not_before=NOON, due_at=NOON + 60)
    assert hinted.is_ready(NOON - 0.05)
    assert not replace(hinted, claim=Claim("worker", until=NOON + 60, since=NOON)).is_ready(NOON - 0.05)
