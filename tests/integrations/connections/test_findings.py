"""Every finding names its cause and when we try again; what is past, or nobody's business, is no finding."""

from dataclasses import replace

import pytest

from integrations.connections.causes import CAUSES
from integrations.connections.drift import Drift
from integrations.connections.findings import Finding, findings_of
from integrations.connections.record import (
    Candidate,
    Cause,
    Connection,
    ConnectionStatus,
    Credential,
    Disconnection,
    KeyVerdict,
    ShippingMethods,
    ShippingVerdict,
    Slot,
    SlotStatus,
    Step,
    Work,
)
from integrations.connections.status import status_object
from tests.integrations.connections.test_record import ENDED, FAILED, REGISTERED, UNREACHED, healthy
from tests.integrations.oracle_commerce.fakes import NOON, SLOTS, disconnected_one

NEXT = NOON + 60  # when the work of healthy() is due


def with_slot(slot: Slot, **changes: object) -> Connection:
    return healthy(slots={**healthy().slots, "order-submit": slot}, **changes)


def key(**changes: object) -> Credential:
    return replace(Credential("0" * 16, verdict=KeyVerdict.VALID), **changes)  # type: ignore[arg-type]


LEFT = Slot(verdict=SlotStatus.LEFT_BEHIND, cause=Cause("store_error", "HTTP 503"))
LOST = replace(REGISTERED, cause=Cause("settings_lost", "X-Key"), drift=(Drift.SETTINGS_LOST,))
CONTESTED = Slot(verdict=SlotStatus.CONTESTED, cause=Cause("slot_contested", "3 repairs in a day"))

CASES: dict[str, tuple[Connection, list[Finding]]] = {
    "nothing": (healthy(), []),
    "a rejected key": (
        healthy(credential=key(verdict=KeyVerdict.REJECTED), cause=Cause("key_rejected", "HTTP 401")),
        [Finding("key_rejected", "HTTP 401", next_attempt_at=NEXT)],
    ),
    "a doubted key": (
        healthy(credential=key(verdict=KeyVerdict.DOUBTED), cause=Cause("key_doubted", "HTTP 401")),
        [Finding("key_doubted", next_attempt_at=NEXT)],
    ),
    "a new key that is being proven": (healthy(candidate=Candidate("1" * 16)), []),
    "a new key that is doubted": (
        healthy(candidate=Candidate("1" * 16, doubted_since=NOON), cause=Cause("new_key_doubted", "HTTP 401")),
        [Finding("new_key_doubted", next_attempt_at=NEXT)],
    ),
    "a new key that was turned down": (
        healthy(key_refusal=Cause("permission_denied", "HTTP 403")),
        [Finding("new_key_rejected", "HTTP 403")],
    ),
    "a new key that was turned down for a reason without evidence": (
        healthy(key_refusal=Cause("key_rejected")),
        [Finding("new_key_rejected", "key_rejected")],
    ),
    "a key that expires": (healthy(credential=key(expiry_reported=7)), [Finding("key_expiring", "7 days or less")]),
    "a key on its last day": (healthy(credential=key(expiry_reported=1)), [Finding("key_expiring", "1 day or less")]),
    "an outage": (healthy(trouble=UNREACHED), [Finding("store_timeout", next_attempt_at=NEXT)]),
    "an outage, in its retries": (
        healthy(trouble=UNREACHED, cause=Cause("store_error")),
        [Finding("store_timeout", next_attempt_at=NEXT)],
    ),
    "a verdict": (healthy(trouble=ENDED), [Finding("permission_denied", "HTTP 403", next_attempt_at=NEXT)]),
    "a look that is retried": (
        healthy(cause=Cause("store_busy", "HTTP 429")),
        [Finding("store_busy", "HTTP 429", next_attempt_at=NEXT)],
    ),
    "no shipping methods": (
        healthy(shipping_methods=ShippingMethods(ShippingVerdict.MISSING, 0)),
        [Finding("no_shipping_methods", next_attempt_at=NEXT)],
    ),
    "a failed slot": (
        with_slot(FAILED),
        [Finding("slot_refused", "HTTP 400", slot="order-submit", next_attempt_at=NEXT)],
    ),
    "a contested slot": (
        with_slot(CONTESTED),
        [Finding("slot_contested", "3 repairs in a day", slot="order-submit", next_attempt_at=NEXT)],
    ),
    "a setting that was lost": (
        with_slot(LOST),
        [Finding("settings_lost", "X-Key", slot="order-submit", next_attempt_at=NEXT)],
    ),
    "a drift that was mended": (with_slot(replace(REGISTERED, drift=(Drift.URL_MISSING,), repairs=(NOON,))), []),
    "a slot the settings no longer name": (with_slot(replace(CONTESTED, wanted=False)), []),
    "a disconnection that has left nothing": (disconnected_one(healthy(key_refusal=Cause("key_rejected"))), []),
    "a slot left behind for good": (
        with_slot(LEFT, disconnection=Disconnection(NOON, NOON), step=Step.DISCONNECT, work=None),
        [Finding("left_behind", "store_error", slot="order-submit")],
    ),
    "a slot left behind that is tried again": (
        with_slot(
            replace(LEFT, work=Work(NOON + 9, NOON + 9, 1)),
            disconnection=Disconnection(NOON, NOON + 99),
            step=Step.DISCONNECT,
            work=None,
        ),
        [Finding("left_behind", "store_error", slot="order-submit", next_attempt_at=NOON + 9)],
    ),
    "a slot left behind that the settings no longer name": (
        with_slot(
            replace(LEFT, wanted=False), disconnection=Disconnection(NOON, NOON), step=Step.DISCONNECT, work=None
        ),
        [Finding("left_behind", "store_error", slot="order-submit")],
    ),
    "a disconnection of a connection that was in trouble": (
        healthy(
            credential=key(verdict=KeyVerdict.REJECTED, expiry_reported=1),
            trouble=UNREACHED,
            disconnection=Disconnection(NOON, NOON + 99, ConnectionStatus.UNREACHABLE),
            step=Step.DISCONNECT,
            work=None,
        ),
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_there_is_to_report(case: str) -> None:
    connection, expected = CASES[case]
    assert list(findings_of(connection)) == expected


@pytest.mark.parametrize("case", CASES)
def test_every_finding_is_explained_and_none_names_a_moment_that_is_not_there(case: str) -> None:
    connection, expected = CASES[case]
    shown = status_object(connection)["findings"]
    assert isinstance(shown, list)
    assert [it["code"] for it in shown] == [it.code for it in expected]
    for finding in shown:
        assert finding["code"] in CAUSES
        assert finding["explanation"] == CAUSES[finding["code"]].sentence
        assert finding["next_attempt_at"] is None or connection.due_at is not None


def test_a_slot_the_settings_no_longer_name_neither_heals_nor_harms() -> None:
    for verdict in (SlotStatus.FAILED, SlotStatus.CONTESTED, SlotStatus.NOT_OFFERED, SlotStatus.REGISTERED):
        dropped = Slot(verdict=verdict, wanted=False, required=False)
        assert with_slot(dropped).status is ConnectionStatus.ACTIVE
        degraded = {**dict.fromkeys(SLOTS, FAILED), "order-submit": dropped}
        assert healthy(slots=degraded).status is ConnectionStatus.DEGRADED


@pytest.mark.parametrize("status", [it for it in ConnectionStatus if it is not ConnectionStatus.DISCONNECTED])
def test_a_connection_that_is_leaving_stays_what_it_was_until_every_slot_was_dealt_with(
    status: ConnectionStatus,
) -> None:
    removed = Slot(verdict=SlotStatus.REMOVED)
    leaving = healthy(disconnection=Disconnection(NOON, NOON + 99, status), step=Step.DISCONNECT, work=None)
    for done in range(len(SLOTS)):
        slots = {name: removed if number < done else REGISTERED for number, name in enumerate(SLOTS)}
        assert replace(leaving, slots=slots).status is status
    assert replace(leaving, slots=dict.fromkeys(SLOTS, removed)).status is ConnectionStatus.DISCONNECTED
