"""Names are a contract: with the documentation, the dashboard, the alert rules, and those whom we do not know."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.worker.metric import METRICS, Kind, Metric

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
ALERT_TESTS = ROOT / "deploy" / "prometheus" / "alerts.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "occ-connect.json"
PAGE = ROOT / "docs" / "metrics.md"

# Add to it, never take away: somebody's alert is written against each of them.
PROMISED = {
    "occ_access_tokens_total": ("source",),
    "occ_call_seconds": ("endpoint",),
    "occ_calls_total": ("endpoint", "outcome"),
    "occ_causes_total": ("cause",),
    "occ_connections": ("status",),
    "occ_deliveries_given_up_total": (),
    "occ_deliveries_total": ("outcome",),
    "occ_deliveries_waiting": (),
    "occ_due": (),
    "occ_events": (),
    "occ_events_held": (),
    "occ_events_lag": ("group",),
    "occ_events_missed_total": (),
    "occ_events_oldest_unread_seconds": ("group",),
    "occ_events_pending": ("group",),
    "occ_events_undelivered": (),
    "occ_dispatched_total": (),
    "occ_heard_total": ("result",),
    "occ_inbox_pending": (),
    "occ_inbox_requests": (),
    "occ_inbox_taken_total": (),
    "occ_last_tick_seconds": (),
    "occ_merchants_silent": (),
    "occ_oldest_message_seconds": ("queue",),
    "occ_outage": ("kind",),
    "occ_overdue": (),
    "occ_overdue_oldest_seconds": (),
    "occ_quarantined_messages": (),
    "occ_queue_messages": ("queue",),
    "occ_queue_unacknowledged": (),
    "occ_receiver_failing_seconds": (),
    "occ_records_unreadable": (),
    "occ_refused_requests": (),
    "occ_repairs_total": (),
    "occ_retries_total": ("step",),
    "occ_steps_total": ("step", "result"),
    "occ_stores_left": (),
    "occ_stores_shared_total": (),
    "occ_ticks_total": (),
    "occ_unread_messages": (),
    "occ_up": (),
}
NEVER_A_LABEL = {"merchant", "merchant_id", "host", "store", "store_url", "url", "key", "token", "fingerprint"}

METRIC = re.compile(r"\b(occ_[a-z_]+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|on|without) \(([^)]*)\)")


def samples_of(metric: Metric) -> set[str]:
    """The names that queries use."""
    if metric.kind is Kind.HISTOGRAM:
        return {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    return {metric.name}


SAMPLES = {sample: metric for metric in METRICS.values() for sample in samples_of(metric)}


def problems_of(query: str) -> Iterator[str]:
    """What it asks for that nobody tells."""
    labels = {"le"}
    for name, selector in METRIC.findall(query):
        if name not in SAMPLES:
            yield f"no metric {name}"
            continue
        labels |= {*SAMPLES[name].labels}
        yield from (
            f"{name} has no label {label}"
            for label in re.findall(r"(\w+)\s*[=!]", selector)
            if label not in SAMPLES[name].labels
        )
    for group in GROUPING.findall(query):
        yield from (f"no label {label} in {query}" for label in re.split(r"\W+", group) if label not in labels)


def queries_of_dashboard() -> list[str]:
    """Of all panels."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def queries_of_alerts() -> list[str]:
    """Of all rules, those on several lines too."""
    text = re.sub(r">-\n\s+", "", ALERTS.read_text(encoding="utf-8"))
    return re.findall(r"^\s+expr: ((?:.|\n(?! +\w+: ))+)", text, re.MULTILINE)


def test_no_name_that_was_promised_is_gone_and_none_is_new_without_a_promise() -> None:
    assert {metric.name: metric.labels for metric in METRICS.values()} == PROMISED


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in METRICS.values():
        assert re.fullmatch(r"occ_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
        assert not {*metric.labels} & NEVER_A_LABEL
        assert not metric.values or len(metric.values) == len(metric.labels)


def test_the_dashboard_asks_for_nothing_that_nobody_tells_and_shows_everything_there_is() -> None:
    queries = queries_of_dashboard()
    assert [problem for query in queries for problem in problems_of(query)] == []
    shown = {SAMPLES[name].name for query in queries for name, _ in METRIC.findall(query)}
    assert shown == {*METRICS}


def test_panels_of_the_dashboard_have_their_own_place_and_number() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_alert_rules_ask_for_nothing_that_nobody_tells() -> None:
    queries = queries_of_alerts()
    assert len(queries) == ALERTS.read_text(encoding="utf-8").count("- alert:") >= 10
    assert [problem for query in queries for problem in problems_of(query)] == []


def test_a_query_for_what_is_not_there_would_be_found() -> None:
    assert list(problems_of("sum by (slot) (rate(occ_calls_total[5m]))")) != []
    assert list(problems_of('occ_outage{host="x"}')) != []
    assert list(problems_of("occ_call_total")) == ["no metric occ_call_total"]


def test_every_alert_is_tried_and_says_in_the_documentation_what_to_do() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
    tried = ALERT_TESTS.read_text(encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts", tried), f"{alert} is never seen to fire"
        assert re.search(rf"alertname: {alert} }}", tried), f"{alert} is never seen to be silent"
        assert f"| `{alert}` |" in page, f"docs/metrics.md lacks {alert}"


@pytest.mark.server
@pytest.mark.parametrize("arguments", [["check", "rules", str(ALERTS)], ["test", "rules", str(ALERT_TESTS)]])
def test_promtool_accepts_the_rules_and_sees_them_fire_when_they_should(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_documentation_has_a_table_of_all_metrics() -> None:
    rows = [
        f"| `{name}` | {metric.kind} | {labels_of(metric)} | {metric.meaning} |" for name, metric in METRICS.items()
    ]
    table = "\n".join(["| name | kind | labels | meaning |", "| --- | --- | --- | --- |", *rows])
    assert table in PAGE.read_text(encoding="utf-8"), f"docs/metrics.md should hold:\n\n{table}\n"


def labels_of(metric: Metric) -> str:
    """As the table shows them."""
    return ", ".join(f"`{label}`" for label in metric.labels)
