from typing import Any

import pytest

from occ.simulator.caller import Caller, shown
from occ.simulator.setting_error import SettingError
from occ.simulator.store import SimulatedStore

PATH = "/ccadmin/v1/shippingMethods"


def caller_of(**changes: Any) -> Caller:
    return Caller(SimulatedStore("m-1", url="https://store.example", **changes)).login()


def enabled_in(reply: Any) -> list[object]:
    return [item.get("enabled") for item in shown(reply)["items"]]


def test_an_item_has_the_documented_fields() -> None:
    assert shown(caller_of().ask("GET", PATH)) == {
        "items": [
            {
                "repositoryId": "groundShippingMethod",
                "displayName": "Ground",
                "description": None,
                "internalName": "ground",
                "externalId": None,
                "enabled": True,
                "displaySequence": 0,
                "type": 0,
                "shippingGroupType": "hardgoodShippingGroup",
                "shippingCalculator": "priceRange",
                "isExternallyPriced": False,
                "isFallback": False,
                "eligibleForProductWithSurcharges": False,
                "taxCode": None,
                "ranges": [{"repositoryId": "groundRange1", "low": 0, "high": 14.99, "amount": 4.75}],
                "shipToLocations": [{"repositoryId": "100001"}],
                "associatedPriceListGroups": [{"id": "UsDollar", "repositoryId": "UsDollar", "active": True}],
            }
        ],
        "links": [{"rel": "self", "href": "https://store.example/ccadmin/v1/shippingMethods"}],
    }


def test_older_releases_answer_with_a_bare_array() -> None:
    caller = caller_of(shipping_wrapper="array", shipping_methods=2)
    assert [item["repositoryId"] for item in shown(caller.ask("GET", PATH))] == [
        "groundShippingMethod",
        "ground2ShippingMethod",
    ]


def test_only_enabled_ones_are_shown_unless_asked() -> None:
    caller = caller_of(shipping_methods=[{"enabled": False}, {"enabled": True}, {"enabled": "false"}])
    assert enabled_in(caller.ask("GET", PATH)) == [True]
    assert enabled_in(caller.ask("GET", f"{PATH}?enabledOnly=true")) == [True]
    assert enabled_in(caller.ask("GET", f"{PATH}?enabledOnly=false")) == [False, True, "false"]


def test_a_store_may_ignore_the_filter() -> None:
    caller = caller_of(shipping_methods=[{"enabled": False}], filters_enabled=False)
    assert enabled_in(caller.ask("GET", PATH)) == [False]


def test_disabled_ones_only_and_none_at_all_are_both_an_empty_list() -> None:
    caller = caller_of(shipping_methods=[{"enabled": False}])
    assert enabled_in(caller.ask("GET", PATH)) == []
    caller.store.change(shipping_methods=0)
    reply = caller.ask("GET", PATH)
    assert reply.status == 200
    assert enabled_in(reply) == []


def test_any_field_can_be_odd_or_missing() -> None:
    caller = caller_of(shipping_methods=[{"repositoryId": None, "enabled": "true", "missing": ["ranges"]}])
    item = shown(caller.ask("GET", PATH))["items"][0]
    assert item["repositoryId"] is None
    assert item["enabled"] == "true"
    assert "ranges" not in item


def test_the_path_differs_between_releases() -> None:
    caller = caller_of(shipping_path="/ccadmin/v1/merchant/shippingMethods")
    assert caller.ask("GET", "/ccadmin/v1/merchant/shippingMethods").status == 200
    assert caller.ask("GET", PATH).status == 404


@pytest.mark.parametrize("value", ["many", [1], True, None])
def test_nonsense_is_not_accepted_as_shipping_methods(value: object) -> None:
    with pytest.raises(SettingError, match="shipping_methods"):
        SimulatedStore("m-1", shipping_methods=value)
