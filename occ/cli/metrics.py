"""`occ metrics`."""

from contextlib import closing

import click
from prometheus_client import generate_latest

from occ.cli.exit_codes import ExitCode
from occ.cli.failure import CommandError
from occ.cli.set_up import settings_of_what_runs
from occ.local.stop_signal import stop_signal
from occ.metrics.exporter import Exporter, registry_of, serve
from tasks.worker import logs

PORT = 9464

_LOOK_EVERY = 3600.0  # seconds; a signal ends the wait


@click.command("metrics")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; there is no login.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--once", is_flag=True, help="Print the metrics and end.")
def command(*, host: str, port: int, once: bool) -> None:
    """Serve metrics for Prometheus, until stopped.

    One process is enough for any number of workers: they add up what they count on the server. It only reads there, and
    goes on when the server is away (occ_up is 0 then). The metrics name no merchant, host or key. Needs no sealing key.
    """
    settings = settings_of_what_runs()
    exporter = Exporter(settings)
    try:
        if once:
            click.echo(generate_latest(registry_of(exporter)).decode(), nl=False)
            return
        logs.configure(settings.log_level, settings.log_format)
        try:
            endpoint = serve(exporter, host, port)
        except OSError as error:
            raise _cannot_listen(host, port, error) from None
        with closing(endpoint), stop_signal() as stop:
            click.echo(f"Metrics are at {endpoint.url}", err=True)
            while not stop.wait(_LOOK_EVERY):
                pass
    finally:
        exporter.close()


def _cannot_listen(host: str, port: int, error: OSError) -> CommandError:
    remedy = f"{host} port {port} cannot be listened on ({error.strerror}); name others with --host and --port"
    return CommandError(ExitCode.REFUSED, "cannot_listen", remedy)
