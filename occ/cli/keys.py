"""The commands about sealing keys: `occ keygen`, `seal`, `producer-settings`, `rotate-keys`."""

import json
import os
import shlex
from textwrap import dedent

import click

from integrations.errors import RequestRefused
from integrations.sealing.keyring import SealingKey, is_sealed
from integrations.sealing.keyring import seal as sealed_with
from occ.cli.key_input import key_from_standard_input
from occ.cli.options import json_option, merchant


@click.command("keygen")
@json_option
def keygen(*, as_json: bool) -> None:
    """Generate a sealing key pair.

    Application keys are sealed with the public half, which anybody may know, and opened with the private half, which
    only workers have. Nothing is stored: the pair is printed once.
    """
    key = SealingKey.generate()
    if as_json:
        pair = {"key_id": key.key_id, "private_key": key.export(), "public_key": key.public_key}
        click.echo(json.dumps(pair))
        return
    click.echo(
        dedent(
            f"""\
            Key id       {key.key_id}
            Public key   {key.public_key}
            Private key  {key.export()}

            Private key: put it first in OCC_SEALING_KEYS (newest first, separated by commas), or in the file named by
            OCC_SEALING_KEYS_FILE, wherever workers run. Keep older keys behind it until `occ rotate-keys --retire`
            says that you can remove them. Whoever has it can open every application key sealed with it.

            Public key and key id: give both to producers, who seal with them. They are not secret."""
        )
    )


@click.command("seal")
@merchant
@json_option
def seal(*, merchant: str, as_json: bool) -> None:
    """Seal an application key, as producers do.

    Reads the key from standard input and seals it for this merchant with the newest sealing key. Needs no server.
    """
    from integrations.oracle_commerce.application_key import check_application_key  # noqa: PLC0415
    from occ.cli.set_up import newest_sealing_key  # noqa: PLC0415

    application_key = key_from_standard_input()
    if is_sealed(application_key):
        raise RequestRefused("application_key", "already_sealed", "this key is sealed already; send it as it is")
    try:
        check_application_key(application_key)
    except RequestRefused as refusal:
        click.echo(f"Warning: {refusal.remedy} A request with it will be refused.", err=True)
    key = newest_sealing_key()
    sealed = sealed_with(key.public_key, key.key_id, merchant, application_key)
    if as_json:
        click.echo(json.dumps({"merchant_id": merchant, "application_key": sealed, "key_id": key.key_id}))
    else:
        click.echo(sealed)


@click.command("producer-settings")
@json_option
def producer_settings(*, as_json: bool) -> None:
    """Print the settings a producer needs, as shell variables.

    SEALING_KEY_ID and SEALING_PUBLIC_KEY belong to the newest sealing key and are not secret. With the server of
    `./run up`, REDIS_URL and BROKER_URL are printed too, for your programs on this machine: `eval "$(./run occ
    producer-settings)"`. For your own server they are left out: give each producer a login of its own there.
    """
    from occ.cli.set_up import newest_sealing_key, settings_of_what_runs  # noqa: PLC0415
    from occ.local.environment import wants_embedded_server  # noqa: PLC0415

    variables = {}
    if wants_embedded_server(os.environ):
        running = settings_of_what_runs()
        variables = {
            "REDIS_URL": running.redis_url.text,
            "BROKER_URL": running.broker_url.celery_settings()["broker_url"],
        }
    key = newest_sealing_key()
    variables |= {"SEALING_KEY_ID": key.key_id, "SEALING_PUBLIC_KEY": key.public_key}
    if as_json:
        click.echo(json.dumps(variables))
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@click.command("rotate-keys")
@click.option("--retire", metavar="KEY_ID", help="Only check whether you can remove this key from OCC_SEALING_KEYS.")
@json_option
def rotate_keys(*, retire: str | None, as_json: bool) -> None:
    """Re-seal all application keys with the newest sealing key.

    Runs beside everything else, as often as you like; if it is stopped, the next run continues. To change keys:
    generate a pair (`occ keygen`), put it first in OCC_SEALING_KEYS everywhere and restart the workers, give the public
    half to the producers, rotate, then check with --retire whether you can remove the old key.

    The exit code is 1 if some application keys cannot be opened by any active sealing key.
    """
    from occ.cli import key_rotation  # noqa: PLC0415

    if retire is None:
        key_rotation.rotate(as_json=as_json)
    else:
        key_rotation.retire(retire, as_json=as_json)
