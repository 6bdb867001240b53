"""Arguments and options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from integrations.errors import RequestRefused
from integrations.oracle_commerce.request import is_merchant_id
from integrations.setting_values import duration

F = TypeVar("F", bound=Callable[..., object])


class MerchantId(click.ParamType[str]):
    """An id as requests carry it. What it is not is never repeated: a key pasted in its place is a secret."""

    name = "merchant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Raises RequestRefused."""
        if not is_merchant_id(value):
            raise RequestRefused(
                "merchant_id",
                "bad_merchant_id",
                "use 1 to 128 letters, digits, dots, dashes, underscores or tildes, starting with a letter or digit",
            )
        return str(value)


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
any_merchant = click.argument("merchant", type=MerchantId(), required=False)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output, and nothing else there.")


def last_option(default: int) -> Callable[[F], F]:
    """How many of the latest entries to list."""
    return click.option(
        "--last", default=default, show_default=True, type=click.IntRange(1, 10_000), help="How many at most."
    )
