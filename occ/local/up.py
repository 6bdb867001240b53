"""`./run up`: the embedded set-up, kept running until Ctrl+C. Data stays for the next time."""

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from integrations.errors import SettingsError
from integrations.settings import load_settings
from occ.clone import started_as
from occ.local import environment
from occ.local.commands import (
    beat_command,
    flower_command,
    metrics_command,
    quarantine_command,
    worker_command,
)
from occ.local.private_files import kept_secret, private_folder, taken
from occ.local.processes import Program, Supervisor
from occ.local.server import EmbeddedServer
from occ.local.server_binary import ServerError
from occ.local.stop_signal import StopSignal, stop_signal
from tasks.queues import QUEUES
from tasks.worker import logs
from tasks.worker.traces import traces_of

FLOWER_PORT = 5555
FLOWER_USER = "occ"

_PORTS_TO_TRY = 50
_CHECK_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `./run up` was asked for."""

    workers: int
    flower_port: int | None
    """None: no Flower."""
    metrics_port: int | None
    """None: no metrics."""


@click.command(name="up", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 32), help="Worker processes.")
@click.option("--flower/--no-flower", default=True, show_default=True, help="Show the work in a browser.")
@click.option("--flower-port", default=FLOWER_PORT, show_default=True, type=click.IntRange(1, 65535))
@click.option("--metrics/--no-metrics", default=True, show_default=True, help="Serve metrics for Prometheus.")
@click.option("--metrics-port", default=9464, show_default=True, type=click.IntRange(1, 65535))
def up(*, workers: int, flower: bool, flower_port: int, metrics: bool, metrics_port: int) -> None:
    """Run everything here: server, workers, beat, Flower and metrics.

    Flower, which asks for a login, and the metrics listen on this machine only. A port that is taken is passed over.
    """
    options = UpOptions(workers, flower_port if flower else None, metrics_port if metrics else None)
    try:
        with stop_signal() as stop, _only_one(environment.data_folder(os.environ)) as data:
            _run(options, data, stop)
    except (SettingsError, ServerError) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _only_one(data: Path) -> Iterator[Path]:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_file = data / "up.lock"
        lock = taken(lock_file)
    except OSError as error:
        raise click.ClickException(f"The data folder (OCC_DATA_DIR) cannot be used: {error}.") from None
    if lock is None:
        who = lock_file.read_text(encoding="ascii").strip() or "unknown"
        raise click.ClickException(f"`{started_as('up')}` is running on {data} already (process {who}).")
    try:
        os.ftruncate(lock, 0)
        with suppress(OSError):  # on a full disk the number is missing from the message above, no more
            os.write(lock, f"{os.getpid()}\n".encode("ascii"))
        yield data
    finally:
        os.close(lock)


def _run(options: UpOptions, data: Path, stop: StopSignal) -> None:
    with ExitStack() as until_the_end:
        settings, server = _settings_and_server(data, until_the_end)
        known = load_settings(settings)  # one clear report of problems here, instead of one from each child
        traces_of(known)  # likewise
        logs.configure(known.log_level, known.log_format)
        supervisor = until_the_end.enter_context(Supervisor(settings, server=server))
        for number in range(1, options.workers + 1):
            supervisor.start(Program(f"worker-{number}", worker_command(f"worker-{number}")))
        supervisor.start(Program("quarantine", quarantine_command("quarantine")))
        supervisor.start(Program("beat", beat_command()))
        facts = [
            ("Data", f"{data} (kept between starts)"),
            ("Server", f"{server.binary}, embedded, on a private socket" if server else "the one in OCC_REDIS_URL"),
            ("Workers", f"{options.workers}, on the queues {', '.join(QUEUES)}"),
            ("Beat", "hands out what is due, about every second"),
            ("Flower", _started_flower(supervisor, data, options.flower_port) if options.flower_port else "left out"),
            ("Metrics", _started_metrics(supervisor, options.metrics_port) if options.metrics_port else "left out"),
        ]
        click.echo(_report(facts, simulated=bool(known.dev_stores)))
        while not stop.wait(_CHECK_EVERY):
            supervisor.tend()
        click.echo("Stopping; Ctrl+C again ends everything at once.", err=True)


def _settings_and_server(data: Path, until_the_end: ExitStack) -> tuple[dict[str, str], EmbeddedServer | None]:
    if not environment.wants_embedded_server(os.environ):
        return environment.own_settings(os.environ), None
    server = until_the_end.enter_context(EmbeddedServer(environment.server_folder(data)))
    environment.keep_settings_of_up(os.environ)
    return environment.embedded_settings(os.environ, server.address), server


def _started_flower(supervisor: Supervisor, data: Path, wanted_port: int) -> str:
    """Start Flower; says where it is and how to get in."""
    folder = private_folder(data / "flower")
    password_file = folder / "password"
    password = kept_secret(password_file, lambda: secrets.token_urlsafe(12))
    port, where = _free_place(wanted_port, "Flower", "--flower-port")
    login = {"FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{password}"}
    supervisor.start(Program("flower", flower_command(port=port, database=str(folder / "tasks")), environment=login))
    # A screen is for whoever started us; an output that goes elsewhere may be kept and read by others.
    shown = password if sys.stdout.isatty() else f"the one in {password_file}"
    return f"{where}, user {FLOWER_USER}, password {shown}"


def _started_metrics(supervisor: Supervisor, wanted_port: int) -> str:
    """Start what serves the metrics; says where they are."""
    port, where = _free_place(wanted_port, "the metrics", "--metrics-port", "/metrics")
    supervisor.start(Program("metrics", metrics_command(port=port)))
    return f"{where}, for Prometheus"


def _free_place(wanted: int, who: str, option: str, path: str = "") -> tuple[int, str]:
    """The first port on loopback, from the wanted one upwards, that nobody listens on; and where that is, in words."""
    for port in range(wanted, min(wanted + _PORTS_TO_TRY, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Flower does: a port just left is free
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port, f"http://127.0.0.1:{port}{path}" + ("" if port == wanted else f" (port {wanted} is taken)")
    raise click.ClickException(f"No free port for {who} from {wanted} on: name another with {option}.")


def _report(facts: list[tuple[str, str]], *, simulated: bool) -> str:
    no_store = (
        f"No store at hand? `{started_as('simulate')}` starts some, and shows how to connect them."
        if simulated
        else f"No store at hand? Start this with OCC_DEV_STORES=127.0.0.0/8:8800 before it, "
        f"then `{started_as('simulate')}`."
    )
    return "\n".join(
        [
            "",
            "occ-connect is running.",
            *(f"  {name:<9}{fact}" for name, fact in facts),
            "",
            "In another terminal:",
            f"  {started_as('connect')} MERCHANT --store-url https://HOST --application-key-file FILE --wait",
            f"  {started_as('status')}",
            no_store,
            "",
            "Ctrl+C stops everything.",
            "",
        ]
    )


if __name__ == "__main__":
    up(prog_name="./run up")
