"""`occ seal`."""

import json

import click

from integrations.errors import RequestRefused
from integrations.oracle_commerce.application_key import check_application_key
from integrations.sealing.keyring import seal
from occ.cli.key_input import key_from_standard_input
from occ.cli.parameters import json_option, merchant
from occ.cli.set_up import newest_sealing_key


@click.command("seal")
@merchant
@json_option
def command(*, merchant: str, as_json: bool) -> None:
    """Seal an application key, as producers do.

    Reads the key from standard input and seals it for this merchant, with the newest sealing key. Needs no server.
    """
    application_key = key_from_standard_input()
    if application_key.startswith("sealed."):
        raise RequestRefused("application_key", "already_sealed", "this is sealed already; send it as it is")
    try:
        check_application_key(application_key)
    except RequestRefused as refusal:
        click.echo(f"Warning: {refusal.remedy} A request with it will be refused.", err=True)
    key = newest_sealing_key()
    sealed = seal(key.public_key, key.key_id, merchant, application_key)
    if as_json:
        click.echo(json.dumps({"merchant_id": merchant, "application_key": sealed, "key_id": key.key_id}))
    else:
        click.echo(sealed)
