"""What all commands have in common: quick help, exit codes, and errors without tracebacks or secrets."""

import io
import json
import os
import signal
import subprocess
import sys

import click
import pytest

from integrations.errors import RequestRefused, SettingsError, TransientError
from occ.cli.command_line import COMMANDS, run
from occ.cli.command_line import occ as group
from occ.cli.failure import EXIT_CODES, ExitCode, describe_failure
from occ.simulator.application_keys import make_application_key
from tests.occ.cli.conftest import PROJECT, Occ


def command_named(name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says_of_itself(name: str) -> None:
    command = command_named(name)
    assert command.name == name
    assert command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name][1]


def test_the_former_name_of_a_command_still_works_and_is_not_listed(occ: Occ) -> None:
    assert command_named("recheck") is command_named("revalidate")
    assert "recheck" not in occ("--help").stdout


# What they print has a form of its own: Prometheus', a shell's, Celery's.
WITHOUT_JSON = {"metrics", "completion", "up", "celery"}


@pytest.mark.parametrize("name", sorted({*COMMANDS} - WITHOUT_JSON - {"simulate"}))
def test_whatever_is_printed_can_be_had_as_json(name: str) -> None:
    command = command_named(name)
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_help_lists_every_command_and_every_exit_code(occ: Occ) -> None:
    ended = occ("--help")
    assert ended.exit_code == ExitCode.OK
    assert all(name in ended.stdout for name in COMMANDS)
    assert all(f"  {code.value}  " in EXIT_CODES for code in ExitCode)
    assert "the server could not be reached" in ended.stdout


def test_no_command_is_answered_with_the_help(occ: Occ) -> None:
    ended = occ()
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "keygen" in ended.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["keygen", "--json"], ["seal", "m-1"], ["status", "--help"]])
def test_what_needs_no_worker_does_not_wait_for_celery_to_load(
    arguments: list[str], tmp_path: os.PathLike[str]
) -> None:
    script = (
        "import sys; from occ.cli.command_line import run; code = run(sys.argv[1:]);"
        "print({'celery', 'kombu', 'requests', 'rich'} & set(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False,
        cwd=PROJECT,
        env={**os.environ, "OCC_DATA_DIR": str(tmp_path)},
        input=b"a.key.xyz",
        capture_output=True,
    )
    assert ended.returncode == 0
    assert ended.stderr.decode().splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "arguments",
    [
        ["{key}"],
        ["{key}", "--json"],
        ["--{key}"],
        ["status", "{key}"],
        ["status", "{key}", "--json"],
        ["status", "m-1", "{key}"],
        ["status", "--json={key}"],
        ["seal", "m-1", "{key}", "--json"],
        ["seal", "{key}"],
        ["connect", "{key}", "--store-url", "https://x", "--application-key-file", "/dev/null"],
        ["connect", "m-1", "--store-url", "https://x", "--application-key-file", "{key}"],
        ["connect", "m-1", "--store-url", "https://x", "--application-key-file", "{key}", "--json"],
        ["connect", "m-1", "--store-url", "https://x", "--application-key", "{key}"],
        ["connect", "m-1", "--store-url", "https://x", "--application-key={key}"],
        ["connect", "m-1", "--timeout", "{key}", "--store-url", "https://x", "--application-key-file", "-"],
        ["status", "--status", "{key}"],
        ["status", "--finding", "{key}"],
        ["revalidate", "m-1", "--rate", "{key}"],
        ["revalidate", "--{key}", "--json"],
        ["disconnect", "m-1", "--forget", "{key}", "--json"],
        ["replay", "m-1", "--since={key}"],
        ["completion", "{key}"],
        ["refused", "--last", "{key}"],
        ["timeline", "m-1", "--last={key}"],
    ],
)
def test_an_application_key_in_the_wrong_place_is_refused_and_not_repeated(arguments: list[str], occ: Occ) -> None:
    key = make_application_key(signature=b"\xfb\xef\xbe\xff" * 7 + b"end")  # begins with +, holds / and =
    ended = occ(*(argument.replace("{key}", key) for argument in arguments))
    assert ended.exit_code == ExitCode.REFUSED
    told = ended.stdout + ended.stderr
    assert [key[start : start + 6] for start in range(len(key) - 6) if key[start : start + 6] in told] == []
    assert "Traceback" not in ended.stderr


def test_an_argument_too_many_is_not_repeated_even_if_it_does_not_look_like_a_key(occ: Occ) -> None:
    ended = occ("seal", "m-1", "hunter2", "--json")
    assert (ended.exit_code, ended.error["code"]) == (2, "wrong_usage")
    assert "hunter2" not in ended.stdout + ended.stderr


def test_wrong_usage_is_an_object_for_those_who_asked_for_json(occ: Occ) -> None:
    ended = occ("connect", "m-1", "--json")
    assert ended.exit_code == ExitCode.REFUSED
    assert ended.error == {"field": "store_url", "code": "wrong_usage", "remedy": "Missing option '--store-url'."}
    assert "Error: Missing option '--store-url'." in ended.stderr


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (RequestRefused("store_url", "bad_store_url", "give another"), 2, "bad_store_url"),
        (SettingsError(["OCC_LEASE: too short", "OCC_SLOTS: none"]), 2, "bad_settings"),
        (TransientError("internal_error", "the disk is slow"), 3, "server_not_ready"),
        (ValueError("secret"), 70, "internal_error"),
        (OSError(28, "No space left on device"), 70, "internal_error"),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: Exception, exit_code: int, code: str) -> None:
    failure = describe_failure(error)
    assert (failure.exit_code, failure.error["code"]) == (exit_code, code)
    assert "secret" not in failure.text


def test_settings_are_complained_about_all_at_once(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCC_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("OCC_LEASE", "soon")
    monkeypatch.setenv("OCC_LAESE", "60")
    for command, lacks in (("status", []), ("rotate-keys", ["OCC_SEALING_KEYS", "OCC_CALLBACK_URL"])):
        ended = occ(command, "--json")
        assert ended.exit_code == ExitCode.REFUSED
        problems = [problem.split(":")[0] for problem in ended.error["problems"]]
        assert problems == ["OCC_LEASE", *lacks, "OCC_LAESE"]
        assert "OCC_LEASE: write a duration" in ended.stderr


def test_a_reader_who_went_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "occ.cli", "keygen"],
        check=False,
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (ExitCode.OUTPUT_CLOSED, b"")


def test_ctrl_c_ends_a_command_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(io.BytesIO):
        def read(self, *_: object) -> bytes:
            signal.raise_signal(signal.SIGINT)
            return b""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))
        assert run(["seal", "m-1"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr() == ("", "")


def test_json_is_plain_ascii_whatever_a_terminal_understands(occ: Occ) -> None:
    assert json.dumps(occ("keygen", "--json").object).isascii()
