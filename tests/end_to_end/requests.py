"""Asking a running pipeline for looks and disconnections, and seeing what came of it."""

from collections.abc import Callable, Iterable
from typing import Any

from integrations.connections.record import Connection
from occ.simulator.store import SimulatedStore
from tests.pipeline import Pipeline
from tests.waiting import PATIENCE, wait_until

SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
THEIRS = "https://erp.example.org/orders"
CARRYING_THEIRS = {slot: {"urls": [THEIRS]} for slot in SLOTS}
A_REVALIDATION = {"login": 1, "shipping_methods": 1, "read_slot": 4}


def ours(merchant_id: str, slot: str) -> str:
    """Our callback URL."""
    return f"https://hooks.example.com/occ/{merchant_id}/{slot}"


def calls(store: SimulatedStore) -> dict[str, int]:
    """How often each endpoint was called."""
    return dict(store.calls.endpoints)


# --- Asking -----------------------------------------------------------------------------------------------------------


def connect(pipeline: Pipeline, *stores: SimulatedStore) -> None:
    """Connect the merchants of these stores, and wait for what comes of it."""
    for store in stores:
        pipeline.send(pipeline.request(store))
    pipeline.await_end(*(store.name for store in stores))


def ask(pipeline: Pipeline, task: str, *args: object, **asked: object) -> None:
    """Send a request as a foreign producer does."""
    pipeline.producer.send_task(task, args=args, kwargs=asked, queue="occ")


def revalidate(pipeline: Pipeline, *stores: SimulatedStore, **asked: object) -> None:
    """Ask for a look at these stores, and wait until it is over."""
    before = {store.name: revalidations_asked(pipeline, store.name) for store in stores}
    for store in stores:
        ask(pipeline, "occ.revalidate", merchant_id=store.name, **asked)

    def over() -> bool:
        return all(
            revalidations_asked(pipeline, name) > asked and is_at_rest(pipeline.connection(name))
            for name, asked in before.items()
        )

    wait_until(over, what="the looks to end")


def await_second_revalidation(pipeline: Pipeline, *stores: SimulatedStore) -> None:
    """Until each store was looked at once more after its registration."""

    def over() -> bool:
        return all(
            is_at_rest(connection := pipeline.connection(store.name)) and connection and not connection.wrote_to_store
            for store in stores
        )

    wait_until(over, what="the second looks")


def is_at_rest(connection: Connection | None) -> bool:
    """Whether nothing is to be done before its time comes."""
    if connection is None or connection.work is None or connection.candidate is not None:
        return False
    waits = connection.work.claim is None and connection.work.due_at == connection.work.not_before
    return waits and not any(slot.work for slot in connection.slots.values())


def disconnect(pipeline: Pipeline, *stores: SimulatedStore, **asked: object) -> None:
    """Ask for it, and wait until every slot was dealt with once."""
    for store in stores:
        ask(pipeline, "occ.disconnect", merchant_id=store.name, **asked)
    await_true(
        lambda: all(pipeline.status(store.name)["status"] == "disconnected" for store in stores), "the disconnections"
    )


def await_true(true: Callable[[], bool], what: str, *, within: float = PATIENCE) -> None:
    """Poll until it is so."""
    wait_until(true, within=within, what=what)


# --- Seeing -----------------------------------------------------------------------------------------------------------


def history(pipeline: Pipeline, merchant_id: str, what: str) -> list[dict[str, Any]]:
    """The lines of the timeline that say this."""
    return [line for line in pipeline.records.timeline(merchant_id) if line["what"] == what]


def revalidations_asked(pipeline: Pipeline, merchant_id: str) -> int:
    """How many requests to revalidate were taken on."""
    return sum(len(history(pipeline, merchant_id, what)) for what in ("look_asked", "repair_asked"))


def events(pipeline: Pipeline, merchant_id: str) -> list[dict[str, Any]]:
    """What other systems were told about a merchant, oldest first."""
    found: list[dict[str, Any]] = []
    after = ""
    while page := pipeline.records.events(after=after):
        found += [event for _, event in page if event["subject"] == merchant_id]
        after = page[-1][0]
    return found


def told(pipeline: Pipeline, merchant_id: str) -> list[str]:
    """The kinds of these events, without what they have in common."""
    return [str(event["type"]).removeprefix("occ.connection.") for event in events(pipeline, merchant_id)]


def findings(status: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Code and slot of each."""
    return [(finding["code"], finding["slot"]) for finding in status["findings"]]


def slot_statuses(status: dict[str, Any]) -> dict[str, str]:
    """Slot name -> status."""
    return {name: slot["status"] for name, slot in status["slots"].items()}


def assert_nothing_foreign_was_lost(stores: Iterable[SimulatedStore]) -> None:
    """Neither URLs nor settings, in any slot."""
    for store in stores:
        summary = store.summary()
        assert (summary["foreign_urls_lost"], summary["foreign_settings_lost"]) == ([], []), store.name
        assert summary["secret_resets"] == 0


def assert_both_are_in(store: SimulatedStore) -> None:
    """Every slot carries their URL and ours."""
    for slot in SLOTS:
        assert store.urls(slot) == [THEIRS, ours(store.name, slot)], slot


def assert_only_theirs_are_in(store: SimulatedStore) -> None:
    """No slot carries ours any more."""
    for slot in SLOTS:
        assert store.urls(slot) == [THEIRS], slot


def where(pipeline: Pipeline, text: str) -> list[str]:
    """The keys of the server under which a text is to be found."""
    server = pipeline.redis
    readers: dict[str, Callable[[str], Any]] = {
        "string": server.get,
        "hash": server.hgetall,
        "list": lambda key: server.lrange(key, 0, -1),
        "zset": lambda key: server.zrange(key, 0, -1),
        "set": server.smembers,
        "stream": server.xrange,
    }
    kinds = ((str(key), str(server.type(key))) for key in server.scan_iter())
    return [key for key, kind in kinds if kind in readers and text in f"{key} {readers[kind](key)}"]


def await_forgotten(pipeline: Pipeline, record_id: str, *sealed_keys: str) -> None:
    """Until neither these sealed keys nor an access token are anywhere in the server."""
    assert all(sealed_keys)
    await_true(lambda: not any(where(pipeline, sealed) for sealed in sealed_keys), f"the key of {record_id} to be gone")
    await_true(lambda: not pipeline.redis.exists(f"occ:token:{record_id}"), f"the token of {record_id} to be gone")


class Log:
    """What the workers write from now on."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._start = {name: len(pipeline.output(name)) for name in pipeline.processes}

    def text(self) -> str:
        """All of it."""
        return "".join(
            self._pipeline.output(name)[start:].decode(errors="replace") for name, start in self._start.items()
        )
