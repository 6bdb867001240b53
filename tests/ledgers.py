"""What an example has written to its ledger, read while it may be writing."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def entries_in(ledger: Path, table: str, *columns: str) -> tuple[list[tuple[Any, ...]], list[list[str]]]:
    """The rows of a database, or the fields of each whole line of a text, in the order in which they came.

    There are none until the example has begun.
    """
    content = ledger.read_bytes() if ledger.exists() else b""  # once: what is empty may hold a database in a moment
    if content[:6] != b"SQLite":
        return [], [line.split("\t") for line in content.decode().rpartition("\n")[0].splitlines()]
    with closing(sqlite3.connect(ledger, timeout=180)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchall():
            return [], []
        return database.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid").fetchall(), []  # noqa: S608
