"""Arguments and options that several commands share."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from integrations.errors import RequestRefused
from integrations.oracle_commerce.request import is_merchant_id
from integrations.setting_values import duration

_RUN = re.compile(r"[0-9]{1,9}", re.ASCII)

BAD_MERCHANT_ID = "use 1 to 128 letters, digits, dots, dashes, underscores or tildes, starting with a letter or digit"

F = TypeVar("F", bound=Callable[..., object])


class MerchantId(click.ParamType[str]):
    """An id as requests carry it. What it is not is never repeated: a key pasted in its place is a secret."""

    name = "merchant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Raises RequestRefused."""
        if not is_merchant_id(value):
            raise RequestRefused("merchant_id", "bad_merchant_id", BAD_MERCHANT_ID)
        return str(value)


class ConnectionId(MerchantId):
    """A merchant id, or that of a store the merchant has left: `<merchant>@<run>`. Only for reading."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises RequestRefused."""
        return str(value) if is_former_id(value) else super().convert(value, param, ctx)


def is_former_id(value: object) -> bool:
    """Whether this names the record of a store that a merchant has left."""
    merchant_id, _, run = value.partition("@") if isinstance(value, str) else ("", "", "")
    return is_merchant_id(merchant_id) and _RUN.fullmatch(run) is not None


class Duration(click.ParamType[float]):
    """Seconds, written as in the settings: 30, 30s, 10m, 2h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Fails without repeating the value."""
        if isinstance(value, float):
            return value
        try:
            return duration(value)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


merchant = click.argument("merchant", type=MerchantId())
recorded = click.argument("merchant", type=ConnectionId())
any_recorded = click.argument("merchant", type=ConnectionId(), required=False)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output, and nothing else there.")


def last_option(default: int) -> Callable[[F], F]:
    """How many of the latest entries to list."""
    return click.option(
        "--last", default=default, show_default=True, type=click.IntRange(1, 10_000), help="How many at most."
    )
