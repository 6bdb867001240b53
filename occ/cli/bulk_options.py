"""The arguments and options that every bulk command has, and what they ask for."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from integrations.connections.records import Records
from integrations.errors import RequestRefused
from occ.cli.filters import Filters, filter_options
from occ.cli.parameters import json_option
from occ.cli.selection import Named, Selection

F = TypeVar("F", bound=Callable[..., object])

_STANDARD_INPUT = "-"
_COMMENT = "#"


@dataclass(frozen=True, slots=True)
class Order:
    """Which merchants a bulk command is about, and how it goes about them."""

    merchants: tuple[str, ...]
    file: str | None
    filters: Filters
    dry_run: bool
    rate: float
    resume: Path | None
    as_json: bool

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Order":
        """From the options of `bulk_options`, which are taken out of `given`. Raises click.UsageError."""
        filters = Filters(given.pop("statuses"), given.pop("findings"), given.pop("hosts"))
        names = ("merchants", "file", "dry_run", "rate", "resume", "as_json")
        order = cls(filters=filters, **{name: given.pop(name) for name in names})
        if not order.names_some and not filters:
            raise click.UsageError("Name merchants, or choose them with --file, --status, --finding or --host.")
        return order

    @property
    def names_some(self) -> bool:
        """Whether merchants are named, not chosen among all."""
        return bool(self.merchants) or self.file is not None

    @property
    def is_single(self) -> bool:
        """Whether it is about one merchant who was named."""
        return self.file is None and len(self.merchants) == 1

    @property
    def is_from_standard_input(self) -> bool:
        """Whether the names are read from where an answer would come from."""
        return self.file == _STANDARD_INPUT

    def selection(self, records: Records) -> Selection:
        """The merchants. Reading the file raises RequestRefused; standard input can be read once."""
        total = None if self.file is not None else len(self.merchants)
        return Selection(records, self._named if self.names_some else None, self.filters, total=total)

    def _named(self) -> Iterator[Named]:
        for number, text in enumerate(self.merchants, start=1):
            yield Named(f"argument {number}", text)
        if self.file is not None:
            try:
                yield from _lines_of(self.file)
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no usable name"
                remedy = (
                    f"the file cannot be read ({reason}); give one with a merchant id a line, or - for standard input"
                )
                raise RequestRefused("file", "not_readable", remedy) from None


def _lines_of(source: str) -> Iterator[Named]:
    """Each id on a line of its own; empty lines and those that begin with # are left out."""
    with nullcontext(sys.stdin.buffer) if source == _STANDARD_INPUT else Path(source).open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace").strip()
            if text and not text.startswith(_COMMENT):
                yield Named(f"line {number}", text)


def bulk_options(command: F) -> F:
    """MERCHANT..., --file, the filters, --dry-run, --rate, --resume, --json; see `Order.of`."""
    options: tuple[Callable[[F], F], ...] = (
        click.argument("merchants", nargs=-1, metavar="[MERCHANT]..."),
        click.option("--file", metavar="FILE|-", help="File with a merchant id a line; - reads standard input."),
        filter_options,
        click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing."),
        click.option(
            "--rate",
            type=click.FloatRange(0, 1000, min_open=True),
            default=20.0,
            show_default=True,
            help="How many to begin per second at most.",
        ),
        click.option(
            "--resume",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Journal of what was done: started again with it, the command skips that.",
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command
