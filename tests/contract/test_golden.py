"""The stored messages: what Celery would send, taken by a real worker as they are."""

from typing import Any

import pytest
import redis
from celery import Celery

from integrations.sealing.keyring import Keyring
from occ.local.server import EmbeddedServer
from occ.simulator.store import SimulatedStore
from tasks.worker.broker.envelope import message_problem, task_problem
from tests.contract.golden import APPLICATION_KEY, HOST, MERCHANT, SEALING_KEY, TASKS, closed_again, opened, stored
from tests.contract.validators import loaded, of_file, problems
from tests.end_to_end.requests import SLOTS, is_at_rest
from tests.pipeline import Pipeline, ended
from tests.waiting import wait_until


@pytest.mark.parametrize("name", TASKS)
def test_a_stored_message_fits_its_schemas(name: str) -> None:
    message = opened(stored(name))
    envelope = {**message, "body": "QUJD"}
    assert problems(of_file("celery-message.schema.json", name), envelope) == []
    _, request, _ = message["body"]
    assert problems(of_file(f"{name}.schema.json"), request) == []


def test_the_key_in_it_opens_with_the_key_pair_of_the_examples() -> None:
    _, request, _ = opened(stored("connect"))["body"]
    assert request["store_url"] == f"https://{HOST}"
    assert Keyring([SEALING_KEY]).open(request["application_key"], MERCHANT) == APPLICATION_KEY


def without_what_differs(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what is another each time: ids, and who sends it."""
    ids = {"id", "root_id", "origin", "correlation_id", "reply_to", "delivery_tag"}
    return {
        **message,
        "headers": {name: value for name, value in message["headers"].items() if name not in ids},
        "properties": {name: value for name, value in message["properties"].items() if name not in ids},
    }


@pytest.mark.server
@pytest.mark.parametrize("name", TASKS)
def test_celery_still_sends_what_is_stored(name: str, server: EmbeddedServer, redis_client: redis.Redis) -> None:
    message = opened(stored(name))
    with Celery(broker=server.broker_url) as producer:
        producer.conf.task_ignore_result = True
        kwargs = message["body"][1]
        producer.send_task(TASKS[name], kwargs=kwargs, queue="occ", argsrepr="()", kwargsrepr="{}")
    sent: Any = redis_client.lpop("occ")
    assert without_what_differs(opened(sent)) == without_what_differs(message)


def least(name: str) -> bytes:
    """A stored message with nothing in it that its schema does not ask for."""
    schema = loaded("celery-message.schema.json")["$defs"][name]

    def only_required(value: Any, schema: dict[str, Any]) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: only_required(value[key], schema["properties"][key]) for key in schema["required"]}

    message: dict[str, Any] = only_required(opened(stored(name)), schema)
    request = message["body"][1]
    if "request_id" in request:  # it is a request of its own
        request["request_id"] += ", again"
    return closed_again({**message, "body": [*message["body"][:2], {}]})


@pytest.mark.parametrize("name", TASKS)
def test_the_least_message_is_smaller_and_holds_what_the_worker_looks_at(name: str) -> None:
    message = opened(least(name))
    text = least(name).decode()
    assert message["headers"].keys() == {"task", "id"}
    assert message_problem({**message, "body": "QUJD"}, text) is None
    assert task_problem(message["headers"], message["body"], text) is None


@pytest.mark.server
@pytest.mark.end_to_end
@pytest.mark.parametrize("send", [stored, least], ids=["as stored", "only what is required"])
def test_a_worker_takes_the_messages_byte_for_byte(
    send: Any, pipeline: Pipeline, real_looking: tuple[SimulatedStore, dict[str, str]]
) -> None:
    store, _ = real_looking
    store.change(application_key=APPLICATION_KEY)
    store.reset_counts()
    before = {slot: store.urls(slot) for slot in SLOTS}  # other merchants of ours may be there
    known = pipeline.connection(MERCHANT)
    pipeline.redis.lpush("occ", send("connect"))
    pipeline.await_end(MERCHANT, run=known.run + 1 if known else 1)
    assert pipeline.status(MERCHANT)["status"] == "active"
    assert pipeline.status(MERCHANT)["store_url"] == f"https://{HOST}"
    assert store.calls.endpoints["login"] == 1

    pipeline.redis.lpush("occ", send("revalidate"))

    def is_over() -> bool:
        return store.calls.endpoints["login"] == 2 and is_at_rest(pipeline.connection(MERCHANT))

    wait_until(is_over, what="the re-validation to end")

    pipeline.redis.lpush("occ", send("disconnect"))
    wait_until(lambda: pipeline.status(MERCHANT)["status"] == "disconnected", what="the end")
    assert {slot: store.urls(slot) for slot in pipeline.status(MERCHANT)["slots"]} == before
    connection = pipeline.connection(MERCHANT)
    assert connection is not None
    assert ended(connection, 1)
    assert pipeline.redis.llen("occ:quarantine") == 0
