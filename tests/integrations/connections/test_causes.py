"""Every cause has one row that says everything; what is raised and recorded anywhere in the product is one of them."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations.connections.causes import CAUSES, Actor, Evidence, IfNew, Meaning, OutageKind, Passing, explain
from integrations.egress.answer import CallOutcome

ROOT = Path(__file__).parents[3]
SUBTREES = [ast.parse(path.read_text()) for name in ("integrations", "tasks") for path in (ROOT / name).rglob("*.py")]
ERRORS = {"TransientError": {Passing.YES, Passing.NO_ATTEMPT}, "PermanentError": {Passing.NO, Passing.WHERE_IT_WORKED}}
PRIVATE = {"access_token_refused"}
"""What never leaves the store's client: it asks once more with a fresh access token."""


def named() -> Iterator[tuple[str, str]]:
    """Every code that the product names as a cause: in an error, a cause, a finding, or as a look-up; and where."""
    for node in (node for tree in SUBTREES for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and node.args:
            made_by = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            code = node.args[0]
            if made_by in {"TransientError", "PermanentError", "Cause", "Finding", "_permanent", "explain"}:
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    yield made_by.replace("_permanent", "PermanentError"), code.value
            elif made_by == "__init__" and isinstance(code, ast.Constant) and re.fullmatch("[a-z_]+", str(code.value)):
                yield "__init__", str(code.value)


def test_whatever_is_raised_or_recorded_has_a_row() -> None:
    codes = {code for _, code in named()} - PRIVATE
    assert len(codes) > 25, "the walk finds them"
    assert codes <= CAUSES.keys()


def test_what_an_error_is_called_agrees_with_what_its_row_says() -> None:
    """`except TransientError` and the row decide the same question."""
    raised = defaultdict(set)
    for made_by, code in named():
        if made_by in ERRORS:
            raised[code].add(made_by)
    wrong = {
        code: kinds for code, kinds in raised.items() for kind in kinds if CAUSES[code].passing not in ERRORS[kind]
    }
    assert wrong == {}


@pytest.mark.parametrize("code", CAUSES)
def test_a_row_is_whole(code: str) -> None:
    row = CAUSES[code]
    assert isinstance(row.actor, Actor)
    assert isinstance(row.passing, Passing)
    assert isinstance(row.if_new, IfNew)
    assert isinstance(row.evidence, OutageKind | Evidence)
    assert isinstance(row.call, CallOutcome)
    assert row.sentence.endswith(".")


def test_no_row_can_leave_anything_out() -> None:
    with pytest.raises(TypeError, match="missing"):
        Meaning(Actor.NOBODY, Passing.YES, IfNew.SAME)  # type: ignore[call-arg]


def test_a_code_of_a_newer_release_is_the_operators() -> None:
    assert explain("a_code_of_a_newer_release").actor is Actor.OPERATOR


def test_what_counts_as_an_outage_where_many_fail_of_it() -> None:
    """The four ways of failing alike, and what a merchant's own mistake may look like."""
    kinds = {kind: {code for code, row in CAUSES.items() if row.evidence is kind} for kind in OutageKind}
    assert kinds == {
        OutageKind.NETWORK: {"store_unreachable", "store_timeout", "tls_failed", "proxy_failed", "egress_blocked"},
        OutageKind.STORE: {"store_error", "store_overloaded", "store_busy", "unreadable_answer", "answer_too_large"},
        OutageKind.EDGE: {"edge_refused", "redirected", "not_an_admin_host"},
        OutageKind.KEY: {"key_rejected", "key_doubted"},
    }
    mistakes = {code for code, row in CAUSES.items() if row.if_new is IfNew.MISTAKE}
    assert mistakes == {"egress_blocked", "redirected", "not_an_admin_host", "key_rejected", "key_doubted"}
