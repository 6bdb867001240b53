"""What the pages show is what runs: code stands in the examples, JSON fits its schema, and links lead somewhere."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.golden import opened
from tests.contract.shapes import EVENT_TYPES
from tests.contract.validators import of_file, problems
from tests.pipeline import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = ("producers.md", "events.md")


def blocks(page: str) -> Iterator[tuple[str | None, str, str]]:
    """What stands above each block of code, its language, and the code."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for found in re.finditer(r"(?:<!-- (\S+) -->\n)?```(\w+)\n(.*?)```", text, re.DOTALL):
        yield found[1], found[2], found[3]


@pytest.mark.parametrize("page", PAGES)
def test_code_stands_in_the_examples(page: str) -> None:
    shown = [(source, code) for source, language, code in blocks(page) if language != "json"]
    assert shown
    for source, code in shown:
        assert source, code
        assert code in (REPOSITORY / source).read_text(encoding="utf-8"), source


@pytest.mark.parametrize("page", PAGES)
def test_json_fits_its_schema(page: str) -> None:
    shown = [(source, json.loads(code)) for source, language, code in blocks(page) if language == "json"]
    assert shown
    for source, value in shown:
        assert source
        if source == "golden":
            _, request, _ = opened(json.dumps(value))["body"]
            assert problems(of_file("celery-message.schema.json", "revalidate"), value) == []
            assert problems(of_file("revalidate.schema.json"), request) == []
        else:
            assert problems(of_file(source), value) == []


@pytest.mark.parametrize(("language", "example"), [("python", "python/seal.py"), ("js", "node/seal.mjs")])
def test_the_examples_seal_as_the_page_about_it_shows(language: str, example: str) -> None:
    (shown,) = (code for _, found, code in blocks("sealing.md") if found == language)
    assert (REPOSITORY / "examples" / example).read_text(encoding="utf-8").endswith(shown)


def test_every_type_of_event_is_in_the_table() -> None:
    text = (DOCS / "events.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(occ\.\S+)` \|", text, re.MULTILINE) == list(EVENT_TYPES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", (DOCS / page).read_text(encoding="utf-8")):
        if not target.startswith("https:"):
            assert Path(DOCS / target).exists(), target


def test_every_code_of_a_refusal_is_in_the_table() -> None:
    """Those that stand where requests are read; each has something to be done about it."""
    text = (DOCS / "producers.md").read_text(encoding="utf-8")
    table = text.partition("| `code` of a refusal |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`([a-z_]+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:])))
    sources = [
        *(REPOSITORY / "integrations" / "oracle_commerce").glob("*.py"),
        REPOSITORY / "integrations" / "sealing" / "keyring.py",
        REPOSITORY / "integrations" / "messages" / "scheduled.py",
        REPOSITORY / "integrations" / "connections" / "request_ids.py",
    ]
    codes = {code for source in sources for code in codes_in(source.read_text(encoding="utf-8"))}
    assert codes == listed


def codes_in(source: str) -> Iterator[str]:
    """The codes of the refusals that a module raises: whatever constant may stand in that place."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        place = {"RequestRefused": 1, "_refused": 0}.get(call.func.id)
        if place is not None and len(call.args) > place:
            constants = (part for part in ast.walk(call.args[place]) if isinstance(part, ast.Constant))
            yield from (str(part.value) for part in constants if isinstance(part.value, str))
