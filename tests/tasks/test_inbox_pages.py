"""The page that Flower has of a request from the inbox: what is told, and that nothing goes wrong with the request."""

import pytest

from tasks.inbox_pages import InboxPages

SEALED = "sealed.v1.k1.c2VjcmV0"
REQUEST = {"merchant_id": "m-1", "store_url": "https://store.example.com", "application_key": SEALED}


def pages_of(request: object, answer: dict[str, object]) -> InboxPages:
    pages = InboxPages()
    with pages.page("1795446120000-0", "occ.connect", request) as answered:
        answered(answer)
    return pages


def test_a_request_is_a_page_under_the_id_of_its_entry() -> None:
    events = pages_of(REQUEST, {"outcome": "accepted", "merchant_id": "m-1", "run": 1}).events
    assert [name for name, _ in events] == ["task-received", "task-started", "task-succeeded"]
    assert {fields["uuid"] for _, fields in events} == {"1795446120000-0"}
    (_, received), _, (_, succeeded) = events
    assert (received["name"], received["root_id"], received["parent_id"]) == ("occ.connect", "1795446120000-0", None)
    assert received["args"] == "root_id:1795446120000-0"
    assert received["timestamp"] <= succeeded["timestamp"]
    assert succeeded["result"] == "{'outcome': 'accepted', 'merchant_id': 'm-1', 'run': 1}"


@pytest.mark.parametrize(
    "request_", [REQUEST, {**REQUEST, "store_url": f"https://{SEALED}@x/"}, [SEALED], SEALED, None]
)
def test_only_ids_and_the_store_are_shown(request_: object) -> None:
    assert SEALED not in str(pages_of(request_, {"outcome": "refused", "field": "store_url"}).events)


def test_what_stays_in_the_inbox_has_no_page_yet() -> None:
    pages = InboxPages()
    with pytest.raises(ConnectionError), pages.page("1-0", "occ.connect", REQUEST):
        raise ConnectionError
    assert pages.events == []
