"""`python -m tests.faults [SCENARIO...]`: a JSON line each, a table at the end, 1 if a bound was broken."""

import random
import sys
import tempfile
from pathlib import Path

import click

from tests.faults.campaign import Campaign, Job
from tests.faults.report import is_a_loss, table
from tests.faults.scenarios import SCENARIOS
from tests.faults.trial import Trial


@click.command()
@click.argument("names", nargs=-1, metavar="[SCENARIO]...", type=click.Choice(list(SCENARIOS)))
@click.option("--long", "is_long", is_flag=True, help="The full numbers; takes hours.")
@click.option("--seed", type=int, help="Replay the same faults at the same moments; a new one is printed.")
@click.option("--pool", type=click.Choice(["threads", "prefork"]), help="Default: those the scenario has to pass on.")
@click.option("--at-once", default=2, show_default=True, help="How many scenarios run beside each other.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep logs and the server's files in this folder.")
@click.option("--losses-only", is_flag=True, help="End with 1 for what is lost or wrong, not for times: busy machines.")
@click.option("--one", is_flag=True, hidden=True, help="Run the one scenario in this process.")
def faults(  # noqa: PLR0917 - click calls it
    names: tuple[str, ...],
    is_long: bool,
    seed: int | None,
    pool: str | None,
    at_once: int,
    keep: Path | None,
    losses_only: bool,
    one: bool,
) -> None:
    """Kill, cut, freeze and hang things while merchants are being connected, and count what is lost."""
    seed = random.randrange(1_000_000) if seed is None else seed  # noqa: S311 - dice
    with tempfile.TemporaryDirectory(prefix="occ-faults-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if one:
            report = SCENARIOS[names[0]].run(Trial(names[0], pool or "threads", seed, is_long, folder))
            click.echo(report.line())
            return
        jobs = [
            Job(name, which, seed, is_long)
            for name in names or (name for name, scenario in SCENARIOS.items() if not scenario.named_only)
            for which in ((pool,) if pool else SCENARIOS[name].pools)
        ]
        rows = Campaign(folder, at_once).run(jobs, click.echo)
    click.echo(table(rows), err=True)
    click.echo(f"seed {seed}", err=True)
    sys.exit(any(is_a_loss(row) if losses_only else row["broken"] for row in rows))


if __name__ == "__main__":
    faults()
