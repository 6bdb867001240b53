"""Whatever becomes of a connection, its status and its events fit their schemas; every documented event occurs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.connections.causes import CAUSES, OutageKind
from integrations.connections.change import Change, Moment, Stop
from integrations.connections.commit import commit_of
from integrations.connections.drift import Drift
from integrations.connections.events import refused_event
from integrations.connections.known_request import KnownRequest
from integrations.connections.lifecycle import disconnection, requests
from integrations.connections.record import (
    Candidate,
    Cause,
    Connection,
    Credential,
    Disconnection,
    GivenUp,
    KeyVerdict,
    ShippingMethods,
    ShippingVerdict,
    Silence,
    Slot,
    SlotStatus,
    Step,
    Target,
    Trouble,
    Work,
)
from integrations.connections.rhythm import Rhythm
from integrations.connections.status import status_object
from integrations.errors import CredentialRejected, IntegrationError, PermanentError, RequestRefused, TransientError
from integrations.outages.outage import Outage, ended_event, started_event
from integrations.silence import many
from integrations.silence.many import Tally
from tests.contract.shapes import EVENT, EVENT_TYPES, STATUS, closed
from tests.contract.validators import of_file, problems, validator
from tests.examples import examples
from tests.integrations.oracle_commerce.fakes import NOON, SLOTS, Drive, desired, started
from tests.usual import PACE

ANY_EVENT = of_file("event.schema.json")
CLOSED_STATUS = validator(closed(STATUS))
CLOSED_EVENTS = {kind: validator({"$ref": f"#/$defs/{kind}", "$defs": closed(EVENT["$defs"])}) for kind in EVENT_TYPES}

times = st.floats(0, 4e9)
causes = st.builds(Cause, st.sampled_from(sorted(CAUSES)), st.sampled_from(("", "HTTP 503")))
works = st.builds(lambda at, attempts: Work(at, at, attempts), times, st.integers(0, 9))
slots = st.builds(
    Slot,
    required=st.booleans(),
    wanted=st.booleans(),
    verdict=st.none() | st.sampled_from(SlotStatus),
    work=st.none() | works,
    cause=st.none() | causes,
    in_order_at=st.none() | times,
    drift=st.lists(st.sampled_from(Drift), max_size=2).map(tuple),
    repairs=st.lists(times, max_size=2).map(tuple),
    missed=st.none() | st.integers(0, 1000),
    heard_at=st.none() | times,
    given_up=st.none() | st.builds(GivenUp, st.integers(1, 1000), times, times, st.just("HTTP 502")),
    silence=st.none() | st.builds(Silence, times, st.integers(0, 10**6), st.booleans()),
)
credentials = st.builds(
    Credential,
    st.sampled_from("ab"),
    st.none() | times | st.just(1e12),
    st.sampled_from(KeyVerdict),
    expiry_reported=st.none() | st.sampled_from((30, 1)),
)
connections = st.builds(
    Connection,
    merchant_id=st.sampled_from(("m-1", "m-1@2")),
    store_url=st.just("https://ccadmin-z1.oracleoutsourcing.com"),
    run=st.integers(1, 3),
    started_at=times,
    updated_at=times,
    credential=credentials,
    step=st.sampled_from(Step),
    work=st.none() | works,
    shipping_methods=st.builds(ShippingMethods, st.sampled_from(ShippingVerdict), st.none() | st.integers(0, 9)),
    trouble=st.none() | st.builds(Trouble, causes, st.booleans()),
    cause=st.none() | causes,
    slots=st.fixed_dictionaries(dict.fromkeys(SLOTS[:2], slots)),
    candidate=st.none() | st.builds(Candidate, st.sampled_from("ab"), st.none() | times),
    key_refusal=st.none() | causes,
    disconnection=st.none() | st.builds(Disconnection, times, times),
    request_id=st.sampled_from(("", "signup 4711", "r" * 128)),
)


def hold(events: Iterable[dict[str, object] | None]) -> None:
    """Each event fits the schema of all events, and holds nothing that of its type does not name."""
    for event in events:
        if event is not None:
            told = json.loads(json.dumps(event))
            assert problems(ANY_EVENT, told) == []
            assert problems(CLOSED_EVENTS[told["type"]], told) == []


def events_of(before: Connection | None, after: Connection, version: int, now: float) -> list[dict[str, object]]:
    """What a commit tells other systems."""
    read = int(now * 1000) + version - 1
    return commit_of(after.merchant_id, before, Change(after), version_read=read, now=now).all_events


rhythms = st.builds(
    Rhythm, st.integers(0, 4 * 10**9), st.integers(1, 10**6), longest=st.integers(0, 10**6), longest_before=st.just(1)
)


@given(connections, st.dictionaries(st.sampled_from(SLOTS), rhythms))
def test_a_status_fits_its_schema_and_holds_nothing_else(connection: Connection, heard: dict[str, Rhythm]) -> None:
    told = json.loads(json.dumps(status_object(connection, heard)))
    assert {name for name, slot in told["slots"].items() if "heard" in slot} == told["slots"].keys() & heard.keys()
    assert problems(of_file("status.schema.json"), told) == []
    assert problems(CLOSED_STATUS, told) == []


@given(before=st.none() | connections, after=connections, version=st.integers(1, 10**9), now=times)
@settings(max_examples=examples(200))
def test_the_events_of_any_change_fit_their_schemas(
    before: Connection | None, after: Connection, version: int, now: float
) -> None:
    hold(events_of(before, after, version, now))


ERRORS = (
    None,
    None,
    None,
    CredentialRejected(),
    TransientError("store_timeout"),
    PermanentError("permission_denied", "HTTP 403"),
)


@dataclass
class Telling(Drive):
    """A driven connection that also tells what a commit would."""

    version: int = 1
    events: list[dict[str, object]] = field(default_factory=list)

    def take(self, change: Change | Stop) -> None:
        """A change that was asked for from outside."""
        if isinstance(change, Change):
            self._take(change)

    def _take(self, change: Change) -> None:
        before = self.connection
        super()._take(change)
        self.version += 1
        self.events += events_of(before, self.connection, self.version, self.now)


@given(
    dice=st.randoms(use_true_random=False),
    requests_=st.lists(st.sampled_from(("key", "leave", "look", "")), max_size=4),
)
@settings(max_examples=examples(30))
def test_what_a_life_tells_fits_the_schemas_and_is_in_order(dice: Any, requests_: list[str]) -> None:
    pace = replace(
        PACE,
        lease=10,
        retry_attempts=2,
        confirm_rejection=30,
        second_look=40,
        recheck_degraded=60,
        revalidate_every=200,
    )

    def script(target: Target, attempt: int, now: float) -> IntegrationError | None:
        return dice.choice(ERRORS)  # type: ignore[no-any-return]

    life = Telling(started(Moment(NOON, pace)), pace, script)
    life.events += events_of(None, life.connection, life.version, NOON)
    for number, asked in enumerate(requests_):
        life.until(life.now + dice.choice((50, 300)))
        at = Moment(life.now, pace)
        if asked == "key":
            life.take(requests.begin(life.connection, desired(key=f"key-{number}"), at))
        elif asked == "leave":
            life.take(disconnection.disconnect(life.connection, at))
        elif asked == "look":
            life.take(requests.revalidate_now(life.connection, at, repair=True))
    hold(life.events)
    sequences = [str(event["sequence"]) for event in life.events]
    assert sequences == sorted(sequences)
    assert len({str(event["id"]) for event in life.events}) == len(life.events)
    assert {event["subject"] for event in life.events} == {"m-1"}


@given(
    outage=st.builds(
        Outage,
        kind=st.sampled_from(OutageKind),
        since=times,
        share=st.floats(0, 1),
        failing=st.integers(0, 10**6),
        asked=st.integers(0, 10**6),
    ),
    number=st.integers(1, 10**6),
    now=times,
    held=st.integers(0, 10**6),
)
def test_what_operators_are_told_fits_the_schemas(outage: Outage, number: int, now: float, held: int) -> None:
    hold([started_event(outage, number), ended_event(outage, number, now, held=held)])


@given(
    tally=st.builds(Tally, st.integers(0, 10**6), st.integers(0, 10**6)),
    number=st.integers(1, 10**6),
    now=times,
    since=times,
)
def test_what_operators_are_told_of_silence_fits_the_schemas(
    tally: Tally, number: int, now: float, since: float
) -> None:
    hold([many.started_event(tally, number, now), many.ended_event(tally, number, now, since=since)])


@given(
    refused=st.builds(
        KnownRequest,
        request=st.sampled_from(("connect", "revalidate", "disconnect", "heard")),
        door=st.sampled_from(("celery", "inbox")),
        request_id=st.just("") | st.text(min_size=1, max_size=128),
        reference=st.sampled_from(("", "1795464352864-0")),
        merchant_id=st.none() | st.just("m-1"),
        at=times,
    ),
    number=st.integers(1, 10**14),
)
def test_what_a_producer_is_told_of_a_refusal_fits_the_schemas(refused: KnownRequest, number: int) -> None:
    told = refused.refused(RequestRefused("store_url", "missing", "send store_url"))
    hold([refused_event(told, f"{number:012d}")])


def one_of_each_kind() -> dict[str, dict[str, object]]:
    """Type -> an event of it, out of changes made for that."""
    active = Connection(
        merchant_id="m-1",
        store_url="https://x",
        run=1,
        started_at=NOON,
        updated_at=NOON,
        credential=Credential("a", NOON + 1, KeyVerdict.VALID),
        step=Step.VALIDATE_KEY,
        work=Work(NOON, NOON),
        shipping_methods=ShippingMethods(ShippingVerdict.CONFIGURED, 1),
        slots={"order-submit": Slot(verdict=SlotStatus.REGISTERED, in_order_at=NOON)},
    )
    unreached = replace(active, trouble=Trouble(Cause("store_timeout"), passing=True))
    proving = replace(active, candidate=Candidate("b"))
    drifted = Slot(verdict=SlotStatus.REGISTERED, in_order_at=NOON + 1, repairs=(NOON,), drift=(Drift.URL_MISSING,))
    failing = replace(active.slots["order-submit"], given_up=GivenUp(3, NOON, NOON + 1, "HTTP 502"))
    gone = {"order-submit": Slot(verdict=SlotStatus.REMOVED)}
    changes: list[tuple[Connection | None, Connection]] = [
        (None, replace(active, slots={"order-submit": Slot()})),
        (None, active),
        (active, unreached),
        (unreached, active),
        (active, replace(active, trouble=Trouble(Cause("permission_denied"), passing=False))),
        (active, replace(active, credential=Credential("a", verdict=KeyVerdict.REJECTED))),
        (active, replace(active, disconnection=Disconnection(0, 0), slots=gone)),
        (active, replace(active, credential=replace(active.credential, expiry_reported=7))),
        (proving, replace(active, credential=Credential("b", verdict=KeyVerdict.VALID))),
        (proving, replace(active, key_refusal=Cause("key_rejected"))),
        (active, replace(active, slots={"order-submit": drifted})),
        (active, replace(active, shares_store_with=("m-2",))),
        (active, replace(active, slots={"order-submit": replace(drifted, heard_at=NOON)})),
        (active, replace(active, slots={"order-submit": failing})),
        (replace(active, slots={"order-submit": failing}), active),
        (active, replace(active, slots={"order-submit": replace(drifted, silence=Silence(NOON, 60))})),
    ]
    events = [told for before, after in changes for told in events_of(before, after, 2, NOON)]
    outage = Outage("network", NOON, 0.5, 20, 40)
    events += [started_event(outage, 1), ended_event(outage, 2, NOON, held=3)]
    silent = Tally(20, 40)
    events += [many.started_event(silent, 3, NOON), many.ended_event(silent, 4, NOON, since=NOON)]
    refused = KnownRequest("connect", "inbox", at=NOON).refused(RequestRefused("store_url", "missing", "send it"))
    events += [refused_event(refused, "000000000007")]
    return {str(event["type"]): event for event in events}


def test_every_documented_event_occurs_and_no_other() -> None:
    assert set(one_of_each_kind()) == set(EVENT_TYPES)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_an_event_that_lacks_a_field_does_not_fit(kind: str) -> None:
    told = json.loads(json.dumps(one_of_each_kind()[kind]))
    hold([told])
    for name in told:
        if name != "type":
            assert not ANY_EVENT.is_valid({key: value for key, value in told.items() if key != name}), name
    for name in told["data"]:
        less = {key: value for key, value in told["data"].items() if key != name}
        assert not ANY_EVENT.is_valid({**told, "data": less}), name
