from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.egress.addresses import DevStore, is_host_name
from integrations.errors import RequestRefused
from integrations.oracle_commerce.store_url import DEFAULT_ALLOWED_HOSTS, normalise_store_url
from tests.examples import examples

DEV_STORES = (DevStore(ip_network("127.0.0.0/8"), 8800), DevStore(ip_network("::1/128"), None))
OLD = "https://ccadmin-z1a2.oracleoutsourcing.com"
NEW = "https://p1234567c1prd-admin.occa.ocs.oraclecloud.com"


def normalised(text: str, *, allowed_hosts: tuple[str, ...] = (), dev_stores: tuple[DevStore, ...] = ()) -> str:
    return normalise_store_url(text, allowed_hosts=allowed_hosts, dev_stores=dev_stores)


def refusal(text: str, *, allowed_hosts: tuple[str, ...] = (), dev_stores: tuple[DevStore, ...] = ()) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        normalised(text, allowed_hosts=allowed_hosts, dev_stores=dev_stores)
    assert caught.value.field == "store_url"
    return caught.value


@pytest.mark.parametrize(
    ("given_text", "store_url"),
    [
        ("https://ccadmin-z1a2.oracleoutsourcing.com", OLD),
        ("https://ccadmin-z1a2.oracleoutsourcing.com/", OLD),
        ("https://ccadmin-z1a2.oracleoutsourcing.com/occs-admin/#/settings?x=y", OLD),
        ("https://ccadmin-z1a2.oracleoutsourcing.com?tab=1", OLD),
        ("https://ccadmin-z1a2.oracleoutsourcing.com#top", OLD),
        ("https://ccadmin-z1a2.oracleoutsourcing.com/path@with:odd//things", OLD),
        ("HTTPS://CCADMIN-Z1A2.OracleOutsourcing.COM/OCCS-ADMIN", OLD),
        ("  https://ccadmin-z1a2.oracleoutsourcing.com \r\n", OLD),
        ("\ufeffhttps://ccadmin-z1a2.oracleoutsourcing.com\u200b", OLD),
        ("https://ccadmin-z1a2.oracleoutsourcing.com:443/occs-admin", OLD),
        ("http://ccadmin-z1a2.oracleoutsourcing.com", OLD),
        ("http://ccadmin-z1a2.oracleoutsourcing.com:80/", OLD),
        ("ccadmin-z1a2.oracleoutsourcing.com", OLD),
        ("ccadmin-z1a2.oracleoutsourcing.com/occs-admin/?next=https://elsewhere.example", OLD),
        ("ccadmin-z1a2.oracleoutsourcing.com:443", OLD),
        ("//ccadmin-z1a2.oracleoutsourcing.com/x", OLD),
        ("ccadmin-test-z1a2.oracleoutsourcing.com", "https://ccadmin-test-z1a2.oracleoutsourcing.com"),
        ("p1234567c1prd-admin.occa.ocs.oraclecloud.com/occs-admin", NEW),
    ],
)
def test_a_store_url_is_reduced_to_its_admin_host(given_text: str, store_url: str) -> None:
    assert normalised(given_text) == store_url
    assert normalised(given_text, allowed_hosts=DEFAULT_ALLOWED_HOSTS) == store_url
    assert normalised(store_url) == store_url


@pytest.mark.parametrize(
    ("given_text", "twin"),
    [
        ("https://ccstore-z1a2.oracleoutsourcing.com/home", "ccadmin-z1a2.oracleoutsourcing.com"),
        ("ccstore-test-z1a2.oracleoutsourcing.com", "ccadmin-test-z1a2.oracleoutsourcing.com"),
        ("p1234567c1prd-store.occa.ocs.oraclecloud.com", "p1234567c1prd-admin.occa.ocs.oraclecloud.com"),
        ("asbx9c1dev-store.occa.ocs.oraclecloud.com", "asbx9c1dev-admin.occa.ocs.oraclecloud.com"),
    ],
)
def test_a_storefront_is_refused_with_the_name_of_its_admin_twin(given_text: str, twin: str) -> None:
    for allowed_hosts in ((), ("*.oracleoutsourcing.com", "*.occa.ocs.oraclecloud.com")):
        refused = refusal(given_text, allowed_hosts=allowed_hosts)
        assert refused.code == "storefront_host"
        assert twin in refused.remedy
    assert normalised(twin) == f"https://{twin}"


@pytest.mark.parametrize(
    "given_text",
    [
        "https://www.shop.example",
        "https://mystore.oracle.com",
        "https://your-store.oracleoutsourcing.com",
        "https://ccadmin-z1a2.oracleoutsourcing.com.evil.example",
        "https://evil.example/ccadmin-z1a2.oracleoutsourcing.com",
        "https://evilccadmin-z1a2.oracleoutsourcing.com",
        "https://ccadmin-z1a2.evil.oracleoutsourcing.com",
        "https://a.b-admin.occa.ocs.oraclecloud.com",
        "https://idcs-admin.identity.oraclecloud.com",
        "https://-admin.occa.ocs.oraclecloud.com.evil.example",
    ],
)
def test_other_hosts_are_not_allowed(given_text: str) -> None:
    refused = refusal(given_text)
    assert refused.code in {"host_not_allowed", "bad_store_url"}


def test_an_operator_admits_other_hosts() -> None:
    patterns = ("occ.shop.example", "*.admin.Example.com", "a*z.example")
    assert normalised("https://OCC.shop.example", allowed_hosts=patterns) == "https://occ.shop.example"
    assert normalised("https://one.admin.example.com", allowed_hosts=patterns) == "https://one.admin.example.com"
    assert normalised("https://a-to-z.example", allowed_hosts=patterns) == "https://a-to-z.example"
    for host in (
        "one.two.admin.example.com",
        "admin.example.com",
        "az.example",
        "xocc.shop.example",
        "occ.shop.examples",
    ):
        assert refusal(f"https://{host}", allowed_hosts=patterns).code == "host_not_allowed"
    assert refusal(OLD, allowed_hosts=patterns).code == "host_not_allowed"


@pytest.mark.parametrize(
    ("given_text", "store_url"),
    [
        ("http://127.0.0.1:8800", "http://127.0.0.1:8800"),
        ("http://127.0.0.1:8800/ccadmin/v1?x#y", "http://127.0.0.1:8800"),
        ("https://127.9.8.7:8800/", "https://127.9.8.7:8800"),
        ("HTTP://LOCALHOST:8800/", "http://localhost:8800"),
        ("localhost:8800", "https://localhost:8800"),
        ("http://[::1]:9999/", "http://[::1]:9999"),
        ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]"),
        ("https://[::1]:443", "https://[::1]"),
    ],
)
def test_only_dev_stores_keep_http_ports_and_addresses(given_text: str, store_url: str) -> None:
    assert normalised(given_text, dev_stores=DEV_STORES) == store_url
    assert normalised(store_url, dev_stores=DEV_STORES) == store_url
    assert refusal(given_text).code == "bad_store_url"


@pytest.mark.parametrize(
    "given_text",
    [
        "http://127.0.0.1:8801",
        "http://127.0.0.1",
        "http://10.0.0.1:8800",
        "http://8.8.8.8:8800",
        "http://127.1:8800",
        "http://2130706433:8800",
        "http://0x7f.1:8800",
        "http://localhost.:8800",
        "http://user@127.0.0.1:8800",
        "http://store.example:8800",
        "http://ccadmin-z1a2.oracleoutsourcing.com:8800",
        "http://[::2]:8800",
        "http://[::ffff:127.0.0.1]:8800",
    ],
)
def test_dev_stores_open_no_other_door(given_text: str) -> None:
    assert refusal(given_text, dev_stores=DEV_STORES).code == "bad_store_url"


@pytest.mark.parametrize("given_text", [None, 5, b"https://ccadmin-z1a2.oracleoutsourcing.com", ["x"], {}])
def test_what_is_no_text_is_refused(given_text: object) -> None:
    assert refusal(given_text).code == "bad_store_url"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given_text",
    [
        "https://user:canary-7f3a@ccadmin-z1a2.oracleoutsourcing.com",
        "https://ccadmin-z1a2.oracleoutsourcing.com:8443/?token=canary-7f3a",
        "https://www.shop.example/canary-7f3a?token=canary-7f3a#canary-7f3a",
        "https://ccstore-z1a2.oracleoutsourcing.com/?token=canary-7f3a",
        "canary-7f3a@",
        "canary-7f3a://x",
        "Bearer canary-7f3a",
        "https://" + "canary-7f3a" * 300,
    ],
)
def test_a_refusal_quotes_no_more_than_a_host(given_text: str) -> None:
    refused = refusal(given_text)
    assert "canary-7f3a" not in f"{refused!r} {refused} {refused.remedy}"


def test_a_refusal_says_what_to_do() -> None:
    assert "user name" in refusal("https://user@ccadmin-z1a2.oracleoutsourcing.com").remedy
    assert "port 443" in refusal("https://ccadmin-z1a2.oracleoutsourcing.com:8443").remedy
    assert "https://" in refusal("ftp://ccadmin-z1a2.oracleoutsourcing.com").remedy
    assert "OCC_ALLOWED_HOSTS" in refusal("https://www.shop.example").remedy


@given(st.text(max_size=80) | st.text(alphabet="htps:/.@[]#?\\%0127axn-C\t ", max_size=60).map("https://".__add__))
@settings(max_examples=examples(500))
def test_any_text_is_a_store_url_or_refused(text: str) -> None:
    try:
        store_url = normalise_store_url(text, allowed_hosts=("*.*.*", "*.*"), dev_stores=DEV_STORES)
    except RequestRefused:
        return
    assert normalise_store_url(store_url, allowed_hosts=("*.*.*", "*.*"), dev_stores=DEV_STORES) == store_url
    scheme, _, host = store_url.partition("://")
    assert (scheme == "https" and is_host_name(host)) or host.startswith(("127.", "localhost", "[::1]"))


@given(
    st.from_regex(r"ccadmin(-[a-z0-9]{1,9}){1,3}", fullmatch=True),
    st.sampled_from(["", "/", "/occs-admin", "?a=b", "#"]),
)
@settings(deadline=None)
def test_every_admin_host_is_found_again(name: str, tail: str) -> None:
    host = f"{name}.oracleoutsourcing.com"
    assert normalised(f" HTTPS://{host.upper()}{tail} ") == f"https://{host}"
