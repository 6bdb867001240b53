"""The commands that change connections: `occ connect`, `revalidate`, `repair`, `replay`, `disconnect`."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from integrations.connections.record import Connection, ConnectionStatus
from integrations.connections.records import Records, Snapshot
from integrations.connections.status import status_object
from integrations.errors import RequestRefused
from integrations.oracle_commerce.accept import Accepted, Door
from integrations.sealing import keyring
from integrations.settings import Settings, load_settings
from occ.cli.bulk import actions
from occ.cli.bulk.run import run_bulk
from occ.cli.bulk.selection import Order, bulk_options
from occ.cli.explanation import findings_explained, is_stuck
from occ.cli.failure import ExitCode, unknown_merchant
from occ.cli.key_input import read_key
from occ.cli.options import Duration, json_option, merchant
from occ.cli.plain_text import duration_text, lasting
from occ.cli.set_up import become, environment_of_what_runs, records_of, repeatedly
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
@click.option("--wait", is_flag=True, help="Follow the run until it ends.")
@click.option("--timeout", type=Duration(), default="10m", show_default=True, help="With --wait: how long to wait.")
@json_option
@click.pass_context
def connect(
    context: click.Context, *, merchant: str, store_url: str, key_source: str, wait: bool, timeout: float, as_json: bool
) -> None:
    """Connect a merchant's store.

    The key is sealed before it leaves this process. Repeating a request changes nothing; another key or store starts a
    new run. With --wait, the exit code says whether the connection is active (0) or needs attention (1). With --json,
    prints the connection's status object.
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
                outcome = "accepted" if accepted.started else "unchanged: this store is connected with this key already"
                click.echo(f"{merchant}: run {accepted.connection.run} {outcome}")
            if wait:
                context.exit(_follow(records, merchant, timeout, as_json=as_json))
            elif as_json:
                click.echo(json.dumps(status_object(accepted.connection)))
        except KeyboardInterrupt:
            click.echo(f"Stopped following. {_goes_on(merchant)}", err=True)
            raise


@click.command("revalidate")
@bulk_options
@click.pass_context
def revalidate(context: click.Context, /, **given: Any) -> None:
    """Re-validate connections now instead of when they are due.

    Checks the key, the shipping methods and, if there are any, the slots, and repairs slots that drifted. The request
    is stored durably and the workers do the work; `occ status` shows the outcome.
    """
    request = actions.revalidation(repair=False)
    context.exit(run_bulk("revalidate", Order.of(given), lambda services: actions.Requesting(services, request)))


@click.command("repair")
@bulk_options
@click.pass_context
def repair(context: click.Context, /, **given: Any) -> None:
    """Re-validate connections now and repair contested slots.

    Use it once people have decided: contested slots are written again, and other changes to a slot (a secret, a
    header) are accepted as they are. Otherwise the same as `occ revalidate`, which repairs drift as well.
    """
    request = actions.revalidation(repair=True)
    context.exit(run_bulk("repair", Order.of(given), lambda services: actions.Requesting(services, request)))


@click.command("replay")
@bulk_options
@click.option(
    "--since",
    type=Duration(),
    metavar="DURATION",
    help="How far back, such as 6h or 3d. Default: since each slot was last in order before its repair.",
)
@click.pass_context
def replay(context: click.Context, /, *, since: float | None, **given: Any) -> None:
    """Request the events that stores failed to deliver.

    Only events that no other receiver missed are requested, and only those that the store tried to deliver: while our
    callback URL is missing from a slot, the store tries nothing. You can repeat it: an event that is already queued is
    not requested again.
    """
    # In the title, so that the journal of one time is not taken for another's.
    title = "replay" if since is None else f"replay --since {duration_text(since)}"
    context.exit(run_bulk(title, Order.of(given), lambda services: actions.Replaying(services, since)))


@click.command("disconnect")
@bulk_options
@click.option(
    "--forget",
    type=click.Choice(["now", "end"]),
    default="end",
    show_default=True,
    help="Forget the key once our callback URLs are removed; or now, which leaves them in the store.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_context
def disconnect(context: click.Context, /, *, forget: str, yes: bool, **given: Any) -> None:
    """Remove our callback URL from stores and forget their keys.

    Removes only our callback URL. If a store refuses, we report the slot as left behind and keep trying for some days.
    Asks for confirmation on a terminal; elsewhere, --yes is required.
    """
    title = "disconnect --forget now" if forget == "now" else "disconnect"
    request, order = actions.disconnection(forget), Order.of(given)
    can_ask = sys.stdin.isatty() and not order.is_from_standard_input
    if not (yes or order.dry_run or can_ask):
        remedy = "No terminal to confirm on; pass --yes, or --dry-run to see what would be disconnected"
        raise RequestRefused("yes", "not_confirmed", remedy)
    context.exit(
        run_bulk(
            title,
            order,
            lambda services: actions.Requesting(services, request),
            confirm=None if yes else lambda who: _ask(who, forget),
        )
    )


def _sealed(application_key: str, merchant_id: str, settings: Settings) -> str:
    if keyring.is_sealed(application_key):
        return application_key
    newest = settings.sealing_keys[0]
    return keyring.seal(newest.public_key, newest.key_id, merchant_id, application_key)


def _accept(request: Mapping[str, str], settings: Settings, variables: Mapping[str, str]) -> Accepted:
    """As both doors do. The message that starts the run is best effort: if it is lost, the tick sends another."""
    services = Wiring(settings)
    with services.redis:
        accepted = services.acceptance.accept(dict(request), Door.COMMAND_LINE)
    if accepted.started:
        become(variables)
        # Loading Celery takes longer than all the rest, and a refused request does not need it.
        from tasks.doors import start_run  # noqa: PLC0415
        from tasks.worker import logs  # noqa: PLC0415

        logs.configure("WARNING", settings.log_format)
        start_run(accepted, Door.COMMAND_LINE)
    return accepted


def _follow(records: Records, merchant_id: str, timeout: float, *, as_json: bool) -> ExitCode:
    """Until it is known whether the connection, or its new key, works, or the time is over."""
    with progress_view(as_json=as_json) as view:
        for snapshot in repeatedly(lambda: records.load(merchant_id), until=time.monotonic() + timeout):
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
    """If it did not go well, print what a script's log should hold."""
    if connection.status is ConnectionStatus.ACTIVE and connection.key_refusal is None and not connection.is_under_way:
        return ExitCode.OK
    sys.stdout.flush()
    if connection.is_under_way:
        click.echo(f"Not finished after {lasting(timeout)}. {_goes_on(connection.merchant_id)}", err=True)
        if is_stuck(connection, now):
            click.echo("No worker has taken it so far: are workers and beat running?", err=True)
    if not is_shown_live(as_json=as_json):
        for line in findings_explained(connection, now):
            click.echo(line, err=True)
    return ExitCode.NEEDS_ATTENTION


def _goes_on(merchant_id: str) -> str:
    return f"The run continues in the background; `occ status {merchant_id} --watch` follows it."


def _ask(who: str, forget: str) -> None:
    if forget == "now":
        what = "The application key is forgotten at once, and our callback URL stays in the store."
    else:
        what = "Our callback URL is removed from the store, then the application key is forgotten."
    click.echo(what, err=True)
    click.confirm(f"Disconnect {who}?", abort=True, err=True)
