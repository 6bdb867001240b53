"""`./run demo`: connects merchants of a simulated Oracle Commerce Cloud, and says how each one ended and why."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from integrations.errors import SettingsError
from occ.cli.failure import CommandError, ExitCode, describe_failure
from occ.cli.options import json_option
from occ.cli.views import View, is_shown_live, progress_view
from occ.clone import started_as
from occ.demo.merchants import Part, cast
from occ.demo.story import MerchantLines, ending, opening, totals
from occ.local.server_binary import ServerError
from occ.local.stop_signal import StopSignal, stop_signal
from tasks.worker import logs

if TYPE_CHECKING:
    from occ.demo.play import Outcome
    from occ.demo.stage import Stage

_MOST = 1000
_SIGNALLED = 128


class _StoppedError(Exception):
    """Somebody does not want to see the rest."""


@click.command(name="demo", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--merchants",
    default=12,
    show_default=True,
    type=click.IntRange(1, _MOST),
    help="How many: up to ten whose stores are of ten kinds, and healthy ones beyond.",
)
@json_option
def demo(*, merchants: int, as_json: bool) -> None:
    """Connect merchants of a simulated Oracle Commerce Cloud, and explain how each ended.

    Brings everything it needs, and leaves nothing behind: a server, simulated stores, two workers, beat. With
    OCC_REDIS_URL set it uses that server, which nobody else may be using meanwhile; no other setting counts.

    The exit code is 0 if every merchant ended as it should, and 1 if one did not.
    """
    try:
        with stop_signal() as stop:
            exit_code = _Demo(cast(merchants), stop, as_json=as_json).run()
            exit_code = exit_code if stop.given is None else _SIGNALLED + stop.given
    except KeyboardInterrupt:
        exit_code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        raise  # click ends quietly then
    except Exception as error:  # noqa: BLE001 - the last resort, as for any command
        failure = describe_failure(error)
        failure.show(as_json=as_json)
        exit_code = failure.exit_code
    sys.exit(exit_code)


class _Demo:
    """One demo, from its folder's making to its removal."""

    def __init__(self, parts: Sequence[Part], stop: StopSignal, *, as_json: bool) -> None:
        self._parts = parts
        self._stop = stop
        self._as_json = as_json

    def run(self) -> int:
        """Returns the exit code. The folder stays only if there is something to look into."""
        folder = Path(tempfile.mkdtemp(prefix="occ-demo-"))
        keep = True
        try:
            outcome = self._played(folder)
            keep = bool(outcome.differences)
        except _StoppedError:
            keep = False
            return ExitCode.INTERRUPTED
        except (CommandError, SettingsError, BrokenPipeError, KeyboardInterrupt):
            keep = False
            raise
        except (ServerError, RuntimeError) as error:
            raise CommandError(ExitCode.NO_SERVER, "not_started", str(error)) from None
        finally:
            if keep:
                click.echo(f"Logs of everything that ran: {folder}", err=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)
        return ExitCode.NEEDS_ATTENTION if outcome.differences else ExitCode.OK

    def _played(self, folder: Path) -> "Outcome":
        from occ.demo.play import play  # noqa: PLC0415 - imports the simulator
        from occ.demo.stage import Stage  # noqa: PLC0415

        began = time.monotonic()
        with (folder / "demo.log").open("w", encoding="utf-8") as log:
            logs.configure("INFO", "json", log)
            self._say(*opening(self._parts), "")
            with Stage(os.environ, folder, self._parts) as stage:
                self._warn_of_sharing(stage)
                outcome = play(stage, self._pause(stage), self._say, self._view)
                self._conclude(outcome, time.monotonic() - began)
        return outcome

    def _pause(self, stage: "Stage") -> Callable[[float], None]:
        def pause(seconds: float) -> None:
            if self._stop.wait(seconds):
                click.echo("Stopping.", err=True)
                raise _StoppedError
            stage.tend()

        return pause

    def _view(self, names: Mapping[str, str]) -> AbstractContextManager[View]:
        if self._as_json or is_shown_live(as_json=False):
            return progress_view(as_json=self._as_json, single=False)
        return nullcontext(MerchantLines(names))

    def _warn_of_sharing(self, stage: "Stage") -> None:
        if not stage.is_embedded:
            click.echo(
                "This uses the server in OCC_REDIS_URL. Until it has ended, start no workers there and send no "
                "requests: they would get into each other's way.",
                err=True,
            )

    def _conclude(self, outcome: "Outcome", lasted: float) -> None:
        from occ.demo.orders import outcome_lines  # noqa: PLC0415 - imports the simulator

        if self._as_json:
            click.echo(json.dumps(outcome.as_object()))
            return
        self._say("", *ending(self._parts, outcome.seen), "")
        self._say(*totals(self._parts, outcome.seen, outcome.counted["totals"]))
        for line in outcome_lines(outcome.orders):
            self._say(f"  {line}")
        self._say(f"  Time                 {outcome.seconds:.1f} s, {lasted:.1f} s with starting everything", "")
        if outcome.differences:
            self._say("Not as it should be:", *(f"  {difference}" for difference in outcome.differences))
        else:
            self._say("Every merchant ended as it should.", "", f"To connect stores yourself: {started_as('up')}")

    def _say(self, *lines: str) -> None:
        if not self._as_json:
            for line in lines:
                click.echo(line)


if __name__ == "__main__":
    demo(prog_name="./run demo")
