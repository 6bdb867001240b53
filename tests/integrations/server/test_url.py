"""The URL of a server means the same to the records' client, Celery and Flower; what it cannot mean is refused."""

import re
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import kombu
import pytest
import redis.sentinel
import trustme
from flower.utils.broker import Broker  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from integrations.errors import SettingsError
from integrations.server.client import client_of
from integrations.server.look import look_at
from integrations.server.trouble import replica
from integrations.server.url import ServerUrl, server_url
from integrations.settings import load_keyless_settings
from tasks.worker.broker.transport import Channel

SECRET = "hunter2canary"


def to_records(server: ServerUrl) -> dict[str, Any]:
    """What redis-py is told."""
    with client_of(server, socket_timeout=10) as client:
        return dict(client.connection_pool.connection_kwargs)


def to_celery(server: ServerUrl) -> dict[str, Any]:
    """What Kombu's transport tells redis-py."""
    settings = server.celery_settings()
    channel: Any = Channel.__new__(Channel)  # without dialling
    connection = kombu.Connection(settings["broker_url"], ssl=settings["broker_use_ssl"])
    channel.connection = SimpleNamespace(client=connection, default_port=6379)
    for name, value in settings["broker_transport_options"].items():
        setattr(channel, name, value)
    told: dict[str, Any] = channel._connparams()
    return {name: value or None if name in {"username", "password"} else value for name, value in told.items()}


def to_flower(server: ServerUrl) -> dict[str, Any]:
    """What Flower tells redis-py, of the URL it asks Kombu for."""
    settings = server.celery_settings()
    url = kombu.Connection(settings["broker_url"]).as_uri(include_password=True)
    broker: Any = Broker(
        url, broker_use_ssl=settings["broker_use_ssl"], broker_options=settings["broker_transport_options"]
    )
    return dict(broker.redis.connection_pool.connection_kwargs)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://r", {"host": "r", "port": 6379, "db": 0, "username": None, "password": None}),
        ("redis://r:7000/3", {"port": 7000, "db": 3}),
        ("redis://r?db=3", {"db": 3}),
        ("redis://r/3?db=3", {"db": 3}),
        ("REDIS://R/0", {"host": "r"}),
        ("redis://[::1]:7000/1", {"host": "::1", "port": 7000}),
        ("redis://:p%40w@r", {"password": "p@w", "username": None}),
        ("redis://u:p;w@r", {"username": "u", "password": "p;w"}),
        ("redis://r?username=u&password=p%26w", {"username": "u", "password": "p&w"}),
        ("redis://r?socket_timeout=5&socket_connect_timeout=2", {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}),
        ("redis://r?health_check_interval=30&socket_keepalive=True", {"health_check_interval": 30}),
        ("redis://r?protocol=2&client_name=occ", {"protocol": 2, "client_name": "occ"}),
        ("redis://r?protocol=3&retry_on_timeout=false", {"protocol": 3}),
        ("unix:///run/s.sock?db=2", {"path": "/run/s.sock", "db": 2}),
        ("unix://u:pw@/run/s.sock", {"path": "/run/s.sock", "username": "u", "password": "pw"}),
        ("redis+socket://:pw@/run/s.sock?virtual_host=2", {"path": "/run/s.sock", "password": "pw", "db": 2}),
    ],
)
def test_a_url_means_the_same_to_everybody(url: str, told: dict[str, Any]) -> None:
    server = server_url(url)
    for who in (to_records, to_celery):
        assert {name: who(server).get(name) for name in told} == told, who
    by_flower = {name: to_flower(server).get(name) for name in told if name not in NOT_FOR_FLOWER}
    if "[" not in url and not url.startswith(("unix", "redis+socket")):
        assert {name: value or None if name == "username" else value for name, value in by_flower.items()} == {
            name: value for name, value in told.items() if name not in NOT_FOR_FLOWER
        }


NOT_FOR_FLOWER = {"health_check_interval", "protocol", "client_name"}


@pytest.mark.parametrize(
    "options", ["", "?ssl_cert_reqs=required", "?ssl_cert_reqs=CERT_REQUIRED", "?ssl_cert_reqs=optional"]
)
def test_tls_is_verified_unless_the_url_says_otherwise(options: str) -> None:
    server = server_url(f"rediss://r{options}")
    assert server.is_verified
    for who in (to_records, to_celery, to_flower):
        told = who(server)
        assert (told["ssl_cert_reqs"], told["ssl_check_hostname"]) == (ssl.CERT_REQUIRED, True), who


@pytest.mark.parametrize("spelling", ["none", "CERT_NONE"])
def test_not_verifying_has_to_be_asked_for(spelling: str) -> None:
    server = server_url(f"rediss://r?ssl_cert_reqs={spelling}")
    assert not server.is_verified
    for who in (to_records, to_celery, to_flower):
        told = who(server)
        assert (told["ssl_cert_reqs"], told["ssl_check_hostname"]) == (ssl.CERT_NONE, False), who
    assert not server_url("rediss://r?ssl_check_hostname=false").is_verified
    assert server_url("redis://r").is_verified


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = authority.issue_cert("client")
    certificate.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "client.key"))
    (folder / "empty.pem").touch()
    return folder


def test_files_for_tls_are_told_to_everybody(files: Path) -> None:
    tls = {
        "ssl_ca_certs": str(files / "ca.pem"),
        "ssl_certfile": str(files / "client.pem"),
        "ssl_keyfile": str(files / "client.key"),
    }
    server = server_url("rediss://r?" + "&".join(f"{name}={quote(path)}" for name, path in tls.items()))
    for who in (to_records, to_celery, to_flower):
        assert {name: who(server)[name] for name in tls} == tls


def test_one_setting_names_the_authorities_for_both_servers(files: Path) -> None:
    bundle = str(files / "ca.pem")
    settings = load_keyless_settings(
        {"OCC_REDIS_URL": "rediss://r", "OCC_BROKER_URL": "rediss://b", "OCC_SERVER_CA_BUNDLE": bundle}
    )
    for server in (settings.redis_url, settings.broker_url):
        assert to_celery(server)["ssl_ca_certs"] == to_records(server)["ssl_ca_certs"] == bundle
    plain = load_keyless_settings({"OCC_REDIS_URL": "redis://r", "OCC_SERVER_CA_BUNDLE": bundle})
    assert "ssl_ca_certs" not in to_records(plain.redis_url)


@given(
    st.text(st.characters(exclude_categories=("C", "Z")), max_size=8),
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20),
    st.integers(0, 99),
)
def test_any_login_arrives_unchanged(user: str, password: str, database: int) -> None:
    server = server_url(f"redis://{quote(user, safe='')}:{quote(password, safe='')}@r/{database}")
    for who in (to_records, to_celery, to_flower):
        told = who(server)
        assert (told["username"] or "", told["password"], told["db"]) == (user, password, database)


REFUSED = {
    "amqp://guest:hunter2canary@mq": "amqp:// is another kind of server",
    "sqs://key:hunter2canary@": "sqs:// is another kind of server",
    "valkey://:hunter2canary@r": "the same URLs as Redis",
    "https://:hunter2canary@r": "an address for HTTP",
    "hunter2canary": "write redis://",
    "redis://:hunter2canary@a,b:2/0": "name one server",
    "redis://a;redis://:hunter2canary@b": "name one server",
    "redis://:hunter2#canary@r": "percent-encode",
    "redis://:hunter2/canary@r": "percent-encode",
    "redis://:hunter2?canary@r": "percent-encode",
    "redis://r:99999": "a number up to 65535",
    "redis://r:0": "from 1 to 65535",
    "redis://r/zero": "the path is a database number",
    "redis://r/1?db=2": "named twice",
    "redis://r?db=hunter2canary": "option db must be a whole number",
    "redis://r?db=": "option db has no value",
    "redis://r?db=1&db=1": "option db is given twice",
    "redis://:a@r?password=hunter2canary": "the password is given twice",
    "redis://u@r?username=hunter2canary": "the user is given twice",
    "redis://r?socket_timeout=0": "option socket_timeout must be a number of seconds from 1 to 300",
    "redis://r?socket_timeout=soon": "option socket_timeout must be",
    "redis://r?protocol=4": "option protocol must be a whole number from 2 to 3",
    "redis://r?socket_keepalive=maybe": "option socket_keepalive must be true or false",
    "redis://r?timeout=5": "write socket_timeout",
    "redis://r?max_connections=5": "set OCC_CONCURRENCY",
    "redis://r?ssl=true": "write rediss://",
    "redis://r?ssl_cert_reqs=none": "needs rediss://",
    "redis://r?socket_tiemout=5": "there is no option socket_tiemout",
    "redis://r?hunter2canary=5": "an option in it is not known",
    "rediss://r?ssl_cert_reqs=hunter2canary": "must be required or none",
    "rediss://r?ssl_cert_reqs=none&ssl_check_hostname=true": "keep one",
    "rediss://r?ssl_ca_certs=/nowhere/ca.pem": "cannot be read (No such file or directory)",
    "rediss://r?ssl_ca_certs=ca.pem": "must be an absolute path",
    "rediss://r?ssl_ca_certs=/dev/null": "without certificates in PEM form",
    "rediss://r?ssl_certfile=/dev/null": "no certificate and its private key",
    "rediss://r?ssl_keyfile=/dev/null": "ssl_keyfile is given without ssl_certfile",
    "rediss://r?ssl_min_version=SSLv3": "must be TLSv1.2 or TLSv1.3",
    "rediss://r?ssl_ciphers=hunter2canary": "no cipher that OpenSSL knows",
    "rediss://r?ssl_ca_data=hunter2canary": "name a file with ssl_ca_certs",
    "unix://relative/path": "three slashes",
    "redis://h%20ost": "a host is a name",
}


@pytest.mark.parametrize("url", REFUSED)
@pytest.mark.parametrize("setting", ["OCC_REDIS_URL", "OCC_BROKER_URL"])
def test_what_a_url_cannot_mean_is_refused_by_name_for_records_and_broker_alike(url: str, setting: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_keyless_settings({"OCC_REDIS_URL": "redis://r", setting: url})
    (problem,) = refusal.value.problems
    assert problem.startswith(f"{setting}: ")
    assert REFUSED[url] in problem
    assert not {"hunter2", "canary"} & set(problem.replace("=", " ").split())
    assert SECRET not in problem


def test_the_same_database_is_recognised_in_any_spelling() -> None:
    socket = server_url("unix://:pw@/run/s.sock?db=0")
    assert socket == server_url("redis+socket://:pw@/run/s.sock")
    assert socket.is_database_of(server_url("unix://other:x@/run/s.sock"))
    assert not socket.is_database_of(server_url("unix://:pw@/run/s.sock?db=1"))
    assert server_url("redis://R/").is_database_of(server_url("redis://u:x@r:6379/0"))


def test_a_server_shown_shows_no_login() -> None:
    server = server_url(f"rediss://user0:{SECRET}@r?ssl_password={SECRET}x&client_name=me")
    for shown in (repr(server), str(server), f"{server}", server.place):
        assert SECRET not in shown
        assert "user0" not in shown


# --- Sentinel ---------------------------------------------------------------------------------------------------------


def test_sentinels_mean_the_same_to_records_celery_and_flower() -> None:
    server = server_url(
        "redis+sentinel://user:p%40w@one,two:7000,[::1]:7001/3?master=ours&sentinel_password=s%20w&socket_timeout=5"
    )
    assert server.sentinels == (("one", 26379), ("two", 7000), ("::1", 7001))
    with client_of(server) as client:
        pool: Any = client.connection_pool
        assert (pool.service_name, len(pool.sentinel_manager.sentinels)) == ("ours", 3)
        told = pool.connection_kwargs
        assert (told["username"], told["password"], told["db"], told["socket_timeout"]) == ("user", "p@w", 3, 5.0)
        for sentinel in pool.sentinel_manager.sentinels:
            asked = sentinel.connection_pool.connection_kwargs
            assert (asked["username"], asked["password"]) == (None, "s w")
    celery = server.celery_settings()
    assert celery["broker_url"].split(";") == [
        "sentinel://user:p%40w@one:26379/3",
        "sentinel://user:p%40w@two:7000/3",
        "sentinel://user:p%40w@[::1]:7001/3",
    ]
    options = celery["broker_transport_options"]
    assert (options["master_name"], options["socket_timeout"]) == ("ours", 5.0)
    assert options["sentinel_kwargs"]["password"] == "s w"


def test_with_tls_the_sentinels_are_verified_as_the_servers_are() -> None:
    server = server_url("rediss+sentinel://one,two/0?master=ours")
    with client_of(server) as client:
        pool: Any = client.connection_pool
        assert issubclass(pool.connection_class, redis.sentinel.SentinelManagedSSLConnection)
        for told in (
            pool.connection_kwargs,
            *(sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels),
        ):
            assert told["ssl_cert_reqs"] == ssl.CERT_REQUIRED
            assert told["ssl_check_hostname"]
    assert server.celery_settings()["broker_use_ssl"]["ssl_cert_reqs"] == ssl.CERT_REQUIRED
    assert server.is_verified


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis+sentinel://one,two/0", "say which master"),
        ("redis+sentinel://one,/0?master=ours", "write the sentinels as host:port"),
        ("redis+sentinel://one:99999/0?master=ours", "write the sentinels as host:port"),
        ("redis+sentinel://one,two/zero?master=ours", "database number"),
        ("redis+sentinel://one/0?master=ours&ssl_cert_reqs=none", "rediss"),
        ("redis://one/0?master=ours", "is for Sentinel"),
        ("redis://one,two/0", "only sentinels may be several"),
        ("sentinel://one,two/0?master=ours", "redis+sentinel://host"),
    ],
)
def test_sentinels_written_wrong_are_told_how_to_write_them(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        server_url(url)


def test_what_a_url_of_sentinels_shows_holds_no_password() -> None:
    server = server_url(f"redis+sentinel://u:{SECRET}@one,two/0?master=ours&sentinel_password={SECRET}x")
    assert SECRET not in f"{server} {server!r}"
    assert server.place == "ours (Sentinel at one:26379, two:26379)"
    assert server.is_database_of(server_url("redis+sentinel://one,two/0?master=ours"))


@pytest.mark.long
def test_sentinels_that_are_away_or_name_a_replica_are_waited_for() -> None:
    server = server_url(f"redis+sentinel://:{SECRET}@127.0.0.1:1/0?master=ours")
    trouble = look_at(server, "OCC_REDIS_URL").trouble
    assert trouble is not None
    assert not trouble.lasting
    assert "no sentinel names a master" in trouble.sentence
    assert SECRET not in trouble.sentence
    assert not replica(server, "OCC_REDIS_URL").lasting
