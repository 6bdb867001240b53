import zlib
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from occ.simulator.caller import OUR_URL, Caller, shown
from occ.simulator.clocks import StoppedClock
from occ.simulator.faults import KINDS, SLOT_ENDPOINTS
from occ.simulator.setting_error import SettingError
from occ.simulator.store import SimulatedStore

SHIPPING = "/ccadmin/v1/shippingMethods"


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def caller(clock: StoppedClock) -> Caller:
    return Caller(SimulatedStore("m-1", clocks=clock.clocks)).login()


def statuses(caller: Caller, times: int, path: str = SHIPPING) -> list[int]:
    return [caller.ask("GET", path).status for _ in range(times)]


# -- scripts


def test_a_fault_holds_for_one_call_unless_told(caller: Caller) -> None:
    caller.store.fail("shipping_methods", 503)
    assert statuses(caller, 3) == [503, 200, 200]


def test_a_script_is_used_up_in_order(caller: Caller) -> None:
    caller.store.fail("shipping_methods", {"fault": 503, "times": 2}, "healthy", "throttled")
    assert statuses(caller, 5) == [503, 503, 200, 429, 200]


def test_a_fault_can_hold_always(caller: Caller) -> None:
    caller.store.fail("shipping_methods", {"fault": 404, "times": "always"})
    assert statuses(caller, 50) == [404] * 50
    caller.store.heal()
    assert statuses(caller, 1) == [200]


def test_a_fault_can_hold_for_a_time_from_the_first_call_that_meets_it(caller: Caller, clock: StoppedClock) -> None:
    caller.store.fail("shipping_methods", {"fault": 503, "seconds": 10}, {"fault": 429, "seconds": 5})
    clock.advance(100)
    assert statuses(caller, 2) == [503, 503]
    clock.advance(9.9)
    assert statuses(caller, 1) == [503]
    clock.advance(0.2)
    assert statuses(caller, 1) == [429]
    clock.advance(5)
    assert statuses(caller, 1) == [200]


def test_a_fault_can_hold_for_a_time_from_now(caller: Caller, clock: StoppedClock) -> None:
    caller.store.fail("shipping_methods", {"fault": 503, "seconds": 10, "starts": "now"})
    clock.advance(9)
    assert statuses(caller, 1) == [503]
    clock.advance(1)
    assert statuses(caller, 1) == [200]


def test_times_and_seconds_together_end_with_the_earlier(caller: Caller) -> None:
    caller.store.fail("shipping_methods", {"fault": 503, "seconds": 10, "times": 2})
    assert statuses(caller, 3) == [503, 503, 200]


def test_the_most_particular_target_decides(caller: Caller) -> None:
    always = {"times": "always"}
    caller.store.change(
        faults={
            "read_slot:order-submit": {"fault": 404},
            "slot:order-submit": {"fault": 405, **always},
            "read_slot": {"fault": 400, **always},
            "*": {"fault": 503, **always},
        }
    )
    assert statuses(caller, 2, "/ccadmin/v1/webhooks/order-submit") == [404, 405]
    assert statuses(caller, 1, "/ccadmin/v1/webhooks/order-update") == [400]
    assert statuses(caller, 1) == [503]
    assert caller.write({"urls": []}).status == 405
    assert caller.write({"urls": []}, "order-update").status == 503


def test_one_targets_script_is_replaced_without_touching_the_others(caller: Caller) -> None:
    caller.store.change(faults={"shipping_methods": [503, 503], "login": 401})
    caller.store.change(faults={"shipping_methods": None})
    assert statuses(caller, 1) == [200]
    assert caller.exchange().status == 401


@pytest.mark.parametrize(
    ("faults", "complaint"),
    [
        ({"shipping_method": 503}, "no target"),
        ({"read_slot:": 503}, "no target"),
        ({"login:order-submit": 503}, "no target"),
        ({"login": "explode"}, "no fault"),
        ({"login": {"fault": "reset", "retry_after": 1}}, "has no retry_after"),
        ({"login": {"fault": "reset", "times": -1}}, "times"),
        ({"login": {"fault": "reset", "seconds": "10"}}, "seconds"),
        ({"login": {"fault": "reset", "starts": "soon"}}, "starts"),
        ({"login": {"fault": "status"}}, "needs a number"),
        ({"login": 1.5}, "a fault is"),
        ({"login": "drip"}, "cannot drip"),
        ({"connection": 503}, "cannot unavailable"),
        ([503], "maps targets"),
    ],
)
def test_a_fault_that_does_not_fit_is_refused_and_changes_nothing(caller: Caller, faults: Any, complaint: str) -> None:
    caller.store.fail("shipping_methods", 503)
    with pytest.raises(SettingError, match=complaint):
        caller.store.change(faults=faults, token_lifetime=1)
    assert caller.store.settings.token_lifetime == 300
    assert statuses(caller, 2) == [503, 200]


def test_what_is_still_to_come_can_be_seen(caller: Caller) -> None:
    caller.store.fail("shipping_methods", 503, "hang")
    statuses(caller, 1)
    assert caller.store.described()["faults"] == {"shipping_methods": ["unavailable", "hang"]}
    statuses(caller, 2)
    assert caller.store.described()["faults"] == {}


# -- answers with an error


@pytest.mark.parametrize(
    ("kind", "status", "has"),
    [
        ("unauthorized", 401, {"status": "401"}),
        ("forbidden_role", 403, {"status": "403"}),
        ("guard_60012", 403, {"status": "403", "errorCode": "60012"}),
        ("not_found", 404, {"status": "404"}),
        ("bad_request", 400, {"status": "400"}),
        ("method_not_allowed", 405, {"status": "405"}),
        ("throttled", 429, {"status": "429"}),
        ("server_error", 500, {"status": "500"}),
        ("error_in_200", 200, {"status": "500", "errorCode": "99999"}),
    ],
)
def test_errors_follow_the_documented_model(caller: Caller, kind: str, status: int, has: dict[str, str]) -> None:
    caller.store.fail("shipping_methods", kind)
    reply = caller.ask("GET", SHIPPING)
    body = shown(reply)
    assert reply.status == status
    assert {"message", "status", "errorCode"} == body.keys()
    assert {name: body[name] for name in has} == has
    assert body["errorCode"].isdecimal()


def test_a_documented_error_can_be_quoted_literally(caller: Caller) -> None:
    message = "Required header is missing: x-ccasset-language"
    caller.store.fail("shipping_methods", {"fault": 400, "message": message, "error_code": "82001"})
    assert shown(caller.ask("GET", SHIPPING)) == {"message": message, "status": "400", "errorCode": "82001"}


def test_the_documented_form_with_several_errors_can_be_sent(caller: Caller) -> None:
    body = {
        "message": "Error while retrieving the products",
        "status": "400",
        "errors": [{"message": "Product Id xprod1 is invalid.", "status": "400", "errorCode": "20031"}],
    }
    caller.store.fail("shipping_methods", {"fault": 400, "body": body})
    assert shown(caller.ask("GET", SHIPPING)) == body


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("forbidden_page", 403),
        ("unavailable", 503),
        ("bad_gateway", 502),
        ("gateway_timeout", 504),
        ("html_in_200", 200),
    ],
)
def test_pages_of_the_edge_are_html(caller: Caller, kind: str, status: int) -> None:
    caller.store.fail("shipping_methods", kind)
    reply = caller.ask("GET", SHIPPING)
    assert reply.status == status
    assert reply.headers["Content-Type"] == "text/html"
    assert reply.body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("shape", ["errorCode", "plain", "error", "empty", "html"])
def test_a_401_comes_in_every_shape(caller: Caller, shape: str) -> None:
    caller.store.fail("login", {"fault": "unauthorized", "shape": shape})
    reply = caller.exchange()
    assert reply.status == 401
    bodies = {"errorCode": b"errorCode", "plain": b'"status": "401"', "error": b"invalid_client", "html": b"<h1>"}
    assert bodies.get(shape, b"") in reply.body
    assert (shape == "empty") == (reply.body == b"")


def test_an_error_in_200_can_name_any_status(caller: Caller) -> None:
    caller.store.fail("shipping_methods", {"fault": "error_in_200", "body_status": 403, "error_code": "60012"})
    body = shown(caller.ask("GET", SHIPPING))
    assert body["status"] == "403"
    assert body["errorCode"] == "60012"


def test_any_status_can_be_sent(caller: Caller) -> None:
    caller.store.fail("shipping_methods", 418, {"fault": "status", "status": 599, "shape": "empty"})
    assert statuses(caller, 2) == [418, 599]


def test_retry_after_comes_in_whole_seconds(caller: Caller) -> None:
    caller.store.fail("shipping_methods", {"fault": 429, "retry_after": 2.1})
    assert caller.ask("GET", SHIPPING).headers["Retry-After"] == "3"


def test_retry_after_comes_as_a_date_on_the_stores_own_clock(caller: Caller, clock: StoppedClock) -> None:
    caller.store.change(clock_ahead=3600)
    caller.store.fail("shipping_methods", {"fault": 503, "retry_after_date": 7.5})
    headers = caller.ask("GET", SHIPPING).headers
    assert headers["Retry-After"].endswith(" GMT")
    moment = parsedate_to_datetime(headers["Retry-After"]).timestamp()
    assert moment == pytest.approx(clock.clocks.wall() + 3600 + 8, abs=0.6)
    assert moment - parsedate_to_datetime(headers["Date"]).timestamp() == 8


def test_retry_after_can_be_nonsense_or_absent(caller: Caller) -> None:
    caller.store.fail("shipping_methods", {"fault": 429, "retry_after": "soon"}, 429)
    assert caller.ask("GET", SHIPPING).headers["Retry-After"] == "soon"
    assert "Retry-After" not in caller.ask("GET", SHIPPING).headers


# -- whether the call takes effect


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"drip", "healthy", "status", "write_ignored"}))
def test_a_write_takes_effect_or_not_as_the_fault_says(clock: StoppedClock, kind: str) -> None:
    small = {"size": 100_000} if "size" in KINDS[kind].options else {}
    for processed in (False, True):
        caller = Caller(SimulatedStore("m-1", clocks=clock.clocks)).login()
        caller.store.fail("write_slot", {"fault": kind, "processed": processed, **small})
        caller.write({"urls": [OUR_URL]})
        assert caller.store.urls("order-submit") == ([OUR_URL] if processed else [])


def test_errors_do_nothing_by_default_and_spoilt_answers_have_done_it(caller: Caller) -> None:
    by_default = {kind for kind, spec in KINDS.items() if spec.processed}
    assert {"slow", "truncated", "drip_body", "drip_head", "huge", "gzip_bomb", "empty", "no_content"} <= by_default
    assert not by_default & {"reset", "hang", "unavailable", "throttled", "unauthorized", "redirect", "write_ignored"}


@pytest.mark.parametrize(("answers", "claimed"), [("stored", []), ("as_asked", [OUR_URL])])
def test_a_write_can_be_ignored_behind_a_good_answer(caller: Caller, answers: str, claimed: list[str]) -> None:
    caller.store.fail("write_slot", {"fault": "write_ignored", "answers": answers})
    reply = caller.write({"urls": [OUR_URL]})
    assert reply.status == 200
    assert shown(reply)["urls"] == claimed
    assert caller.read()["urls"] == []


def test_an_ignored_write_still_needs_a_token_a_slot_and_a_good_body(caller: Caller) -> None:
    caller.store.fail("write_slot", *["write_ignored"] * 3)
    assert caller.write({"urls": 1}).status == 400
    assert caller.write({"urls": []}, "no-such").status == 404
    caller.token = "other"
    assert caller.write({"urls": []}).status == 401


# -- spoilt answers


@pytest.mark.parametrize(("kind", "status"), [("empty", 200), ("no_content", 204)])
def test_a_write_can_be_answered_without_a_body(caller: Caller, kind: str, status: int) -> None:
    caller.store.fail("write_slot", kind, kind)
    reply = caller.write({"urls": [OUR_URL]})
    assert (reply.status, reply.body) == (status, b"")
    assert caller.write({"urls": "wrong"}).status == 400


def test_lists_can_change_their_form_from_call_to_call(caller: Caller) -> None:
    caller.store.fail("shipping_methods", "bare_array", "items")
    assert isinstance(shown(caller.ask("GET", SHIPPING)), list)
    assert shown(caller.ask("GET", SHIPPING)).keys() == {"items", "links"}
    caller.store.fail("read_slot", "bare_array")
    assert caller.read()["id"] == "order-submit"


def test_json_can_be_broken(caller: Caller) -> None:
    caller.store.fail("shipping_methods", "broken_json")
    with pytest.raises(ValueError, match=r"line 1"):
        shown(caller.ask("GET", SHIPPING))


def test_a_gzip_bomb_is_small_until_it_is_opened(caller: Caller) -> None:
    caller.store.fail("shipping_methods", {"fault": "gzip_bomb", "size": 8_000_000})
    reply = caller.ask("GET", SHIPPING)
    assert reply.headers["Content-Encoding"] == "gzip"
    assert len(reply.body) < 100_000
    assert len(zlib.decompress(reply.body, 31)) == 8_000_000


def test_a_redirect_leads_elsewhere(caller: Caller) -> None:
    caller.store.fail("login", "redirect", {"fault": "redirect", "status": 307, "location": "/other"})
    first, second = caller.exchange(), caller.exchange()
    assert (first.status, first.headers["Location"]) == (302, "https://elsewhere.invalid/ccadmin/v1/login")
    assert (second.status, second.headers["Location"]) == (307, "/other")


def test_any_fault_can_be_late(caller: Caller) -> None:
    caller.store.fail("shipping_methods", {"fault": 503, "delay": 2}, "slow", {"fault": "slow", "delay": 9})
    replies = [caller.ask("GET", SHIPPING) for _ in range(3)]
    assert [reply.delay for reply in replies] == [2, 3, 9]
    assert [reply.status for reply in replies] == [503, 200, 200]


def test_latency_is_the_stores_or_everybodys(clock: StoppedClock) -> None:
    caller = Caller(SimulatedStore("m-1", clocks=clock.clocks))
    caller.store.base_latency = lambda: (0.05, 0.0)
    assert caller.exchange().delay == 0.05
    caller.store.change(latency=1, jitter=0.5)
    delays = {caller.exchange().delay for _ in range(20)}
    assert all(1 <= delay <= 1.5 for delay in delays)
    assert len(delays) > 1


def test_slots_have_their_own_targets(caller: Caller) -> None:
    for endpoint in SLOT_ENDPOINTS:
        caller.store.fail(f"{endpoint}:order-submit", 503)
    assert caller.ask("GET", "/ccadmin/v1/webhooks/order-submit").status == 503
    assert caller.ask("PUT", "/ccadmin/v1/webhooks/order-submit", {}).status == 503
    assert caller.ask("POST", "/ccadmin/v1/webhooks/order-submit", {}).status == 503
