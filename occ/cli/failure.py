"""Why a command did not do what it was asked, as people and as programs read it. Never a traceback, never a secret."""

import json
import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import click

from integrations.connections.record import merchant_of
from integrations.errors import RequestRefused, SettingsError, TransientError
from integrations.sealing.redaction import redact_text
from occ.cli.exit_codes import ExitCode
from occ.cli.plain_text import printable

_NAME = re.compile(r"-{0,2}[a-z-]{1,30}", re.ASCII)
_TOO_SHORT_FOR_A_KEY = 5


class CommandError(Exception):
    """Ends a command: which exit code, which field of the request if it is about one, and what to do about it."""

    def __init__(self, exit_code: ExitCode, code: str, remedy: str, *, field: str | None = None) -> None:
        super().__init__(remedy)
        self.exit_code = exit_code
        self.code = code
        self.remedy = remedy
        self.field = field


def unknown_merchant(merchant_id: str) -> CommandError:
    """Nobody has asked to connect this merchant; or it never had the store that is asked for as `<merchant>@<run>`."""
    known = merchant_of(merchant_id)
    remedy = (
        f"`occ connect {merchant_id} ...` makes one" if known == merchant_id else f"`occ explain {known}` lists them"
    )
    what = "connection of" if known == merchant_id else "store that was left as"
    return CommandError(
        ExitCode.UNKNOWN_MERCHANT,
        "unknown_merchant",
        f"there is no {what} {merchant_id}; {remedy}",
        field="merchant_id",
    )


@dataclass(frozen=True, slots=True)
class Told:
    """A failure in the words of one command line: lines for people, an object for programs."""

    exit_code: int
    text: str
    error: dict[str, object]

    def show(self, *, as_json: bool) -> None:
        """People read standard error, also when a program reads the object on standard output."""
        click.echo(self.text, err=True)
        if as_json:
            click.echo(json.dumps({"error": self.error}))


def told(error: Exception, arguments: Sequence[str] = ()) -> Told:
    """Anything that can end the command with these arguments, in words."""
    match error:
        case CommandError():
            return _told(error.exit_code, error.field, error.code, error.remedy)
        case RequestRefused():
            return _told(ExitCode.REFUSED, error.field, error.code, error.remedy)
        case SettingsError():
            about = {"field": "settings", "code": "bad_settings", "remedy": str(error)}
            return Told(ExitCode.REFUSED, str(error), {**about, "problems": list(error.problems)})
        case TransientError():
            remedy = f"the server could not take it ({error.detail or error.code}); nothing was begun, try again"
            return _told(ExitCode.NO_SERVER, None, "server_not_ready", remedy)
        case click.ClickException():
            return _told_of_usage(error, arguments)
    return _told_of_us(error)


def _told(exit_code: ExitCode, field: str | None, code: str, remedy: str) -> Told:
    remedy = printable(remedy)
    text = f"Error: {field}: {remedy}" if field else f"Error: {remedy}"
    return Told(exit_code, text, {"field": field, "code": code, "remedy": remedy})


def _told_of_usage(error: click.ClickException, arguments: Sequence[str]) -> Told:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return Told(ExitCode.REFUSED, error.message, _usage_object(None, "name a command; `occ --help` lists them"))
    message = error.format_message()
    if message.startswith("Got unexpected extra argument"):
        message = "There are more arguments than this command takes."
    message = printable(_without_values(message, arguments))
    hint = f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n\n" if context else ""
    parameter = error.param if isinstance(error, click.BadParameter) else None
    return Told(ExitCode.REFUSED, f"{hint}Error: {message}", _usage_object(parameter, message))


def _without_values(message: str, arguments: Sequence[str]) -> str:
    """What stands where it does not belong may be an application key: only what can be a name is repeated."""
    parts = {part for argument in arguments for part in (argument, *argument.split("=", maxsplit=1))}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) > _TOO_SHORT_FOR_A_KEY and not _NAME.fullmatch(part):
            message = message.replace(part, "...")
    return message


def _usage_object(parameter: click.Parameter | None, remedy: str) -> dict[str, object]:
    return {"field": parameter.name if parameter else None, "code": "wrong_usage", "remedy": remedy}


def _told_of_us(error: Exception) -> Told:
    name = error.strerror if isinstance(error, OSError) else type(error).__name__
    if os.environ.get("OCC_LOG_LEVEL", "").strip().upper() == "DEBUG":
        where = redact_text("".join(traceback.format_exception(error)))
    else:
        where = "OCC_LOG_LEVEL=DEBUG shows where."
    remedy = f"an error of our own stopped this command ({name})"
    return Told(
        ExitCode.OUR_ERROR, f"Error: {remedy}. {where}", {"field": None, "code": "internal_error", "remedy": remedy}
    )
