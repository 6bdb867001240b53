"""Shipping methods as `GET /ccadmin/v1/shippingMethods` shows them (op-ccadmin-v1-shippingmethods-get.html)."""

from collections.abc import Mapping

from occ.simulator.setting_error import SettingError


def shipping_method(number: int = 1, **fields: object) -> dict[str, object]:
    """One item; `fields` win, so that a test can make any of them null or odd."""
    name = "ground" if number == 1 else f"ground{number}"
    item: dict[str, object] = {
        "repositoryId": f"{name}ShippingMethod",
        "displayName": name.capitalize(),
        "description": None,
        "internalName": name,
        "externalId": None,
        "enabled": True,
        "displaySequence": number - 1,
        "type": 0,
        "shippingGroupType": "hardgoodShippingGroup",
        "shippingCalculator": "priceRange",
        "isExternallyPriced": False,
        "isFallback": False,
        "eligibleForProductWithSurcharges": False,
        "taxCode": None,
        "ranges": [{"repositoryId": f"{name}Range1", "low": 0, "high": 14.99, "amount": 4.75}],
        "shipToLocations": [{"repositoryId": "100001"}],
        "associatedPriceListGroups": [{"id": "UsDollar", "repositoryId": "UsDollar", "active": True}],
    }
    return {**item, **fields}


def shipping_methods_from(value: object) -> list[dict[str, object]]:
    """A number of methods, or a list of items whose fields win over the sample's; `missing` names fields to leave out.

    Raises SettingError.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return [shipping_method(number) for number in range(1, value + 1)]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, Mapping) for item in value):
        raise SettingError("shipping_methods is a number or a list of objects")
    return [_item(number, item) for number, item in enumerate(value, start=1)]


def _item(number: int, fields: Mapping[str, object]) -> dict[str, object]:
    left_out = fields.get("missing")
    item = shipping_method(number, **{name: value for name, value in fields.items() if name != "missing"})
    names = left_out if isinstance(left_out, (list, tuple)) else ()
    return {name: value for name, value in item.items() if name not in names}


def enabled(item: Mapping[str, object]) -> bool:
    """What the store's own filter thinks: everything but a false."""
    return str(item.get("enabled", True)).lower() != "false"
