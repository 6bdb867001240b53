"""Choosing connections by how they stand: options that several commands share, and what they match. Pure."""

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

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Filters:
    """What connections have to be like. Of several values of one kind any will do; every kind that is given counts."""

    statuses: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.statuses or self.findings or self.hosts)

    def match(self, connection: Connection) -> bool:
        """Whether a connection is one of those."""
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
    """A code of `causes.py`: a misspelt one would quietly match nothing."""

    name = "code"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails with codes that look alike, without repeating the value."""
        if value in CAUSES:
            return str(value)
        alike = get_close_matches(str(value)[:40], CAUSES, n=3)
        hint = f"did you mean {' or '.join(alike)}?" if alike else "`occ status` lists those there are under ATTENTION"
        raise click.BadParameter(f"there is no such finding; {hint}", ctx, param)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - the signature is click's
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> "list[CompletionItem]":
        """The codes that begin so."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        return [CompletionItem(code) for code in CAUSES if code.startswith(incomplete)]


def filter_options(command: F) -> F:
    """--status, --finding and --host, each as often as needed."""
    options = (
        click.option(
            "--status",
            "statuses",
            multiple=True,
            type=click.Choice([str(status) for status in ConnectionStatus]),
            help="Only connections of this status.",
        ),
        click.option(
            "--finding", "findings", multiple=True, type=FindingCode(), help="Only connections with this finding."
        ),
        click.option(
            "--host",
            "hosts",
            multiple=True,
            metavar="PATTERN",
            help="Only stores at such a host; * stands for anything.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
