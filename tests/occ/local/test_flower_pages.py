"""Flower as people see it, in a real browser: login, list, filter by merchant, the page of a slot that failed."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from integrations.connections.causes import CAUSES
from occ.demo.merchants import cast
from tests.browser import NO_CHROMIUM, Browser, Login, chromium
from tests.waiting import wait_until
from tests.window import Window, await_end, opened, window

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
    told = "\n".join(rows(browser))
    assert "occ.disconnect_slot healthy-1 · order-submit · attempt 1 · run 2 SUCCESS removed" in told
    opened(browser, shown, "kwargs:merchant_id=slot-refused")
    told = "\n".join(rows(browser))
    assert "occ.revalidate_key slot-refused · attempt 1 · run 1 SUCCESS done, connection degraded" in told
    assert "occ.register_slot slot-refused · order-update · attempt 1 · run 1 FAILED failed: slot_refused" in told


def test_what_a_store_refused_is_found_by_searching_for_failed(shown: Window, browser: Browser) -> None:
    opened(browser, shown, "failed")
    found = rows(browser)
    assert any("slot-refused · order-update" in row and "FAILED" in row for row in found)
    assert all("failed" in row for row in found)


def test_a_merchant_is_found_by_id_and_nobody_else(shown: Window, browser: Browser) -> None:
    opened(browser, shown)
    browser.type_into("#tasks-table_filter input", "slot-refused")
    browser.wait_for("!document.querySelector('#tasks-table tbody').innerText.includes('healthy-1')")
    found = rows(browser)
    assert found
    assert all("slot-refused" in row for row in found)


def test_the_page_of_a_failed_slot_tells_the_cause_and_who_acts(shown: Window, browser: Browser) -> None:
    opened(browser, shown, "kwargs:slot=order-update slot_refused")
    browser.run("document.querySelector('#tasks-table tbody a[href*=\"/task/\"]').click()")
    browser.wait_for("document.querySelector('#task-page')")
    text = browser.text
    assert "slot-refused · order-update · attempt 1 · run 1" in text
    assert f"failed: slot_refused.\n{CAUSES['slot_refused'].sentence}\nThe operator of this installation acts." in text
    assert re.search(r"Status\s+FAILED", text)


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
