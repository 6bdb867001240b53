"""Flower as people see it, in a real browser: login, list, filter by merchant, the page of a slot that failed."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from integrations.connections.causes import CAUSES
from integrations.connections.lifecycle.requests import is_at_rest
from occ.demo.merchants import cast
from tests.browser import NO_CHROMIUM, Browser, Login, chromium
from tests.waiting import wait_until
from tests.window import Window, await_end, flower_listens, opened, window

pytestmark = [pytest.mark.end_to_end, pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM)]

PARTS = [part for part in cast(2) if part.name in {"healthy-1", "slot-refused"}]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    """Two merchants have been connected; one was looked at again, and then left."""
    with window(tmp_path_factory.mktemp("up"), PARTS) as shown:
        for wish, part in (("revalidate", PARTS[1]), ("disconnect", PARTS[0])):
            shown.redis.xadd("occ:inbox", {wish: json.dumps({"merchant_id": part.name})})
        await_end(shown, "healthy-1", run=2)
        yield shown


@pytest.fixture
def browser(shown: Window, tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "chromium", login=shown.login) as browser:
        yield browser


@pytest.mark.parametrize("login", [None, Login("occ", "guess")])
def test_nobody_gets_in_without_the_login(login: Login | None, shown: Window, tmp_path: Path) -> None:
    with Browser(tmp_path / "chromium", login=login) as stranger:
        stranger.open(f"{shown.url}/tasks")
        assert "healthy-1" not in stranger.text
        assert "Task history" not in stranger.text.capitalize()
        assert not stranger.run("!!document.querySelector('#tasks-table')")


def rows(browser: Browser) -> list[str]:
    script = "[...document.querySelectorAll('#tasks-table tbody tr')].map(row => row.innerText.replace(/\\s+/g, ' '))"
    found: list[str] = browser.run(script)
    return found


def test_the_list_tells_who_what_and_why_and_ticks_are_not_in_it(shown: Window, browser: Browser) -> None:
    opened(browser, shown)
    assert "occ.tick" not in browser.text
    opened(browser, shown, "kwargs:merchant_id=healthy-1 kwargs:run=2")
    told = "\n".join(rows(browser))
    assert "occ.disconnect_slot healthy-1 · order-submit · attempt 1 · run 2 SUCCESS removed" in told
    opened(browser, shown, "kwargs:merchant_id=slot-refused")
    told = "\n".join(rows(browser))
    assert "occ.revalidate_key slot-refused · attempt 1 · run 1 SUCCESS done, connection degraded" in told
    assert "occ.register_slot slot-refused · order-update · attempt 1 · run 1 FAILURE failed: slot_refused" in told


def test_what_a_store_refused_is_under_failed_and_counts_as_failed(shown: Window, browser: Browser) -> None:
    opened(browser, shown)
    browser.run("document.querySelector('.task-state-filter[data-task-state=FAILURE]').click()")
    browser.wait_for("$('#tasks-table').DataTable().search() === 'state:FAILURE' && $.active === 0")
    found = rows(browser)
    assert found
    assert all("slot-refused · order-update" in row and "FAILURE failed: slot_refused" in row for row in found)
    assert browser.run("!!document.querySelector('#tasks-table tbody .text-bg-danger, #tasks-table tbody .bg-danger')")
    browser.open(f"{shown.url}/workers")
    browser.wait_for("document.querySelectorAll('#workers-table tbody tr td').length > 4")
    failed = browser.run("[...document.querySelectorAll('#workers-table tbody tr')].map(row => row.cells[4].innerText)")
    assert sum(map(int, failed)) == len(found)


def test_a_merchant_is_found_by_id_and_nobody_else(shown: Window, browser: Browser) -> None:
    opened(browser, shown)
    browser.type_into("#tasks-table_filter input", "slot-refused")
    browser.wait_for("!document.querySelector('#tasks-table tbody').innerText.includes('healthy-1')")
    found = rows(browser)
    assert found
    assert all("slot-refused" in row for row in found)


def failed_slot(browser: Browser, shown: Window) -> None:
    """The page of the slot that the store refused first, from the list; a re-validation was refused later."""
    opened(browser, shown, "kwargs:slot=order-update slot_refused")
    browser.run("[...document.querySelectorAll('#tasks-table tbody a[href*=\"/task/\"]')].at(-1).click()")
    browser.wait_for("document.querySelector('#task-page')")


def test_the_page_of_a_failed_slot_tells_the_cause_and_who_acts(shown: Window, browser: Browser) -> None:
    failed_slot(browser, shown)
    text = browser.text
    assert "slot-refused · order-update · attempt 1 · run 1" in text
    who = "The operator of this installation must act."
    assert f"failed: slot_refused.\n{CAUSES['slot_refused'].sentence}\n{who}" in text
    assert re.search(r"Status\s+FAILURE", text)
    assert "Traceback" not in text
    assert "Exception" not in text


def follow(browser: Browser, row: str, link: int = 0) -> None:
    """From the page of a task along one of the links in this row."""
    links = f"[...document.querySelectorAll('.detail-row')].find(it => it.innerText.startsWith('{row}'))"
    target = browser.run(f"{links}.querySelectorAll('a')[{link}].href")
    browser.open(target)
    browser.wait_for("document.querySelector('#task-page')")


@pytest.fixture
def asked(shown: Window, browser: Browser) -> str:
    """The id of a request that came by the inbox, for a re-validation in which a slot is refused; and has ended."""

    def is_free() -> bool:
        connection = shown.records.load("slot-refused").connection
        return connection is not None and is_at_rest(connection)

    wait_until(is_free)
    wait_until(lambda: flower_listens(shown.redis))
    entry = str(shown.redis.xadd("occ:inbox", {"revalidate": json.dumps({"merchant_id": "slot-refused"})}))

    def is_shown() -> bool:
        opened(browser, shown, f"root_id:{entry}")
        found = rows(browser)
        return len(found) == 3 and not any("RECEIVED" in row or "STARTED" in row for row in found)

    wait_until(is_shown)
    return entry


def test_a_failed_slot_leads_up_to_its_request_and_down_to_its_siblings(shown: Window, browser: Browser) -> None:
    opened(browser, shown, "kwargs:slot=order-update slot_refused")
    links = browser.run("[...document.querySelectorAll('#tasks-table tbody a[href*=\"/task/\"]')].map(it => it.href)")
    for link in links:  # those of re-validations have no siblings
        browser.open(link)
        browser.wait_for("document.querySelector('#task-page')")
        follow(browser, "Parent id")
        if "occ.check_shipping_methods" in browser.text:
            break
    root = re.search(r"Root id\s+(\S+)", browser.text)
    for task in ("occ.check_shipping_methods", "occ.validate_key", "occ.connect"):
        assert re.search(rf"Name\s+{task}\s", browser.text)
        if task != "occ.connect":
            follow(browser, "Parent id")
    assert root is not None
    opened(browser, shown, f"root_id:{root[1]}")
    siblings = set(re.findall(r"occ.register_slot slot-refused · (\S+) · attempt 1", "\n".join(rows(browser))))
    assert siblings == {"order-submit", "order-update", "shipment-create", "shipment-update"}


def test_a_search_for_the_root_shows_the_run_oldest_first_after_a_click(
    asked: str, shown: Window, browser: Browser
) -> None:
    opened(browser, shown, f"root_id:{asked}")
    browser.run("document.querySelector('th[data-column=received]').click()")
    browser.wait_for("$('#tasks-table').DataTable().order()[0][1] === 'asc' && $.active === 0")
    names = [re.findall(r"occ\.\w+", row)[0] for row in rows(browser)]
    # Only the slot that was not in order takes a task of its own.
    assert names == ["occ.revalidate", "occ.revalidate_key", "occ.register_slot"]
    browser.run("document.querySelector('#tasks-table tbody a[href*=\"/task/\"]').click()")
    browser.wait_for("document.querySelector('#task-page')")
    assert asked in browser.run("location.href"), "the page of a request is under the id of its entry"


@pytest.mark.parametrize("width", [1280, 1560])
def test_the_list_fits_the_screen_and_its_headers_its_columns(width: int, shown: Window, tmp_path: Path) -> None:
    with Browser(tmp_path / "chromium", width=width, login=shown.login) as browser:
        for search in ("", "slot_refused"):  # with the longest of texts
            opened(browser, shown, search)
            wide, fits = browser.run(
                "(body => [body.scrollWidth, body.clientWidth])(document.querySelector('.dataTables_scrollBody'))"
            )
            assert wide <= fits
            assert browser.run("document.documentElement.scrollWidth") <= width
            edges = "[...document.querySelectorAll('{}')].map(it => Math.round(it.getBoundingClientRect().left))"
            headers = browser.run(edges.format(".dataTables_scrollHead th"))
            assert headers == browser.run(edges.format("#tasks-table tbody tr:first-child td"))
        browser.run("document.querySelector('#tasks-table tbody a[href*=\"/task/\"]').click()")
        browser.wait_for("document.querySelector('#task-page')")
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_pages_fetch_nothing_from_elsewhere(shown: Window, browser: Browser) -> None:
    opened(browser, shown)
    browser.open(f"{shown.url}/workers")
    assert browser.requested
    assert all(url.startswith((shown.url, "data:")) for url in browser.requested)


def test_what_was_shown_is_there_after_a_restart(shown: Window, browser: Browser) -> None:
    opened(browser, shown, "slot_refused")
    before = rows(browser)
    first = shown.restart_flower()
    wait_until(lambda: shown.up.started["flower"] != first)
    wait_until(lambda: answers(shown.url))
    opened(browser, shown, "slot_refused")
    assert rows(browser) == before


def answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=2).close()
    except OSError:
        return False
    return True
