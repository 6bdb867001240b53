"""The life of a connection as a table: what happens, and which status, findings and events come of it.

Each life is lived by the real code in one thread, on a stopped clock, at a simulated store. `tests/fault_matrix` has
every fault of a store; here are the turns of a life. Laws over any sequence are in `test_lifecycle_laws.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tests.integrations.oracle_commerce.by_hand import THEIRS, Desk, connected, ours
from tests.integrations.oracle_commerce.fakes import NOON, SLOTS

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SLOT = "order-submit"
OURS = ours(SLOT)
ALWAYS = {"times": "always"}
NARROW = {"fault": "forbidden_role", **ALWAYS}

Act = Callable[[Desk, SimulatedStore], object]


@dataclass(frozen=True)
class Turn:
    """What happens, how many seconds pass, and what is seen then.

    Findings and events are named one after the other; a finding of a slot is `code:slot`. `slots`: those that are not
    registered. `key`: what is thought of the application key, where the findings do not say so. `writes`: how often
    the store was written to meanwhile, if that matters.
    """

    act: Act
    seconds: float
    status: str
    findings: str = ""
    events: str = ""
    slots: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    writes: int | None = None

    @property
    def verdict(self) -> str:
        """On the application key."""
        of_findings = {"key_doubted": "doubted", "key_rejected": "rejected"}
        return self.key or next((it for code, it in of_findings.items() if code in self.findings.split()), "valid")


# --- What may happen --------------------------------------------------------------------------------------------------


def time_passes(_desk: Desk, _store: SimulatedStore) -> None:
    """Nothing else."""


def all_of(*acts: Act) -> Act:
    """One after the other."""
    return lambda desk, store: [act(desk, store) for act in acts]


def asks(**choice: object) -> Act:
    """Somebody asks for a re-validation."""
    return lambda desk, _: desk.revalidate(**choice)


def leaves(**choice: object) -> Act:
    """Somebody asks to disconnect."""
    return lambda desk, _: desk.disconnect(**choice)


def becomes(**settings: Any) -> Act:
    """The store changes."""
    return lambda _, store: store.change(**settings)


def changes(**settings: Any) -> Act:
    """The store changes, and somebody asks for a re-validation."""
    return all_of(becomes(**settings), asks())


def breaks(target: str, fault: Any) -> Act:
    """Calls fail from now on."""
    return lambda _, store: store.fail(target, fault)


def fails(target: str, fault: Any) -> Act:
    """Calls fail from now on, and somebody asks for a re-validation."""
    return all_of(breaks(target, fault), asks())


def heals(desk: Desk, store: SimulatedStore) -> None:
    """All is well at the store again."""
    store.heal()
    store.change(reachable=True, accept_keys=[store.application_key])


def holds(*urls: str, slot: str = SLOT) -> Act:
    """Somebody has put these into the slot, and only these."""
    return changes(slots={slot: {"urls": list(urls)}})


def connects(desk: Desk, store: SimulatedStore) -> None:
    """A request with the key that the store knows."""
    desk.connect(store)


def sends_new_key(desk: Desk, store: SimulatedStore) -> None:
    """The merchant makes another key, which works, and sends it."""
    store.change(application_key=make_application_key(issued_at=NOON, lifetime=None))
    desk.connect(store)


def sends_wrong_key(desk: Desk, store: SimulatedStore) -> None:
    """The merchant sends a key of another store."""
    desk.connect(store, make_application_key(issued_at=NOON, lifetime=None))


def of_all(code: str) -> str:
    """The same finding of each slot."""
    return " ".join(f"{code}:{slot}" for slot in SLOTS)


LEFT = dict.fromkeys(SLOTS, "left_behind")
PENDING = dict.fromkeys(SLOTS, "pending")
REMOVED = dict.fromkeys(SLOTS, "removed")
REVOKED: dict[str, Any] = {"revoke_keys": True, "kill_tokens": True}
UNDOES_US: list[dict[str, Any]] = [
    {"url": "https://rival.example.net/hook", "when": "after_write", "how": "undo", "slot": SLOT, **ALWAYS}
]

REJECTED = Turn(changes(**REVOKED), 5 * MINUTE, "needs_reauthorisation", "key_rejected", "needs_reauthorisation")
"""The merchant has revoked the key."""

UNDONE = Turn(
    changes(rivals=UNDOES_US, slots={SLOT: {"urls": [THEIRS]}}),
    DAY,
    "degraded",
    "slot_contested:order-submit",
    "drifted drifted drifted degraded",
    {SLOT: "contested"},
    writes=3,
)
"""Somebody puts the slot back each time that we have written."""

BACK = Turn(heals, DAY, "active", events="recovered")
"""By itself, within a day."""

# --- The table --------------------------------------------------------------------------------------------------------

FROM_THE_FIRST_REQUEST: dict[str, tuple[dict[str, Any], list[Turn]]] = {
    # the store -> what comes of it
    "a healthy store": ({}, [Turn(connects, 0, "active", events="onboarding active", writes=4)]),
    "no shipping methods yet": (
        {"shipping_methods": []},
        [
            Turn(connects, 0, "degraded", "no_shipping_methods", "onboarding degraded", PENDING),
            Turn(becomes(shipping_methods=2), HOUR, "active", events="onboarding active"),
        ],
    ),
    "not an admin host": (
        {"faults": {"login": [{"fault": 404, **ALWAYS}]}},
        [
            Turn(connects, 0, "degraded", "not_an_admin_host", "onboarding degraded", PENDING, key="pending"),
            Turn(heals, HOUR, "active", events="onboarding active"),
        ],
    ),
    "a store that is away": (
        {"reachable": False},
        [
            Turn(
                connects, 3 * DAY, "unreachable", "store_unreachable", "onboarding unreachable", PENDING, key="pending"
            ),
            Turn(heals, DAY, "active", events="onboarding active"),
        ],
    ),
    "a key the store does not know": (
        {},
        [
            Turn(
                all_of(becomes(revoke_keys=True), connects),
                0,
                "onboarding",
                events="onboarding",
                slots=PENDING,
                findings="key_doubted",
            ),
            Turn(
                time_passes,
                5 * MINUTE,
                "needs_reauthorisation",
                events="needs_reauthorisation",
                slots=PENDING,
                findings="key_rejected",
            ),
            Turn(sends_new_key, 0, "active", events="onboarding active"),
        ],
    ),
    "a key that is refused once": (
        {"faults": {"login": [{"fault": "unauthorized"}]}},
        [
            Turn(connects, 0, "onboarding", events="onboarding", slots=PENDING, findings="key_doubted"),
            Turn(time_passes, 5 * MINUTE, "active", events="active"),
        ],
    ),
    "a slot it does not offer": (
        {"slots": {SLOT: None}},
        [Turn(connects, 0, "degraded", "slot_not_offered:order-submit", "onboarding degraded", {SLOT: "not_offered"})],
    ),
}

OF_ONE_THAT_WORKS: dict[str, list[Turn]] = {
    # --- the key
    "three minutes of refusals": [
        Turn(fails("login", {"fault": "unauthorized", "seconds": 180}), 179, "active", findings="key_doubted"),
        Turn(time_passes, DAY, "active"),
    ],
    "a revoked key": [
        Turn(changes(**REVOKED), 5 * MINUTE - 1, "active", findings="key_doubted"),
        Turn(time_passes, 1, "needs_reauthorisation", events="needs_reauthorisation", findings="key_rejected"),
        Turn(time_passes, 30 * DAY, "needs_reauthorisation", findings="key_rejected"),
        Turn(sends_new_key, 0, "active", events="onboarding active", writes=0),
    ],
    "a revoked key that works again": [
        REJECTED,
        BACK,
    ],
    "a revoked key that works again, and somebody asks": [
        REJECTED,
        Turn(all_of(heals, asks()), 0, "active", events="recovered"),
    ],
    "a refusal that a slot meets": [
        Turn(
            changes(
                faults={
                    "login": ["healthy", *[401] * 9],
                    "read_slot:order-submit": [{"fault": "unauthorized", "times": 2}],
                }
            ),
            0,
            "active",
            "key_doubted key_doubted:order-submit",
        ),
        Turn(
            time_passes,
            5 * MINUTE,
            "needs_reauthorisation",
            f"key_rejected {of_all('key_rejected')}",
            "needs_reauthorisation",
        ),
    ],
    "a key that is revoked while shipping methods are missing": [
        Turn(changes(shipping_methods=[]), DAY, "degraded", "no_shipping_methods", "degraded"),
        Turn(
            changes(**REVOKED),
            DAY,
            "needs_reauthorisation",
            "key_rejected no_shipping_methods",
            "needs_reauthorisation",
        ),
    ],
    # --- outages and roles
    **{
        f"an outage: {code}": [
            Turn(fails("*", {"fault": fault, **ALWAYS}), 3 * DAY, "unreachable", code, "unreachable"),
            BACK,
        ]
        for fault, code in {
            "hang": "store_timeout",
            "unavailable": "store_error",
            "not_http": "unreadable_answer",
            "forbidden_page": "edge_refused",
        }.items()
    },
    "an outage of ten days": [
        Turn(changes(reachable=False), 10 * DAY, "unreachable", "store_unreachable", "unreachable", writes=0),
        Turn(heals, 6 * HOUR, "active", events="recovered", writes=0),
    ],
    "an outage that ends in part": [
        Turn(changes(reachable=False), 2 * DAY, "unreachable", "store_unreachable", "unreachable"),
        Turn(
            all_of(becomes(reachable=True), breaks("shipping_methods", {"fault": "unavailable", **ALWAYS})),
            DAY,
            "unreachable",
            "store_error",
        ),
        BACK,
    ],
    "a role that may not read shipping methods": [
        Turn(fails("shipping_methods", NARROW), 3 * DAY, "degraded", "permission_denied", "degraded"),
        Turn(heals, 6 * HOUR, "active", events="recovered"),
    ],
    "a role that may not read slots": [
        Turn(
            fails("read_slot", NARROW),
            3 * DAY,
            "degraded",
            of_all("permission_denied"),
            "degraded",
            dict.fromkeys(SLOTS, "failed"),
        ),
        Turn(heals, 6 * HOUR, "active", events="recovered"),
    ],
    "shipping methods that are gone": [
        Turn(changes(shipping_methods=[]), 3 * DAY, "degraded", "no_shipping_methods", "degraded"),
        Turn(becomes(shipping_methods=2), 6 * HOUR, "active", events="recovered"),
    ],
    # --- slots
    "our URL is taken out": [
        Turn(holds(THEIRS), 30, "active", events="drifted", writes=1),
        Turn(time_passes, 3 * DAY, "active", writes=0),
    ],
    "our URL is doubled": [Turn(holds(OURS, THEIRS, OURS), 30, "active", events="drifted", writes=1)],
    "our URL is rewritten": [Turn(holds(THEIRS, f"{OURS}?v=2"), 30, "active", events="drifted", writes=1)],
    "a secret that is reset": [
        Turn(
            all_of(lambda _, store: store.reset_secret(SLOT), asks()),
            30,
            "active",
            "secret_reset:order-submit",
            "drifted",
        ),
        Turn(time_passes, 5 * DAY, "active", "secret_reset:order-submit"),
        Turn(asks(repair=True), 30, "active", writes=0),
    ],
    "a slot that is gone": [
        Turn(
            changes(slots={SLOT: None}),
            30,
            "degraded",
            "slot_not_offered:order-submit",
            "degraded drifted",
            {SLOT: "not_offered"},
        ),
        Turn(time_passes, 2 * DAY, "degraded", "slot_not_offered:order-submit", slots={SLOT: "not_offered"}, writes=0),
    ],
    "a slot that somebody keeps undoing": [
        UNDONE,
        Turn(time_passes, 2 * DAY, "degraded", "slot_contested:order-submit", slots={SLOT: "contested"}, writes=0),
        Turn(changes(rivals=[]), 30, "degraded", "slot_contested:order-submit", slots={SLOT: "contested"}, writes=0),
        Turn(asks(repair=True), 30, "active", events="recovered drifted", writes=1),
    ],
    "a contested slot that carries our URL again": [
        UNDONE,
        Turn(changes(rivals=[], slots={SLOT: {"urls": [THEIRS, OURS]}}), 30, "active", events="recovered", writes=0),
    ],
    # --- a new key
    "a good new key": [Turn(sends_new_key, 0, "active", events="reauthorised", writes=0)],
    "a wrong new key": [
        Turn(sends_wrong_key, 0, "active", "new_key_doubted"),
        Turn(time_passes, 5 * MINUTE, "active", "new_key_rejected", "reauthorisation_failed", writes=0),
        Turn(time_passes, 5 * DAY, "active", "new_key_rejected"),
        Turn(sends_new_key, 0, "active", events="reauthorised"),
    ],
    "a new key, and three minutes of refusals": [
        Turn(
            all_of(sends_new_key, breaks("login", {"fault": "unauthorized", "seconds": 180})),
            0,
            "active",
            "new_key_doubted",
        ),
        Turn(time_passes, 5 * MINUTE, "active", events="reauthorised"),
    ],
    "a new key, and an outage": [
        Turn(all_of(sends_new_key, becomes(reachable=False)), DAY, "unreachable", "store_unreachable", "unreachable"),
        Turn(heals, 6 * HOUR, "active", events="recovered reauthorised"),
    ],
    "a new key that may do more": [
        Turn(fails("shipping_methods", NARROW), 0, "degraded", "permission_denied", "degraded"),
        Turn(all_of(heals, sends_new_key), 0, "active", events="recovered reauthorised"),
    ],
    "a new key that may do as little": [
        Turn(fails("shipping_methods", NARROW), 0, "degraded", "permission_denied", "degraded"),
        Turn(sends_new_key, 10 * MINUTE, "degraded", "new_key_rejected permission_denied", "reauthorisation_failed"),
    ],
    "a wrong new key while something else is amiss": [
        Turn(fails("shipping_methods", NARROW), 0, "degraded", "permission_denied", "degraded"),
        Turn(sends_wrong_key, 10 * MINUTE, "degraded", "new_key_rejected permission_denied", "reauthorisation_failed"),
        Turn(heals, DAY, "active", "new_key_rejected", "recovered"),
    ],
    "a new key, and our URL went missing meanwhile": [
        REJECTED,
        Turn(
            all_of(becomes(slots={SLOT: {"urls": [THEIRS]}}), sends_new_key),
            0,
            "active",
            events="onboarding drifted active",
            writes=1,
        ),
    ],
    # --- disconnecting
    "disconnected, and back": [
        Turn(leaves(), 0, "disconnected", events="disconnected", slots=REMOVED, writes=4),
        Turn(time_passes, 30 * DAY, "disconnected", slots=REMOVED),
        Turn(connects, 0, "active", events="onboarding active", writes=4),
    ],
    "disconnected while the store is away": [
        Turn(
            all_of(becomes(reachable=False), leaves()), 0, "disconnected", of_all("left_behind"), "disconnected", LEFT
        ),
        Turn(heals, 6 * HOUR, "disconnected", slots=REMOVED),
    ],
    "disconnected after the key was revoked": [
        Turn(all_of(becomes(**REVOKED), leaves()), 0, "disconnected", of_all("left_behind"), "disconnected", LEFT),
        Turn(heals, HOUR, "disconnected", slots=REMOVED),
    ],
    "disconnected, and the key forgotten at once": [
        Turn(leaves(forget="now"), 0, "disconnected", of_all("left_behind"), "disconnected", LEFT, writes=0),
        Turn(time_passes, 30 * DAY, "disconnected", of_all("left_behind"), slots=LEFT, writes=0),
        Turn(connects, 0, "active", events="onboarding active", writes=0),
    ],
    "disconnected without a slot that is gone": [
        Turn(all_of(becomes(slots={SLOT: None}), leaves()), 0, "disconnected", events="disconnected", slots=REMOVED)
    ],
}


def lived(desk: Desk, store: SimulatedStore, turns: list[Turn]) -> None:
    store.change(own_urls_start_with="https://hooks.example.com/")
    for number, turn in enumerate(turns):
        writes = store.calls.endpoints["write_slot"]
        turn.act(desk, store)
        desk.wait(turn.seconds)
        found = " ".join(f"{code}:{slot}" if slot else code for code, slot in desk.findings())
        seen = (desk.status, found, " ".join(desk.events()), desk.slots, desk.connection.credential.verdict)
        slots = dict.fromkeys(SLOTS, "registered") | dict(turn.slots)
        expected = (turn.status, turn.findings, turn.events, slots, turn.verdict)
        assert seen == expected, f"turn {number + 1}"
        if turn.writes is not None:
            assert store.calls.endpoints["write_slot"] - writes == turn.writes, f"turn {number + 1}"
        assert store.losses.urls == store.losses.settings == [], "nobody else loses anything"
        assert all(urls.count(ours(name)) <= 1 for name, urls in held(store).items()), "ours is there once at most"
        has_key = desk.records.load("m-1").sealed_key is not None
        at_work = any(name == "left_behind" for name in desk.slots.values()) and desk.connection.due_at is not None
        assert has_key == (desk.status != "disconnected" or at_work), "the key is kept while it is of use"


def held(store: SimulatedStore) -> dict[str, list[str]]:
    return {name: store.urls(name) for name in SLOTS if store.settings.slots.get(name, {}) is not None}


@pytest.mark.parametrize("story", FROM_THE_FIRST_REQUEST)
def test_what_comes_of_a_first_request(story: str) -> None:
    settings, turns = FROM_THE_FIRST_REQUEST[story]
    desk = Desk()
    lived(desk, desk.store(**settings), turns)


@pytest.mark.parametrize("story", OF_ONE_THAT_WORKS)
def test_what_happens_to_a_connection_that_works(story: str) -> None:
    desk, store = connected()
    lived(desk, store, OF_ONE_THAT_WORKS[story])
