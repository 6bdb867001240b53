"""`python -m tests.fault_matrix`: write docs/faults.md."""

import click

from tests.fault_matrix.page import PAGE, matrix, page


@click.command()
def fault_matrix() -> None:
    """Run every fault of the simulated store to its end, and write down what it came to."""
    PAGE.write_text(page(matrix()), encoding="utf-8")
    click.echo(f"wrote {PAGE}")


if __name__ == "__main__":
    fault_matrix()
