"""The record of a connection, and what can be read from it: statuses and due times. Pure.

What is remembered is frozen; what can be derived (the status of the connection and of its slots, when work is due) is
never stored beside it. Changes are in `outcomes.py`, storage in `records.py`.

Times are seconds since the epoch by the pipeline's clock (`integrations/clock.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from integrations.connections.drift import Drift, Seen
from integrations.learnt import Spelling


class Step(StrEnum):
    """A stage of a run; their order is in `lifecycle/flow.py`. `DISCONNECT` is a way of its own."""

    VALIDATE_KEY = "validate_key"
    CHECK_SHIPPING_METHODS = "check_shipping_methods"
    REGISTER_SLOT = "register_slot"
    DISCONNECT = "disconnect"


DAY = 86400.0

SLOT_STEPS = frozenset({Step.REGISTER_SLOT, Step.DISCONNECT})
"""Steps that are done slot by slot."""


class ConnectionStatus(StrEnum):
    """What other systems need to know of a connection."""

    ONBOARDING = "onboarding"
    ACTIVE = "active"
    DEGRADED = "degraded"  # works in part; the findings say what
    NEEDS_REAUTHORISATION = "needs_reauthorisation"
    UNREACHABLE = "unreachable"
    DISCONNECTED = "disconnected"


class SlotStatus(StrEnum):
    """Where the registration of one slot stands."""

    PENDING = "pending"
    REGISTERED = "registered"
    RETRYING = "retrying"
    FAILED = "failed"
    NOT_OFFERED = "not_offered"
    CONTESTED = "contested"  # somebody keeps undoing us
    REMOVED = "removed"  # our callback URL is out of it again
    LEFT_BEHIND = "left_behind"  # disconnected, but the store has not let us take our callback URL out


class KeyVerdict(StrEnum):
    """What the store said to the application key."""

    PENDING = "pending"
    VALID = "valid"
    DOUBTED = "doubted"  # refused once; a second exchange decides
    REJECTED = "rejected"


class ShippingVerdict(StrEnum):
    """Whether the store has an enabled shipping method."""

    PENDING = "pending"
    CONFIGURED = "configured"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an attempt did not succeed. `code` is explained in `causes.py`; `detail` is evidence without secrets."""

    code: str
    detail: str = ""


FOR_PEOPLE_TO_DECIDE = frozenset({"url_in_doubt", "urls_altered", "urls_multiplied"})
"""Causes for which something of ours may be left in a store until people take it out, or say that it is not ours.

Until then the slot is read once per period, and the application key is kept for that.
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """One worker's right to do a piece of work, until its lease ends."""

    owner: str
    until: float
    since: float
    alone: bool = False  # in the quarantine queue, where nothing else runs beside it


DEATHS_OF_A_SUSPECT = 2


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of unfinished work: one step of the connection, or one slot.

    It may start at `not_before`, and is handed out by the tick at `due_at`. The two differ while a message is expected
    to start it (the tick then only rescues a lost message) and while a claim is held (the tick rescues a lost worker).
    """

    not_before: float
    due_at: float
    attempts: int = 0
    deaths: int = 0  # claims whose lease ended without an outcome: perhaps the work's fault, perhaps a neighbour's
    claim: Claim | None = None
    deaths_alone: int = 0  # claims that ended so where it had no neighbours
    stood_back: int = 0  # times it made way for others; from then on it is done only where a place is free for it

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what takes workers down: then it runs alone, so that nobody else is blamed.

        Asked of work that nobody holds: a claim that is still there ended without an outcome.
        """
        return self.with_death_counted().deaths >= DEATHS_OF_A_SUSPECT

    def with_death_counted(self) -> "Work":
        """Free of a claim that ended without an outcome, with that death counted."""
        if self.claim is None:
            return self
        if self.claim.alone:
            return replace(self, claim=None, deaths_alone=self.deaths_alone + 1)
        return replace(self, claim=None, deaths=self.deaths + 1)

    def is_held(self, now: float) -> bool:
        """Whether a worker holds it."""
        return self.claim is not None and self.claim.until > now

    def is_ready(self, now: float) -> bool:
        """Whether a worker may claim it. What a hint was given for was ready then, whatever time it is for its reader:
        that may be some milliseconds behind.
        """
        hint_given = self.claim is None and self.due_at > self.not_before
        return (hint_given or now >= self.not_before) and not self.is_held(now)


@dataclass(frozen=True, slots=True)
class Credential:
    """What is known of the application key; the key itself is kept sealed beside the record."""

    fingerprint: str
    expires_at: float | None = None
    verdict: KeyVerdict = KeyVerdict.PENDING
    doubted_since: float | None = None
    expiry_reported: int | None = None  # days: the last warning other systems were given


@dataclass(frozen=True, slots=True)
class Candidate:
    """A new application key for a connection that works. It takes the old one's place once it has proven itself."""

    fingerprint: str
    expires_at: float | None = None
    doubted_since: float | None = None


@dataclass(frozen=True, slots=True)
class ShippingMethods:
    """What the store said about its shipping methods."""

    verdict: ShippingVerdict = ShippingVerdict.PENDING
    enabled: int | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """A slot that had a rhythm is no longer heard from: since when, and its longest pause before, in seconds.

    `among_many`: it fell silent together with many others, so it is probably the receiver, and operators are told.
    """

    since: float
    longest_pause: float
    among_many: bool = False


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Deliveries to our callback URL that the store has given up and that lie in its log.

    `first` and `last`: when it gave up, by its clock. `error`: of the last one, in words of ours.
    """

    count: int
    first: float
    last: float
    error: str


@dataclass(frozen=True, slots=True)
class Slot:
    """One webhook position: what was last established (`verdict`), and the work that is still to be done on it."""

    required: bool = True
    wanted: bool = True  # the settings still name it
    verdict: SlotStatus | None = None
    work: Work | None = None
    last_attempts: int = 0  # how many the last finished work took
    not_before: float = 0.0  # what the store asked to wait outlasts the work it asked it of
    cause: Cause | None = None
    store_id: str = ""  # under which the store knew it when our callback URL went in; settings may change
    seen: Seen | None = None  # what was in it when it was last in order
    in_order_at: float | None = None  # when that was
    drift: tuple[Drift, ...] = ()  # what the last re-validation found changed
    repairs: tuple[float, ...] = ()  # when we put our callback URL back, or wrote in vain, within the last day
    unanswered: tuple[float, ...] = ()  # when we wrote and the store said nothing of it, within the last day
    writes_in_vain: int = 0  # in this re-validation: our callback URL was not in order afterwards
    spelling: Spelling | None = None  # what is remembered of our writes where the store does not show them as sent
    missed: int | None = None  # deliveries the store gave up on while our callback URL was gone, where it tells
    heard_at: float | None = None  # when a delivery was first reported in this run
    silence: Silence | None = None
    given_up: GivenUp | None = None

    @property
    def attempts(self) -> int:
        """How often the current work, or else the last, was tried."""
        return self.work.attempts if self.work else self.last_attempts

    @property
    def status(self) -> SlotStatus:
        """The verdict, or how far the first registration has come."""
        if self.verdict is not None:
            return self.verdict
        return SlotStatus.RETRYING if self.cause else SlotStatus.PENDING

    def recent_repairs(self, now: float) -> tuple[float, ...]:
        """Those within the last day: there is a limit to them."""
        return tuple(moment for moment in self.repairs if moment > now - DAY)

    def recent_unanswered(self, now: float) -> tuple[float, ...]:
        """Those within the last day. Each may have been carried out, and is no repair that anybody has undone."""
        return tuple(moment for moment in self.unanswered if moment > now - DAY)

    @property
    def next_attempt_at(self) -> float | None:
        """When the wait for the next attempt ends, if it is waiting."""
        if self.work is None or self.work.claim is not None or self.cause is None:
            return None
        return self.work.not_before


@dataclass(frozen=True, slots=True)
class Target:
    """Which piece of work is meant: a step of the connection, or the registration of one slot."""

    step: Step
    slot: str | None = None

    def __str__(self) -> str:
        return f"{self.step}/{self.slot}" if self.slot else str(self.step)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What ended the steps before the slots were reached: `passing` if waiting may help."""

    cause: Cause
    passing: bool
    not_before: float = 0.0  # what the store asked to wait


@dataclass(frozen=True, slots=True)
class Disconnection:
    """The connection is being disconnected. Until when what the store refuses is tried again.

    `status`: what it was. Slots that are dealt with one by one tell nothing of it any more.
    """

    since: float
    until: float
    status: ConnectionStatus = ConnectionStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class Chain:
    """Where the messages of what is under way belong, for those who watch: nothing is decided by it.

    `root`: the task or inbox entry that the work began with. `parent`: the one that made the work of the present stage.
    """

    root: str = ""
    parent: str = ""


NO_CHAIN = Chain()

Carried = tuple[tuple[str, ...], object]
"""A value in the record that this release does not know, and where it stands."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One merchant's link to one store.

    `step` is the stage the connection as a whole is at, `work` what is to be done for it: None while the slots are
    being registered, for then each slot has its own.
    """

    merchant_id: str
    store_url: str
    run: int
    started_at: float
    updated_at: float
    credential: Credential
    step: Step
    work: Work | None
    shipping_methods: ShippingMethods = ShippingMethods()
    trouble: Trouble | None = None
    cause: Cause | None = None  # of the last attempt at `step`
    slots: Mapping[str, Slot] = field(default_factory=dict)
    wrote_to_store: bool = False  # in this pass: then a second re-validation follows soon
    failed_revalidations: int = 0  # that ended so, one after the other
    phase: float | None = None  # its place in every period of re-validation, 0 to 1
    candidate: Candidate | None = None
    key_refusal: Cause | None = None  # why the last candidate was turned down
    disconnection: Disconnection | None = None
    shares_store_with: tuple[str, ...] = ()  # merchants of ours, some of them if there are many
    log_read_at: float | None = None  # when the store's log of failed deliveries was last read
    traceparent: str = ""  # where the spans of what is under way belong; nothing is decided by it
    chain: Chain = NO_CHAIN
    carried: tuple[Carried, ...] = field(default=(), compare=False, repr=False)  # see `stored_record.py`
    request_id: str = ""  # of the last accepted request that changed anything; "" if it carried none
    taken: tuple[str, ...] = ()  # the last entries of the inbox that said what is wanted: one that comes again is over

    @property
    def disconnected(self) -> bool:
        """Whether every slot was dealt with once, as far as the store let us."""
        return self.disconnection is not None and all(slot.verdict in _SETTLED for slot in self.slots.values())

    @property
    def is_under_way(self) -> bool:
        """Whether somebody who asked for a connection, or sent a new key, has yet to hear what came of it."""
        return self.status is ConnectionStatus.ONBOARDING or self.candidate is not None

    @property
    def is_onboarded(self) -> bool:
        """Whether the slots have been reached: what follows is a re-validation."""
        return all(slot.verdict for slot in self.slots.values())

    @property
    def status(self) -> ConnectionStatus:
        """Derived, so that four slot tasks at once cannot overwrite each other's summary."""
        if self.disconnection is not None:
            return ConnectionStatus.DISCONNECTED if self.disconnected else self.disconnection.status
        if self.credential.verdict is KeyVerdict.REJECTED:
            return ConnectionStatus.NEEDS_REAUTHORISATION
        if self.trouble is not None and self.trouble.passing:
            return ConnectionStatus.UNREACHABLE
        if self.trouble is not None or self.shipping_methods.verdict is ShippingVerdict.MISSING:
            return ConnectionStatus.DEGRADED
        if self.shipping_methods.verdict is ShippingVerdict.PENDING or not all(
            slot.verdict for slot in self.slots.values()
        ):
            return ConnectionStatus.ONBOARDING
        return ConnectionStatus.ACTIVE if all(map(_satisfies, self.slots.values())) else ConnectionStatus.DEGRADED

    def work_on(self, target: Target) -> Work | None:
        """The unfinished work behind a target, None if it is done or its stage has passed or not come."""
        if target.step is not self.step:
            return None
        if target.slot is None:
            return self.work
        slot = self.slots.get(target.slot)
        return slot.work if slot else None

    def unfinished(self) -> Iterator[tuple[Target, Work]]:
        """All work of the current stage that is not finished, waiting or held."""
        if self.work is not None:
            yield Target(self.step), self.work
        if self.step in SLOT_STEPS:
            for name, slot in self.slots.items():
                if slot.work is not None:
                    yield Target(self.step, name), slot.work

    def ready(self, now: float) -> set[Target]:
        """The work that may be started now."""
        return {target for target, work in self.unfinished() if work.is_ready(now)}

    def due(self) -> dict[str | None, float]:
        """When the tick sends a message: slot name (None for the connection as a whole) -> due time."""
        return {target.slot: work.due_at for target, work in self.unfinished()}

    @property
    def due_at(self) -> float | None:
        """The earliest of all due times."""
        return min(self.due().values(), default=None)


_SETTLED = {SlotStatus.REMOVED, SlotStatus.LEFT_BEHIND}


def _satisfies(slot: Slot) -> bool:
    if not slot.wanted:
        return True  # left alone, whatever was last known of it
    if slot.verdict is SlotStatus.NOT_OFFERED:
        return not slot.required
    return slot.verdict is SlotStatus.REGISTERED or slot.verdict in _SETTLED


def merchant_of(record_id: str) -> str:
    """Whose record it is. The former store of a merchant who moved has one of its own: `<merchant>@<run>`."""
    return record_id.partition("@")[0]


def former_id(merchant_id: str, run: int) -> str:
    """The record of a store that a merchant has left: no merchant id holds an `@`."""
    return f"{merchant_id}@{run}"


def token_key(record_id: str) -> str:
    """Where the access token is kept: `access_token.py` puts it there, `records.py` forgets it with its key."""
    return f"occ:token:{record_id}"
