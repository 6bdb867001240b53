"""`occ producer-settings`."""

import json
import os
import shlex

import click

from occ.cli.parameters import json_option
from occ.cli.set_up import newest_sealing_key, settings_of_what_runs
from occ.local.environment import wants_embedded_server


@click.command("producer-settings")
@json_option
def command(*, as_json: bool) -> None:
    """Print what a producer needs, as variables for a shell.

    SEALING_KEY_ID and SEALING_PUBLIC_KEY are those of the newest sealing key, and no secret. With the set-up of
    `./run up`, REDIS_URL and BROKER_URL are added, for programs of this user on this machine: `eval "$(./run occ
    producer-settings)"`. For a server of yours they are left out: a producer gets a login of its own there.
    """
    variables = {}
    if wants_embedded_server(os.environ):
        running = settings_of_what_runs()
        variables = {"REDIS_URL": running.redis_url, "BROKER_URL": running.broker_url}
    key = newest_sealing_key()
    variables |= {"SEALING_KEY_ID": key.key_id, "SEALING_PUBLIC_KEY": key.public_key}
    if as_json:
        click.echo(json.dumps(variables))
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
