"""`occ keygen`."""

import json
from textwrap import dedent

import click

from integrations.sealing.keyring import SealingKey
from occ.cli.parameters import json_option


@click.command("keygen")
@json_option
def command(*, as_json: bool) -> None:
    """Make a sealing key pair.

    Merchants' application keys are sealed with the public half, which may be known to everybody, and opened with the
    private half, which stays with the workers. Nothing is stored: the pair is printed, once.
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

            Private key: put it first in OCC_SEALING_KEYS (newest first, separated by commas), or into the file that
            OCC_SEALING_KEYS_FILE names, wherever workers run. Keep the older ones behind it for as long as records
            hold application keys sealed for them. Whoever has it can open every application key sealed for it.

            Public key and key id: give both to producers, who seal with them. They are no secret."""
        )
    )
