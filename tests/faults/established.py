"""Merchants that were connected before the faults begin, and what is asked for them while the faults strike.

Each kind of life is a story: it asks for something and yields what has to become true before it goes on. How a life
ended is judged from its stores; the record has to say the same. Wishes are asked once, through the inbox.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from integrations.connections.record import Connection, SlotStatus
from integrations.connections.records import Snapshot
from integrations.oracle_commerce.application_key import fingerprint
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore

if TYPE_CHECKING:
    from tests.faults.rig import Rig

FOREIGN_URL = "https://erp.example.org/orders"
SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
SLOT = "order-update"
"""The one of which it is, where it is one."""
RIVAL_WRITES = 2
"""Fewer than a slot is repaired in a day: a story that begins again and again shows no rival who never ends."""

Story = Iterator[Callable[[Connection], bool]]


def ours(merchant_id: str, slot: str) -> str:
    """Our callback URL."""
    return f"https://hooks.example.com/occ/{merchant_id}/{slot}"


@dataclass(slots=True)
class Life:
    """One merchant. `moved_to` is the store it ends at, if not the first; `sealed_key` the key it ends with, if any.

    `writes` are the PUTs into a slot that are asked for beyond the first. `left_behind`: the slot that keeps our URL.
    `tells`: the event there has to be exactly one of.
    """

    rig: "Rig"
    kind: str
    store: SimulatedStore
    status: str = "active"
    sealed_key: str | None = None
    moved_to: SimulatedStore | None = None
    left_behind: str | None = None
    writes: Counter[str] = field(default_factory=Counter)
    tells: str | None = None
    begun: bool = False
    done_at: float | None = None
    door: str = "inbox"
    copies: int = 1
    new_key: str = ""
    requests: dict[str, Mapping[str, object]] = field(default_factory=dict)
    story: Story | None = None
    waits_for: Callable[[Connection], bool] | None = None

    @property
    def name(self) -> str:
        """The merchant id."""
        return self.store.name

    @property
    def former(self) -> str:
        """The record of the store that was left by moving."""
        return f"{self.name}@1"

    @property
    def stores(self) -> list[SimulatedStore]:
        """All it ever had."""
        return [self.store, self.moved_to] if self.moved_to else [self.store]

    # --- Asking -----------------------------------------------------------------------------------------------------

    def connect(self, key: str | None = None, store: SimulatedStore | None = None) -> str:
        """Send a connect request, and tell how its key was sealed."""
        store = store or self.store
        right, store.application_key = store.application_key, key or store.application_key
        try:  # who asks again sends the same bytes
            request = self.requests.setdefault(store.application_key, self.rig.request(store, self.name))
        finally:
            store.application_key = right
        self._ask("request", request)
        return str(request["application_key"])

    def ask(self, what: str, **asked: object) -> None:
        """`revalidate` or `disconnect`."""
        self._ask(what, {"merchant_id": self.name, **asked})

    def _ask(self, what: str, asked: Mapping[str, object]) -> None:
        doors = [self.door] if self.copies == 1 else ["inbox", "celery"]
        for number in range(self.copies):
            self.rig.send_later(
                what, asked, door=doors[number % len(doors)], later=number * self.rig.trial.dice.random()
            )

    # --- Going on ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """From the start of the story; all it asks for may be asked again."""
        self.begun, self.done_at = True, None
        self.story = STORIES[self.kind](self)
        self._turn_the_page()

    def go_on(self, connection: Connection) -> None:
        """As far as the record lets it."""
        if self.waits_for is not None and self.waits_for(connection):
            self._turn_the_page()

    def _turn_the_page(self) -> None:
        assert self.story is not None
        self.waits_for = next(self.story, None)
        if self.waits_for is None:
            self.done_at = time.time()

    # --- Judging ----------------------------------------------------------------------------------------------------

    def wrong(self, snapshot: Snapshot, former: Snapshot, told: Counter[str]) -> str | None:
        """What is not as it should be, or None. `told`: how many events of each type there are about it."""
        return self._wrong_in_stores() or self._wrong_in_record(snapshot, former) or self._wrong_in_events(told)

    def _wrong_in_stores(self) -> str | None:
        for store in self.stores:
            here = self.status == "active" and store is (self.moved_to or self.store)
            for slot in SLOTS:
                urls = store.urls(slot)
                counts = urls.count(ours(self.name, slot)), urls.count(FOREIGN_URL)
                if counts != (int(here or slot == self.left_behind), 1):
                    return f"{slot} of {store.name} carries ours, theirs {counts} times"
        return None

    def _wrong_in_record(self, snapshot: Snapshot, former: Snapshot) -> str | None:
        connection = snapshot.connection
        if connection is None or connection.status != self.status:
            return f"is {connection and connection.status}"
        if (said := _left_behind(connection)) != {self.left_behind} - {None}:
            return f"left behind: {sorted(said)}"
        if (snapshot.sealed_key, snapshot.sealed_candidate) != (self.sealed_key, None):
            return "has another key than it should"
        left = [self.name] * (self.status == "disconnected") + [self.former] * (self.moved_to is not None)
        if tokens := [one for one in left if self.rig.redis.exists(f"occ:token:{one}")]:
            return f"has an access token: {tokens}"
        if self.moved_to is not None and not _is_forgotten(former):
            return "its former store is not left"
        return None

    def _wrong_in_events(self, told: Counter[str]) -> str | None:
        if self.tells is None or told[self.tells] == 1 or (self.rig.may_repeat and told[self.tells]):
            return None
        return f"{self.tells} told {told[self.tells]} times"


def _left_behind(connection: Connection) -> set[str]:
    return {slot for slot, one in connection.slots.items() if one.status is SlotStatus.LEFT_BEHIND}


def _is_forgotten(former: Snapshot) -> bool:
    return former.connection is not None and former.connection.disconnected and former.sealed_key is None


def is_at_rest(connection: Connection) -> bool:
    """Whether nothing is to be done before its time comes."""
    work = connection.work
    resting = work is not None and work.claim is None and work.due_at == work.not_before and work.attempts == 0
    return resting and connection.candidate is None and not any(slot.work for slot in connection.slots.values())


def _is_under_way(connection: Connection) -> bool:
    if connection.disconnection is None:  # who has just come back may wait for a while before anything is done
        return connection.status == "onboarding" or not is_at_rest(connection)
    return any(slot.work for slot in connection.slots.values())


# --- The stories ------------------------------------------------------------------------------------------------------


def _revalidated(life: Life) -> Story:
    yield is_at_rest
    calls = life.store.calls.endpoints["login"]
    life.ask("revalidate")
    yield lambda connection: life.store.calls.endpoints["login"] > calls and is_at_rest(connection)


def _repaired(life: Life) -> Story:
    yield is_at_rest
    if life.writes[SLOT] < RIVAL_WRITES:
        life.store.rival_writes(SLOT, FOREIGN_URL, how="replace")
        life.writes[SLOT] += 1
    life.ask("revalidate")
    yield lambda connection: ours(life.name, SLOT) in life.store.urls(SLOT) and is_at_rest(connection)


def _good_key(life: Life) -> Story:
    old = life.store.application_key
    if not life.new_key:
        life.new_key = make_application_key(subject=f"{life.name} again")
        life.store.change(application_key=life.new_key)
        life.tells = "occ.connection.reauthorised"
    life.sealed_key = life.connect()
    proven = fingerprint(life.new_key)
    yield lambda connection: connection.credential.fingerprint == proven and is_at_rest(connection)
    if old != life.new_key:
        life.store.change(revoke_keys=[old], kill_tokens=True)
    yield from _revalidated(life)


def _wrong_key(life: Life) -> Story:
    life.tells = "occ.connection.reauthorisation_failed"
    life.new_key = life.new_key or make_application_key(subject="of another store")
    life.connect(key=life.new_key)
    yield lambda connection: connection.key_refusal is not None and is_at_rest(connection)


def _disconnects(life: Life) -> Story:
    life.status, life.sealed_key = "disconnected", None
    life.writes.update(SLOTS)
    life.ask("disconnect")
    yield lambda connection: connection.disconnected and not any(slot.work for slot in connection.slots.values())


def _disconnects_in_part(life: Life) -> Story:
    life.status, life.sealed_key, life.left_behind = "disconnected", None, SLOT
    life.writes.update(SLOTS)
    life.store.fail(f"write_slot:{SLOT}", {"fault": "forbidden_role", "times": "always"})
    life.ask("disconnect")
    # A fault of ours leaves a slot behind too, for as long as it takes to try again.
    yield lambda connection: connection.disconnected and _left_behind(connection) == {SLOT}
    life.ask("disconnect", forget="now")
    yield lambda connection: not any(slot.work for slot in connection.slots.values())


def _comes_back(life: Life) -> Story:
    life.writes.update(SLOTS)
    life.writes.update(SLOTS)
    life.ask("disconnect")
    yield lambda connection: connection.disconnection is not None
    life.sealed_key = life.connect()
    yield lambda connection: connection.status == "active" and is_at_rest(connection)


def _moves(life: Life) -> Story:
    life.writes.update(SLOTS)
    if life.moved_to is None:
        life.moved_to = life.rig.simulator.add(f"{life.name}-2", offers=SLOTS, slots=CARRYING_THEIRS)
    life.sealed_key = life.connect(store=life.moved_to)

    def over(connection: Connection) -> bool:
        # A run that waits for the former store to be left is at rest too: it is over once it has come to its end.
        former = life.rig.connection(life.former)
        settled = connection.run > 1 and connection.status == life.status and is_at_rest(connection)
        return settled and former is not None and former.disconnected

    yield over


CARRYING_THEIRS = {slot: {"urls": [FOREIGN_URL]} for slot in SLOTS}
STORIES: Mapping[str, Callable[[Life], Story]] = {
    "revalidated": _revalidated,
    "repaired": _repaired,
    "good_key": _good_key,
    "wrong_key": _wrong_key,
    "disconnects": _disconnects,
    "disconnects_in_part": _disconnects_in_part,
    "comes_back": _comes_back,
    "moves": _moves,
}


class Established:
    """All such merchants of one rig."""

    def __init__(self, rig: "Rig") -> None:
        self._rig = rig
        self.lives: dict[str, Life] = {}
        self._looked = 0.0

    def connect(self, each: int, *, without: str = "") -> None:
        """So many of each kind but one, shuffled; returns when all of them are connected."""
        kinds = [kind for kind in STORIES if kind != without for _ in range(each)]
        self._rig.trial.dice.shuffle(kinds)
        self.connect_named({f"{kind.replace('_', '-')}-{number}": kind for number, kind in enumerate(kinds, 1)})

    def connect_named(self, kinds: Mapping[str, str]) -> None:
        """One of each of these: merchant id -> kind."""
        for name, kind in kinds.items():
            store = self._rig.simulator.add(name, offers=SLOTS, slots=CARRYING_THEIRS)
            self.lives[name] = life = Life(self._rig, kind, store)
            life.sealed_key = life.connect()

        def connected() -> bool:
            found = [snapshot.connection for snapshot in self._rig.records.load_many(list(kinds))]
            return all(one is not None and one.status == "active" and is_at_rest(one) for one in found)

        assert self._rig.until(connected, 60) is not None, "they are not even connected"

    def ask(self, turn: int, of: int) -> None:
        """Begin with those whose turn it is: spread evenly over so many turns, the first is 0.

        That is, over the first three quarters of them: faults strike in the middle of each story.
        """
        lives, of = list(self.lives.values()), max(1, of * 3 // 4)
        for life in lives[len(lives) * turn // of : len(lives) * (turn + 1) // of]:
            life.begin()

    def ask_again(self) -> None:
        """A server that forgets may have forgotten what had not been confirmed: whoever asked asks again."""
        for life in self.lives.values():
            if life.begun:
                life.begin()

    def go_on(self) -> None:
        """Let each go on that may; a few times a second."""
        if time.monotonic() - self._looked < 0.1:
            return
        lives = [life for life in self.lives.values() if life.waits_for is not None]
        snapshots = self._rig.records.load_many([life.name for life in lives])
        for life, snapshot in zip(lives, snapshots, strict=True):
            if snapshot.connection is not None:
                life.go_on(snapshot.connection)
        self._looked = time.monotonic()

    def unfinished(self) -> list[str]:
        """Those that are in the middle of their story."""
        return [life.name for life in self.lives.values() if life.waits_for is not None]

    def are_still(self) -> bool:
        """Whether nothing is under way, in the stores they left either: before that, nothing can be judged."""
        found = [snapshot.connection for snapshot in self._rig.records.load_many(self.ids)]
        return not any(one is not None and _is_under_way(one) for one in found)

    @property
    def ids(self) -> list[str]:
        """Of all their records."""
        return [*self.lives, *(life.former for life in self.lives.values() if life.moved_to)]

    def wrong(self, told: Mapping[str, list[dict[str, object]]]) -> dict[str, str]:
        """Merchant id -> what is not as it should be. `told`: their events."""
        found = {}
        for life in self.lives.values():
            types = Counter(str(event["type"]) for event in told.get(life.name, ()))
            snapshot, former = self._rig.records.load_many([life.name, life.former])
            if life.waits_for is None and (why := life.wrong(snapshot, former, types)):
                found[life.name] = why
        return found

    def repeated_puts(self) -> int:
        """Writes into their slots beyond those that were asked for."""
        return sum(
            max(0, store.calls.slots[f"write_slot:{slot}"] - 1 - (life.writes[slot] if store is life.store else 0))
            for life in self.lives.values()
            for store in life.stores
            for slot in SLOTS
        )
