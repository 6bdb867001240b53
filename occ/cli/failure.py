"""Why a command did not do what it was asked, for people and for programs. Never a traceback, never a secret."""

import json
import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import click

from integrations.connections.record import merchant_of
from integrations.errors import RequestRefused, SettingsError, TransientError
from integrations.sealing.redaction import redact_text
from occ.cli.plain_text import printable

_NAME = re.compile(r"-{0,2}[a-z-]{1,30}", re.ASCII)
_TOO_SHORT_FOR_A_KEY = 5


class ExitCode(IntEnum):
    """How `occ` ends. A contract with scripts: codes may be added, never changed."""

    OK = 0
    NEEDS_ATTENTION = 1
    REFUSED = 2
    NO_SERVER = 3
    UNKNOWN_MERCHANT = 4
    OUR_ERROR = 70
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


EXIT_CODES = """\b
Exit codes:
  0    done; with `connect --wait`: the connection is active
  1    needs attention. `connect --wait`: the connection is not active, or the timeout passed; for many merchants:
       it failed for some; `health`: work is overdue; `rotate-keys`: no sealing key opens some application keys
  2    wrong usage, or a request or settings that were refused
  3    the server could not be reached
  4    the merchant has no connection; `request`: nothing is known of it
  70   internal error
  130  interrupted (143: terminated)
  141  the reader of the output went away
"""


class CommandError(Exception):
    """Ends a command: with an exit code, the field of the request it is about if any, and what to do about it."""

    def __init__(self, exit_code: ExitCode, code: str, remedy: str, *, field: str | None = None) -> None:
        super().__init__(remedy)
        self.exit_code = exit_code
        self.code = code
        self.remedy = remedy
        self.field = field


def unknown_merchant(merchant_id: str, refusal: str = "") -> CommandError:
    """The merchant was never connected; or never had the former store named as `<merchant>@<run>`.

    `refusal`: what was wrong with the last request for it.
    """
    known = merchant_of(merchant_id)
    if known == merchant_id and refusal:
        remedy = f"there is no such connection; {refusal}"
    elif known == merchant_id:
        remedy = f"there is no such connection; `occ connect {merchant_id} ...` creates one"
    else:
        remedy = f"there is no former store {merchant_id}; `occ explain {known}` lists them"
    return CommandError(ExitCode.UNKNOWN_MERCHANT, "unknown_merchant", remedy, field="merchant_id")


@dataclass(frozen=True, slots=True)
class Failure:
    """How a command failed: an exit code, a text for people, an object for programs."""

    exit_code: int
    text: str
    error: dict[str, object]

    def show(self, *, as_json: bool) -> None:
        """People read standard error, also when a program reads the object on standard output."""
        click.echo(self.text, err=True)
        if as_json:
            click.echo(json.dumps({"error": self.error}))


def describe_failure(error: Exception, arguments: Sequence[str] = ()) -> Failure:
    """The failure behind any exception that ends a command called with these arguments."""
    match error:
        case CommandError():
            return _failure(error.exit_code, error.field, error.code, error.remedy)
        case RequestRefused():
            return _failure(ExitCode.REFUSED, error.field, error.code, error.remedy)
        case SettingsError():
            about: dict[str, object] = {"field": "settings", "code": "bad_settings", "remedy": str(error)}
            return Failure(ExitCode.REFUSED, str(error), {**about, "problems": list(error.problems)})
        case TransientError():
            remedy = f"the server did not accept it ({error.detail or error.code}); nothing was started, try again"
            return _failure(ExitCode.NO_SERVER, None, "server_not_ready", remedy)
        case click.ClickException():
            return _wrong_usage(error, arguments)
    return _internal_error(error)


def _failure(exit_code: ExitCode, field: str | None, code: str, remedy: str) -> Failure:
    remedy = printable(remedy)
    text = f"Error: {field}: {remedy}" if field else f"Error: {remedy}"
    return Failure(exit_code, text, {"field": field, "code": code, "remedy": remedy})


def _wrong_usage(error: click.ClickException, arguments: Sequence[str]) -> Failure:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        remedy = "name a command; `occ --help` lists them"
        return Failure(ExitCode.REFUSED, error.message, {"field": None, "code": "wrong_usage", "remedy": remedy})
    message = error.format_message()
    if message.startswith("Got unexpected extra argument"):
        message = "There are more arguments than this command takes."
    message = printable(_without_values(message, arguments))
    hint = f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n\n" if context else ""
    parameter = error.param if isinstance(error, click.BadParameter) else None
    about: dict[str, object] = {
        "field": parameter.name if parameter else None,
        "code": "wrong_usage",
        "remedy": message,
    }
    return Failure(ExitCode.REFUSED, f"{hint}Error: {message}", about)


def _without_values(message: str, arguments: Sequence[str]) -> str:
    """A misplaced value may be an application key: only what looks like a name is repeated."""
    parts = {part for argument in arguments for part in (argument, *argument.split("=", maxsplit=1))}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) > _TOO_SHORT_FOR_A_KEY and not _NAME.fullmatch(part):
            message = message.replace(part, "...")
    return message


def _internal_error(error: Exception) -> Failure:
    name = error.strerror if isinstance(error, OSError) else type(error).__name__
    if os.environ.get("OCC_LOG_LEVEL", "").strip().upper() == "DEBUG":
        where = redact_text("".join(traceback.format_exception(error)))
    else:
        where = "Set OCC_LOG_LEVEL=DEBUG to see where."
    remedy = f"an internal error stopped this command ({name})"
    about: dict[str, object] = {"field": None, "code": "internal_error", "remedy": remedy}
    return Failure(ExitCode.OUR_ERROR, f"Error: {remedy}. {where}", about)
