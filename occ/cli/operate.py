"""The commands for operators: `occ metrics`, `refused`, `quarantine`, ...; and `completion`, `simulate`."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict

import click
import redis

from integrations.connections.status import iso
from integrations.deliveries import deliveries
from integrations.errors import RequestRefused
from integrations.messages import quarantine as set_aside
from integrations.messages.quarantine import QuarantinedMessage
from integrations.sealing.redaction import redact_text
from integrations.server.client import client_of
from occ.cli.command_line import COMPLETION
from occ.cli.failure import CommandError, ExitCode
from occ.cli.options import json_option, last_option
from occ.cli.plain_text import one_line
from occ.cli.set_up import records_of, servers_of, settings_of_what_runs

METRICS_PORT = 9464

_WAKE_EVERY = 3600.0  # seconds; a signal ends the wait


@click.command("metrics")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; there is no login.")
@click.option("--port", default=METRICS_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--once", is_flag=True, help="Print the metrics once and exit.")
def metrics(*, host: str, port: int, once: bool) -> None:
    """Serve metrics for Prometheus until stopped.

    One process is enough for any number of workers: they add up their counts on the server. It only reads there, and
    keeps running while the server is away (occ_up is 0 then). The metrics name no merchant, host or key. Needs no
    sealing key.
    """
    from prometheus_client import generate_latest  # noqa: PLC0415 - no other command needs any of these

    from occ.local.stop_signal import stop_signal  # noqa: PLC0415
    from occ.metrics.exporter import Exporter, registry_of, serve  # noqa: PLC0415
    from tasks.worker import logs  # noqa: PLC0415

    settings = settings_of_what_runs()
    with contextlib.closing(Exporter(settings)) as exporter:
        if once:
            click.echo(generate_latest(registry_of(exporter)).decode(), nl=False)
            return
        logs.configure(settings.log_level, settings.log_format)
        try:
            endpoint = serve(exporter, host, port)
        except OSError as error:
            remedy = f"cannot listen on {host} port {port} ({error.strerror}); use --host and --port"
            raise CommandError(ExitCode.REFUSED, "cannot_listen", remedy) from None
        with contextlib.closing(endpoint), stop_signal() as stop:
            click.echo(f"Metrics are at {endpoint.url}", err=True)
            while not stop.wait(_WAKE_EVERY):
                pass


@click.command("refused")
@last_option(100)
@json_option
def refused(*, last: int, as_json: bool) -> None:
    """List refused requests.

    Newest first: when, how it came in, for which merchant if known, and what was wrong. The request itself is not kept.
    With --json, each is a JSON object on a line of its own.
    """
    with records_of(settings_of_what_runs()) as records:
        refusals = records.refusals(count=last)
    for refusal in ({**entry, "at": iso(entry["at"])} for entry in refusals):
        who = refusal["merchant_id"] or "(no merchant id)"
        what = f"{refusal['field']}: {refusal['code']}: {refusal['remedy']}"
        _list(json.dumps(refusal) if as_json else "", refusal["at"], refusal["door"], who, what)
    if not refusals and not as_json:
        click.echo("No request was refused.", err=True)


@click.command("undelivered")
@last_option(100)
@json_option
def undelivered(*, last: int, as_json: bool) -> None:
    """List events that could not be delivered to the receiver.

    Newest first: when we gave up, for which merchant, the receiver's answer, the event. With --json, each is a JSON
    object on a line of its own. Later events of the merchant have been delivered since, so these are not sent again:
    hand them to whoever runs the receiver.
    """
    with records_of(settings_of_what_runs()) as records:
        entries = deliveries.undelivered(records.redis, count=last)
    for at, fields in entries:
        shown = (iso(at), fields["lane"] or "(no merchant)", fields["reason"], fields["event"])
        _list(json.dumps({"at": iso(at), **fields}) if as_json else "", *shown)
    if not entries and not as_json:
        click.echo("All events were delivered.", err=True)


@click.command("quarantine")
@click.option("--requeue", "requeued", metavar="ID", help="Return this message to its queue.")
@click.option("--discard", "discarded", metavar="ID", help="Delete this message for good.")
@last_option(100)
@json_option
def quarantine(*, requeued: str | None, discarded: str | None, last: int, as_json: bool) -> None:
    """List messages in quarantine; requeue or discard them.

    Messages that are not valid tasks, and inbox requests that failed repeatedly, are kept here, so that they stop no
    worker. A message that may contain an unsealed key is listed without its content and cannot be requeued. Sealed keys
    are shown only by their key id. With --json, each is a JSON object on a line of its own.
    """
    settings = settings_of_what_runs()
    with records_of(settings), contextlib.ExitStack() as open_clients:
        clients = [open_clients.enter_context(client_of(server)) for server in servers_of(settings)]
        if requeued:
            entries = [_where_it_is(clients, lambda client: set_aside.requeue(client, requeued))]
        elif discarded:
            entries = [_where_it_is(clients, lambda client: set_aside.discard(client, discarded))]
        else:
            entries = sorted(_listed(clients, last), key=lambda entry: entry.at, reverse=True)[:last]
    for entry in entries:
        about = asdict(entry) | {"message": entry.message and redact_text(entry.message)}
        shown = (entry.id, entry.at, entry.queue, f"{entry.size} bytes", entry.reason)
        _list(json.dumps(about) if as_json else "", *shown)
    if not entries and not as_json:
        click.echo("The quarantine is empty.", err=True)


def _list(as_json: str, *shown: object) -> None:
    click.echo(as_json or "  ".join(one_line(str(part)) for part in shown))


def _listed(clients: list[redis.Redis], last: int) -> Iterator[QuarantinedMessage]:
    """Each once, even if two URLs name the same server."""
    seen: dict[str, QuarantinedMessage] = {}
    for client in clients:
        seen |= {entry.id: entry for entry in set_aside.list_quarantine(client, last)}
    yield from seen.values()


def _where_it_is(clients: list[redis.Redis], act: Callable[[redis.Redis], QuarantinedMessage]) -> QuarantinedMessage:
    """Act on the server that has the message. Raises RequestRefused if none has."""
    for client in clients[:-1]:
        try:
            return act(client)
        except RequestRefused as refused:
            if refused.code != "not_in_quarantine":
                raise
    return act(clients[-1])


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print a shell completion script.

    It completes a program named `occ`. Put one on the PATH, such as a file with the two lines `#!/bin/sh` and
    `exec /path/to/occ-connect/run occ "$@"`. Then, for bash: eval "$(occ completion bash)".
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is None:
        raise CommandError(ExitCode.REFUSED, "unknown_shell", "this release of click does not know the shell")
    click.echo(kind(context.find_root().command, {}, "occ", COMPLETION).source())


@click.command(
    "simulate",
    add_help_option=False,  # the simulator explains its options itself
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def simulate(options: tuple[str, ...]) -> None:
    """Start a simulated Oracle Commerce Cloud.

    All options are the simulator's own; `occ simulate --help` lists them.
    """
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "occ.simulator", *options])  # noqa: S606 - our own program
