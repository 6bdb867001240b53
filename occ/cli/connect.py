"""`occ connect`."""

import json
import sys
import time
from collections.abc import Mapping

import click

from integrations.connections.record import Connection, ConnectionStatus
from integrations.connections.records import Records, Snapshot
from integrations.connections.status import status_object
from integrations.oracle_commerce.accept import Accepted, Door
from integrations.sealing.keyring import seal
from integrations.settings import Settings, load_settings
from occ.cli.exit_codes import ExitCode
from occ.cli.explanation import findings_explained, is_left_lying
from occ.cli.failure import unknown_merchant
from occ.cli.following import looks
from occ.cli.key_input import read_key
from occ.cli.parameters import Duration, json_option, merchant
from occ.cli.plain_text import lasting
from occ.cli.set_up import become, environment_of_what_runs, records_of
from occ.cli.views import is_shown_live, progress_view
from tasks.wiring import Wiring


@click.command("connect")
@merchant
@click.option("--store-url", required=True, metavar="URL", help="Address of the store's admin console.")
@click.option(
    "--application-key-file",
    "key_source",
    required=True,
    metavar="FILE|-",
    help="File with the application key, sealed or not; - reads standard input.",
)
@click.option("--wait", is_flag=True, help="Follow the run until the connection has left onboarding.")
@click.option("--timeout", type=Duration(), default="10m", show_default=True, help="With --wait: how long at most.")
@json_option
@click.pass_context
def command(
    context: click.Context, *, merchant: str, store_url: str, key_source: str, wait: bool, timeout: float, as_json: bool
) -> None:
    """Connect a merchant's store.

    The key is sealed here and goes nowhere unsealed. The same request again starts nothing new; another key or store
    starts a new run. With --wait the exit code tells whether the connection became active (0) or needs attention (1).
    With --json the result is the connection's status object.
    """
    application_key = read_key(key_source)
    variables = environment_of_what_runs()
    settings = load_settings(variables)
    with records_of(settings) as records:
        request = {
            "merchant_id": merchant,
            "store_url": store_url,
            "application_key": _sealed(application_key, merchant, settings),
        }
        accepted = _accept(request, settings, variables)
        try:
            if not as_json:
                told = "accepted" if accepted.started else "unchanged: this is what is there already"
                click.echo(f"{merchant}: run {accepted.connection.run} {told}")
            if wait:
                context.exit(_follow(records, merchant, timeout, as_json=as_json))
            elif as_json:
                click.echo(json.dumps(status_object(accepted.connection)))
        except KeyboardInterrupt:
            click.echo(f"No longer followed. {_goes_on(merchant)}", err=True)
            raise


def _sealed(application_key: str, merchant_id: str, settings: Settings) -> str:
    if application_key.startswith("sealed."):
        return application_key
    newest = settings.sealing_keys[0]
    return seal(newest.public_key, newest.key_id, merchant_id, application_key)


def _accept(request: Mapping[str, str], settings: Settings, variables: Mapping[str, str]) -> Accepted:
    """As both doors do. The message that starts the run is best effort: if it is lost, the tick sends another."""
    parts = Wiring(settings)
    with parts.redis:
        accepted = parts.acceptance.accept(dict(request), Door.COMMAND_LINE)
    if accepted.started:
        become(variables)  # Celery's own settings are read from this process's environment
        # Loading Celery takes longer than all the rest, and a refused request does not need it.
        from tasks.doors import start_run  # noqa: PLC0415
        from tasks.worker import logs  # noqa: PLC0415

        logs.configure("WARNING", settings.log_format)
        start_run(accepted, Door.COMMAND_LINE)
    return accepted


def _follow(records: Records, merchant_id: str, timeout: float, *, as_json: bool) -> ExitCode:
    """Until it has turned out whether the connection, or its new key, works, or the time is over."""
    with progress_view(as_json=as_json) as view:
        for snapshot in looks(lambda: records.load(merchant_id), until=time.monotonic() + timeout):
            connection = _connection_of(snapshot, merchant_id)
            view.show([connection], snapshot.now())
            if not connection.is_under_way:
                break
    if as_json:
        click.echo(json.dumps(status_object(connection)))
    return _conclude(connection, snapshot.now(), timeout, as_json=as_json)


def _connection_of(snapshot: Snapshot, merchant_id: str) -> Connection:
    if snapshot.connection is None:
        raise unknown_merchant(merchant_id)
    return snapshot.connection


def _conclude(connection: Connection, now: float, timeout: float, *, as_json: bool) -> ExitCode:
    """Say what a script's log should hold of an end that is not the hoped-for one."""
    if connection.status is ConnectionStatus.ACTIVE and connection.key_refusal is None and not connection.is_under_way:
        return ExitCode.OK
    sys.stdout.flush()
    if connection.is_under_way:
        click.echo(f"Not finished after {lasting(timeout)}. {_goes_on(connection.merchant_id)}", err=True)
        if is_left_lying(connection, now):
            click.echo("No worker has taken it so far: are workers and beat running?", err=True)
    if not is_shown_live(as_json=as_json):
        for line in findings_explained(connection, now):
            click.echo(line, err=True)
    return ExitCode.NEEDS_ATTENTION


def _goes_on(merchant_id: str) -> str:
    return f"The run goes on by itself; `occ status {merchant_id} --watch` follows it."
