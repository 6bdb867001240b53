"""Arguments and options that several commands share, and the filters among them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from integrations.connections.causes import CAUSES
from integrations.connections.findings import findings_of
from integrations.connections.record import Connection, ConnectionStatus
from integrations.errors import RequestRefused
from integrations.oracle_commerce.request import is_merchant_id
from integrations.setting_values import duration

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_RUN = re.compile(r"[0-9]{1,9}", re.ASCII)

BAD_MERCHANT_ID = "use 1 to 128 letters, digits, dots, dashes, underscores or tildes, starting with a letter or digit"

F = TypeVar("F", bound=Callable[..., object])


class MerchantId(click.ParamType[str]):
    """A merchant id. An invalid value is never repeated: it may be a key that was pasted in its place."""

    name = "merchant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Raises RequestRefused."""
        if not is_merchant_id(value):
            raise RequestRefused("merchant_id", "bad_merchant_id", BAD_MERCHANT_ID)
        return str(value)


class ConnectionId(MerchantId):
    """A merchant id, or a former store of a merchant, `<merchant>@<run>`. Only for reading."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises RequestRefused."""
        return str(value) if is_former_id(value) else super().convert(value, param, ctx)


def is_former_id(value: object) -> bool:
    """Whether this names the record of a merchant's former store."""
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
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and nothing else.")


def last_option(default: int) -> Callable[[F], F]:
    """--last: how many of the latest entries to list."""
    return click.option(
        "--last", default=default, show_default=True, type=click.IntRange(1, 10_000), help="List at most this many."
    )


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions on connections: of several values of one option any will do; all options given must match."""

    statuses: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.statuses or self.findings or self.hosts)

    def match(self, connection: Connection) -> bool:
        """Whether a connection meets all conditions."""
        if self.statuses and connection.status not in self.statuses:
            return False
        if self.hosts and not any(_is_at(connection, pattern.lower()) for pattern in self.hosts):
            return False
        # Last, for it costs most: what there is to report is derived.
        return not self.findings or any(finding.code in self.findings for finding in findings_of(connection))


def _is_at(connection: Connection, pattern: str) -> bool:
    parts = urlsplit(connection.store_url)
    return any(fnmatchcase(name, pattern) for name in (parts.hostname or "", parts.netloc))


class FindingCode(click.ParamType[str]):
    """A code of `causes.py`: a misspelt one would silently match nothing."""

    name = "code"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails with similar codes, without repeating the value."""
        if value in CAUSES:
            return str(value)
        alike = get_close_matches(str(value)[:40], CAUSES, n=3)
        hint = f"did you mean {' or '.join(alike)}?" if alike else "`occ status` shows those in use under ATTENTION"
        raise click.BadParameter(f"there is no such finding; {hint}", ctx, param)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - the signature is click's
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> "list[CompletionItem]":
        """The codes that begin like this."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        return [CompletionItem(code) for code in CAUSES if code.startswith(incomplete)]


def filter_options(command: F) -> F:
    """--status, --finding and --host; each can be repeated."""
    options = (
        click.option(
            "--status",
            "statuses",
            multiple=True,
            type=click.Choice([str(status) for status in ConnectionStatus]),
            help="Only connections with this status.",
        ),
        click.option(
            "--finding", "findings", multiple=True, type=FindingCode(), help="Only connections with this finding."
        ),
        click.option(
            "--host",
            "hosts",
            multiple=True,
            metavar="PATTERN",
            help="Only stores at a matching host; * matches anything.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
