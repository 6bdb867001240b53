"""Pages name only what exists: commands, options, settings, files, headings, findings, alerts, metrics."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from integrations.connections.causes import CAUSES
from integrations.settings import Settings
from occ.cli.command_line import occ
from tasks.worker.metric import METRICS
from tests.deploy.manifests import ROOT, UNITS, services

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
OURS = [
    *(
        ROOT / "docs" / f"{name}.md"
        for name in ("deploying", "sizing", "operating", "glossary", "settings", "command-line", "README")
    ),
    ROOT / "CONTRIBUTING.md",
]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CALL = re.compile(r"(?:^|[\s`|;&])(?:\./run )?occ ((?:[a-z-]+)(?: [^`|\n;&]*)?)")
IN_PROSE = re.compile(r"`((?:\./run )?occ [^`]+)`")
INDENTED = re.compile(r"^ {4}(.+)$", re.MULTILINE)
SETTING = re.compile(r"\bOCC_[A-Z][A-Z_]*[A-Z]\b")
PATH = re.compile(r"`((?:docs|deploy|tasks|tests|integrations|examples)/[\w@./*-]*\w/?)`")

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
our_page = pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def headings(path: Path) -> set[str]:
    """The anchors a page has, as they come out on GitHub."""
    found = re.findall(r"^#+ (.+)$", FENCE.sub("", text(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def code(path: Path) -> Iterator[str]:
    """What a reader may type: indented lines, joined where they go on, and words in backticks."""
    plain = FENCE.sub("", text(path))
    yield from INDENTED.findall(plain.replace("\\\n", " "))
    yield from IN_PROSE.findall(plain)


def calls(path: Path) -> Iterator[list[str]]:
    """Each call of `occ`, as a list of words."""
    for line in code(path):
        for call in CALL.findall(line.split("  #")[0]):
            yield shlex.split(call.split("  ")[0].rstrip(" \\"))


@page
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(FENCE.sub("", text(path))):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@page
def test_every_command_and_option_exists(path: Path) -> None:
    with click.Context(occ) as context:
        for name, *words in calls(path):
            if name.upper() == name or name not in occ.list_commands(context):
                assert path not in OURS, f"there is no `occ {name}`"
                continue
            if name == "simulate":
                continue  # its options are the simulator's own
            command = occ.get_command(context, name)
            assert command is not None
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            used = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
            assert used <= options | {"--help"}, (name, used - options)


@our_page
def test_commands_could_be_carried_out_as_they_stand(path: Path) -> None:
    for name, *words in calls(path):
        if name in {"simulate", "metrics"} or any("NAME" in word or word == "..." for word in words):
            continue
        with click.Context(occ) as context:
            command = occ.get_command(context, name)
            assert command is not None
            given = [word for word in words if not word.startswith(">")]
            try:
                command.make_context(name, given, parent=context, resilient_parsing=False)
            except click.UsageError as error:
                pytest.fail(f"occ {name} {' '.join(given)}: {error.format_message()}")


@page
def test_every_setting_exists(path: Path) -> None:
    known = {f"OCC_{name.upper()}" for name in Settings.model_fields}
    for name in SETTING.findall(text(path)):
        assert name.removesuffix("_FILE") in known, name


@page
def test_every_file_that_is_named_is_there(path: Path) -> None:
    for name in PATH.findall(text(path)):
        assert list(ROOT.glob(name.rstrip("/"))), name


@our_page
def test_findings_alerts_and_metrics_exist(path: Path) -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert set(re.findall(r"\bOcc[A-Z][A-Za-z]+\b", text(path))) <= alerts
    assert set(re.findall(r"--finding (\w+)", text(path))) <= set(CAUSES)
    for name in re.findall(r"`(occ_[a-z_]+)`", text(path)):
        assert name in METRICS or name.startswith("occ_server"), name


def test_calls_are_found_in_pages() -> None:
    found = {name for name, *_ in calls(ROOT / "docs" / "operating.md")}
    assert {"health", "status", "explain", "revalidate", "repair", "replay", "disconnect", "quarantine"} <= found


def test_every_alert_is_told_what_to_do_about() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    operating = text(ROOT / "docs" / "operating.md")
    assert [
        rule["alert"] for group in rules["groups"] for rule in group["rules"] if rule["alert"] not in operating
    ] == []


def test_pages_about_deploying_name_services_and_units_that_exist() -> None:
    deploying = text(ROOT / "docs" / "deploying.md") + text(ROOT / "docs" / "operating.md")
    for name in re.findall(r"docker compose exec (?:-T )?([a-z-]+) ", deploying):
        assert name in services(), name
    units = {file.name.replace("@", "").rpartition(".")[0] for file in UNITS.iterdir()}
    for name in re.findall(r"\b(occ-[a-z]+)(?:@\d)?\b(?!\.yaml|/)", deploying):
        assert name in units | {"occ-connect", "occ-alive"} | {f"occ-{user}" for user in ("inbox", "events", "metrics")}


def test_the_index_leads_to_every_page() -> None:
    linked = {
        (ROOT / "docs" / link.partition("#")[0]).resolve() for link in LINK.findall(text(ROOT / "docs" / "README.md"))
    }
    missing = {path.name for path in (ROOT / "docs").glob("*.md") if path.resolve() not in linked} - {"README.md"}
    assert missing == set()


def test_the_arithmetic_of_sizing_is_right() -> None:
    """From the figures in the page's own tables: what is multiplied there comes out."""
    rows = dict(re.findall(r"^\| ([a-zN][^|]*?) +\| (.+) \|$", text(ROOT / "docs" / "sizing.md"), re.MULTILINE))

    def row(name: str) -> list[float]:
        return [float(re.sub(r"[^\d.]", "", cell)) for cell in rows[name].split("|")]

    formula = r"^    ([a-z, ]+?) += checks a second x ([\d.]+)$"
    factors = {name: float(one) for name, one in re.findall(formula, text(ROOT / "docs" / "sizing.md"), re.MULTILINE)}
    connections = row("N")
    checks = [count / 86_400 for count in connections]
    for name, factor in {
        "checks a second": 1,
        "worker cores": factors["worker cores"],
        "server, of a core": factors["server, of a core"],
        "commands a second": factors["commands a second"],
        "calls to stores a second": 6,
        "busy threads, a call taking 0.5 s": 3,
        "tokens": 300 * 3000 / 1e6,
    }.items():
        assert row(name) == pytest.approx([factor * check for check in checks], rel=0.08, abs=0.06), name
    for name, each in {
        "records and timelines, one in ten full": 2_060 + 1_800 + 0.1 * 43_800,
        "the same, all full (nobody's store is ever in order)": 2_060 + 45_600,
    }.items():
        assert row(name) == pytest.approx([count * each / 1e9 for count in connections], rel=0.05, abs=0.06), name


def test_every_setting_has_its_row_and_no_row_is_of_another() -> None:
    rows = [line.split("|")[1] for line in text(ROOT / "docs" / "settings.md").splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`OCC_([A-Z_]+)`", " ".join(rows))) == sorted(map(str.upper, Settings.model_fields))
