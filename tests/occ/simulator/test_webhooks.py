from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occ.simulator.caller import OUR_URL, THEIR_URL, Caller, shown
from occ.simulator.store import SimulatedStore
from occ.simulator.webhooks import MASK, PLAIN_IDS
from tests.examples import examples

REAL = "production-submitOrder"


def caller_of(**changes: Any) -> Caller:
    return Caller(SimulatedStore("m-1", url="https://store.example", **changes)).login()


def test_the_documented_write_is_answered_as_documented() -> None:
    caller = caller_of(slots={REAL: {"displayName": "Order Submit - Production"}})
    reply = caller.write({"urls": [OUR_URL], "headers": {"X-Integration": "acme"}}, REAL)
    assert reply.status == 200
    assert shown(reply) == {
        "id": "production-submitOrder",
        "name": "submitOrder",
        "serverType": "production",
        "displayName": "Order Submit - Production",
        "urls": [OUR_URL],
        "headers": {"X-Integration": "acme"},
        "secretKey": None,
        "secretKeySHA512": None,
        "maxNumberOfResendAttempts": "5",
        "resendDelaySeconds": "3600",
        "applyResendDelayToFirstAttempt": False,
        "includeChangesOnly": False,
        "subEntityTruncationSize": None,
        "urlApplicationSuppressionList": [],
        "links": [{"rel": "self", "href": "https://store.example/ccadmin/v1/webhooks/production-submitOrder"}],
    }
    assert caller.read(REAL) == shown(reply)


def test_a_list_in_a_write_replaces_the_stored_one() -> None:
    caller = caller_of(slots={"order-submit": {"urls": [THEIR_URL]}})
    caller.write({"urls": [OUR_URL]})
    assert caller.store.urls("order-submit") == [OUR_URL]


def test_a_map_in_a_write_replaces_the_stored_one() -> None:
    caller = caller_of(slots={"order-submit": {"headers": {"A": "1", "B": "2"}}})
    caller.write({"headers": {"B": "3"}})
    assert caller.read()["headers"] == {"B": "3"}


def test_fields_a_write_does_not_name_stay() -> None:
    prior = {
        "headers": {"A": "1"},
        "basicAuthentication": {"user": "pass"},
        "maxNumberOfResendAttempts": 9,
        "includeChangesOnly": True,
    }
    caller = caller_of(slots={"order-submit": prior})
    caller.write({"urls": [OUR_URL]})
    stored = caller.store.slot_fields("order-submit")
    assert {name: stored[name] for name in prior} == prior


def test_null_empties_a_slot() -> None:
    caller = caller_of(slots={"order-submit": {"urls": [THEIR_URL]}})
    assert shown(caller.write({"urls": None}))["urls"] is None


@given(st.lists(st.lists(st.sampled_from(["https://a.example/x", "https://b.example/y", OUR_URL])), min_size=1))
@settings(max_examples=examples(40))
def test_the_last_write_alone_decides(bodies: list[list[str]]) -> None:
    caller = caller_of()
    for urls in bodies:
        caller.write({"urls": urls})
    assert caller.read()["urls"] == bodies[-1]


@pytest.mark.parametrize(
    "body",
    [
        {"urls": ["http://hooks.example.com/x"]},
        {"urls": ["ftp://hooks.example.com/x"]},
        {"urls": ["https://"]},
        {"urls": ["not a url"]},
        {"urls": "https://hooks.example.com/x"},
        {"urls": [1]},
        {"headers": ["A"]},
        {"basicAuthentication": "user:pass"},
        {"maxNumberOfResendAttempts": "many"},
        {"maxNumberOfResendAttempts": -1},
        {"includeChangesOnly": "yes"},
        {"subEntityTruncationSize": 99},
        [],
        "text",
    ],
)
def test_a_bad_write_is_refused_and_changes_nothing(body: object) -> None:
    caller = caller_of(slots={"order-submit": {"urls": [THEIR_URL], "headers": {"A": "1"}}})
    before = caller.store.slot_fields("order-submit")
    reply = caller.write(body)
    assert reply.status == 400
    assert shown(reply)["status"] == "400"
    assert shown(reply)["errorCode"].isdecimal()
    assert caller.store.slot_fields("order-submit") == before


def test_a_body_that_is_no_json_is_refused() -> None:
    assert caller_of().write(b"urls=1").status == 400


def test_http_urls_are_fine_where_the_tenant_says_so() -> None:
    assert caller_of(allows_http=True).write({"urls": ["http://127.0.0.1:9000/x"]}).status == 200


def test_quoted_numbers_are_understood_and_fields_that_cannot_be_written_ignored() -> None:
    caller = caller_of()
    whole = caller.read()
    reply = caller.write({**whole, "urls": [OUR_URL], "resendDelaySeconds": "60", "secretKey": "mine", "extra": 1})
    assert reply.status == 200
    assert shown(reply) == {**whole, "urls": [OUR_URL], "resendDelaySeconds": "60"}


def test_numbers_come_quoted_or_not() -> None:
    assert caller_of(quoted_numbers=True).read()["resendDelaySeconds"] == "3600"
    assert caller_of(quoted_numbers=False).read()["resendDelaySeconds"] == 3600


def test_prior_content_is_shown_as_it_is_even_if_odd() -> None:
    prior = {"urls": None, "headers": None, "resendDelaySeconds": None, "missing": ["includeChangesOnly"]}
    slot = caller_of(slots={"order-submit": prior}).read()
    assert slot["urls"] is None
    assert slot["headers"] is None
    assert slot["resendDelaySeconds"] is None
    assert "includeChangesOnly" not in slot


def test_a_missing_field_appears_once_it_is_written() -> None:
    caller = caller_of(slots={"order-submit": {"missing": ["urls"]}})
    assert "urls" not in caller.read()
    caller.write({"urls": [OUR_URL]})
    assert caller.read()["urls"] == [OUR_URL]


def test_plain_and_real_slots_are_offered() -> None:
    slots = shown(caller_of().ask("GET", "/ccadmin/v1/webhooks"))
    ids = [slot["id"] for slot in slots]
    assert ids[:4] == list(PLAIN_IDS)
    assert {"production-submitOrder", "publishing-submitOrder", "production-submitOrderForNonPCITargets"} <= set(ids)


def test_the_list_can_be_narrowed_by_server_type() -> None:
    slots = shown(caller_of().ask("GET", "/ccadmin/v1/webhooks?serverType=publishing"))
    assert slots
    assert all(slot["id"].startswith("publishing-") for slot in slots)


def test_the_list_comes_wrapped_where_the_tenant_does_so() -> None:
    body = shown(caller_of(slot_list_wrapper="items").ask("GET", "/ccadmin/v1/webhooks"))
    assert body.keys() == {"items", "links", "autoWrap"}


def test_several_slots_can_be_written_at_once_or_none() -> None:
    caller = caller_of()
    entries = [{"id": "order-submit", "urls": [OUR_URL]}, {"id": REAL, "urls": [THEIR_URL]}]
    assert caller.ask("PUT", "/ccadmin/v1/webhooks", {"webHooks": entries}).status == 200
    assert caller.store.urls(REAL) == [THEIR_URL]
    entries = [{"id": "order-submit", "urls": []}, {"id": "no-such", "urls": []}]
    assert caller.ask("PUT", "/ccadmin/v1/webhooks", {"webHooks": entries}).status == 404
    assert caller.ask("PUT", "/ccadmin/v1/webhooks", {"webHooks": [{"urls": []}]}).status == 400
    assert caller.store.urls("order-submit") == [OUR_URL]


@pytest.mark.parametrize("status", [404, 400])
def test_a_slot_that_is_not_offered_can_be_neither_read_nor_written(status: int) -> None:
    caller = caller_of(slots={"shipment-create": None}, unknown_slot_status=status)
    assert caller.ask("GET", "/ccadmin/v1/webhooks/shipment-create").status == status
    assert caller.write({"urls": [OUR_URL]}, "shipment-create").status == status
    assert caller.ask("GET", "/ccadmin/v1/webhooks/shipment-update").status == 200


def test_a_tenant_may_offer_other_slots_only() -> None:
    caller = caller_of(offers=["production-submitOrder"])
    assert caller.ask("GET", "/ccadmin/v1/webhooks/production-submitOrder").status == 200
    assert caller.ask("GET", "/ccadmin/v1/webhooks/order-submit").status == 404


def test_some_tenants_take_one_url_per_slot() -> None:
    caller = caller_of(body_style="url", slots={"order-submit": {"urls": [THEIR_URL]}})
    assert caller.read()["url"] == THEIR_URL
    assert shown(caller.write({"url": OUR_URL}))["url"] == OUR_URL
    assert "urls" not in caller.read()
    assert caller.store.urls("order-submit") == [OUR_URL]


def test_credentials_can_be_masked() -> None:
    caller = caller_of(slots={"order-submit": {"basicAuthentication": {"u": "p"}}}, masked_credentials=True)
    assert caller.read()["basicAuthentication"] == {"u": MASK}
    assert caller.store.slot_fields("order-submit")["basicAuthentication"] == {"u": "p"}


def test_the_secret_is_shared_by_name_and_shown_only_on_request() -> None:
    caller = caller_of()
    asked = "?includeSecretKeys=true"
    production, publishing = (
        shown(caller.ask("GET", f"/ccadmin/v1/webhooks/{server}-submitOrder{asked}"))["secretKey"]
        for server in ("production", "publishing")
    )
    other = shown(caller.ask("GET", f"/ccadmin/v1/webhooks/order-submit{asked}"))["secretKey"]
    assert production == publishing != other
    assert caller.read(REAL)["secretKey"] is None


def test_a_store_may_show_secrets_to_everybody_and_somebody_else_may_reset_them() -> None:
    caller = caller_of(shows_secrets=True)
    before = caller.read(REAL)
    caller.store.reset_secret("publishing-submitOrder")
    after = caller.read(REAL)
    for name in ("secretKey", "secretKeySHA512"):
        assert before[name]
        assert after[name]
        assert before[name] != after[name]
    assert caller.store.summary()["secret_resets"] == 0, "this was not us"


def test_resetting_a_secret_is_counted_and_hits_the_twin() -> None:
    caller = caller_of()
    reply = caller.ask("POST", f"/ccadmin/v1/webhooks/{REAL}", {"op": "resetSecretKey"})
    assert shown(reply).keys() == {"id", "secretKey"}
    twin = shown(caller.ask("GET", "/ccadmin/v1/webhooks/publishing-submitOrder?includeSecretKeys=true"))
    assert twin["secretKey"] == shown(reply)["secretKey"]
    assert caller.store.summary()["secret_resets"] == 1
    assert caller.ask("POST", f"/ccadmin/v1/webhooks/{REAL}", {"op": "delete"}).status == 400


def test_deliveries_given_up_are_listed_and_resent() -> None:
    caller = caller_of(slots={REAL: {"urls": [OUR_URL]}})
    first = caller.store.give_up_delivery(REAL)
    caller.store.give_up_delivery("production-publishEvent", [THEIR_URL])
    path = "/ccadmin/v1/webhookFailedMessages"
    query = "?q=messageType%20eq%20%22atg.commerce.fulfillment.SubmitOrder%22"
    found = shown(caller.ask("GET", path + query))
    assert found["totalResults"] == 1
    assert found["items"][0]["id"] == first
    assert found["items"][0]["remainingTargetUrls"] == [OUR_URL]
    assert found["items"][0]["resend"] is False
    assert shown(caller.ask("PUT", f"{path}/{first}", {"resend": True}))["resend"] is True
    assert shown(caller.ask("GET", f"{path}?limit=1&offset=1"))["items"][0]["serverType"] == "production"
    assert caller.store.summary()["messages_resent"] == 1
    assert caller.ask("PUT", f"{path}/{first}", {"resend": "yes"}).status == 400
    assert caller.ask("GET", f"{path}/1").status == 404
    assert caller.ask("GET", f"{path}?q=rubbish").status == 400


def test_fields_narrow_the_list_of_deliveries_given_up() -> None:
    caller = caller_of(slots={REAL: {"urls": [OUR_URL]}})
    message_id = caller.store.give_up_delivery(REAL)
    path = "/ccadmin/v1/webhookFailedMessages"
    assert "asRaw" in shown(caller.ask("GET", path))["items"][0]
    assert shown(caller.ask("GET", f"{path}?fields=items.id,items.resend,totalResults")) == {
        "items": [{"id": message_id, "resend": False}],
        "totalResults": 1,
    }
    assert shown(caller.ask("GET", f"{path}?fields=items.id")) == {"items": [{"id": message_id}]}
    assert caller.ask("GET", f"{path}?limit=-1").status == 400
