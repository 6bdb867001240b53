"""The product's names use the words of `docs/glossary.md`: identifiers, log events and metrics say nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.worker.metric import METRICS

ROOT = Path(__file__).parent.parent
NOT_OURS = {
    "wish": "request",
    "wishes": "requests",
    "lane": "queue",
    "lanes": "queues",
    "depart": "disconnect",
    "departed": "disconnected",
    "departing": "disconnecting",
    "departure": "disconnection",
    "dealer": "dispatcher",
    "dealt": "dispatched",
    "handed_out": "dispatched",
    "tell": "report, describe",
    "tells": "reports, describes",
    "told": "outcome, summary",
    "retell": "rewrite",
    "retold": "rewritten",
    "recheck": "revalidate",
    "second_look": "second re-validation",
}
"""What is not to be used, and what is."""

PUBLIC = {
    "recheck": "the former name of `occ revalidate`, still understood",
    "recheck_degraded": "the setting OCC_RECHECK_DEGRADED",
    "second_look": "the setting OCC_SECOND_LOOK",
    "_second_look_comes_before_the_next_round": "checks the setting OCC_SECOND_LOOK",
}
"""Names that stay, and why."""


def words_of(name: str) -> str:
    """`_WhatIsTold` as `_what_is_told_`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f"_{spaced.strip('_')}_"


def wrong_in(name: str) -> list[str]:
    """The words in a name that are not ours."""
    if name in PUBLIC:
        return []
    return [word for word in NOT_OURS if f"_{word}_" in words_of(name)]


def names_in(tree: ast.AST) -> Iterator[str]:
    """Everything that is named in a module, and the names of what it logs."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log")), args=[ast.Constant(value=str(name)), *_]):
                yield name


def wrong_names(source: str) -> list[str]:
    """The names of a module that need another word."""
    return sorted({name for name in names_in(ast.parse(source)) if wrong_in(name)})


@pytest.mark.parametrize("folder", ["integrations", "tasks", "occ"])
def test_names_of_the_product_are_in_the_words_of_the_glossary(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {str(file.relative_to(ROOT)): wrong_names(file.read_text(encoding="utf-8")) for file in files}
    found |= {f"{file}: its name": [Path(file).stem] for file in found if wrong_in(Path(file).stem)}
    assert {file: names for file, names in found.items() if names} == {}


def test_metrics_are_in_the_words_of_the_glossary() -> None:
    assert [name for name in METRICS if wrong_in(name)] == []


@pytest.mark.parametrize(
    "source",
    [
        "departure = 1",
        "def _tell(): ...",
        "class WishTaken: ...",
        "f(told=1)",
        "x.handed_out",
        'log.info("wish_taken")',
    ],
)
def test_a_word_that_is_not_ours_is_found(source: str) -> None:
    assert len(wrong_names(source)) == 1
