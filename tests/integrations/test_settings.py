import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport.redis import Channel

from integrations.errors import SettingsError
from integrations.sealing.keyring import SealingKey
from integrations.server.url import server_url
from integrations.setting_values import duration
from integrations.settings import (
    DevStore,
    EgressProxy,
    KeylessSettings,
    Settings,
    SlotSpec,
    load_keyless_settings,
    load_sealing_keys,
    load_settings,
)

KEY = SealingKey.generate()
CALLBACK = "https://hooks.example.com/occ/{merchant_id}/{slot}"
REQUIRED = {
    "OCC_REDIS_URL": "redis://:pw@records:6379/0",
    "OCC_SEALING_KEYS": KEY.export(),
    "OCC_CALLBACK_URL": CALLBACK,
}


def load(**changes: str) -> Settings:
    return load_settings({**REQUIRED, **changes})


def refusal_of(environ: dict[str, str]) -> SettingsError | None:
    try:
        load_settings(environ)
    except SettingsError as error:
        return error
    return None


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    refusal = refusal_of(environ)
    assert refusal is not None
    return refusal.problems


def the_problem_with(**changes: str) -> str:
    problems = problems_of({**REQUIRED, **changes})
    assert len(problems) == 1, problems
    return problems[0]


def test_three_settings_are_enough() -> None:
    settings = load()
    assert settings.redis_url == settings.broker_url == server_url("redis://:pw@records:6379/0")
    assert settings.sealing_keys == (KEY,)
    assert settings.callback_url == CALLBACK
    assert settings.slots == {name: SlotSpec(name) for name in settings.slots}
    assert list(settings.slots) == ["order-submit", "order-update", "shipment-create", "shipment-update"]
    assert (settings.connect_timeout, settings.call_deadline, settings.lease) == (5, 35, 60)
    assert (settings.retry_first, settings.retry_max, settings.retry_attempts) == (2, 600, 8)
    assert (settings.revalidate_every, settings.second_look, settings.recheck_degraded) == (86400, 300, 3600)
    assert settings.confirm_rejection == 300
    assert (settings.outage_share, settings.outage_merchants, settings.outage_window) == (0.3, 20, 300)
    assert (settings.allowed_hosts, settings.dev_stores) == ((), ())
    assert settings.data_dir == Path(".data")
    assert (settings.concurrency, settings.max_events, settings.timeline_length) == (64, 1_000_000, 200)
    assert (settings.webhook_body, settings.log_level, settings.log_format) == ("urls", "INFO", "auto")


def test_what_opens_no_key_needs_only_the_server() -> None:
    settings = load_keyless_settings({"OCC_REDIS_URL": REQUIRED["OCC_REDIS_URL"], "OCC_LEASE": "90"})
    assert settings.redis_url == settings.broker_url == server_url(REQUIRED["OCC_REDIS_URL"])
    assert settings.lease == 90
    everything = load(OCC_LEASE="90")
    assert {name: getattr(everything, name) for name in KeylessSettings.model_fields} == dict(settings)


def test_what_opens_no_key_does_not_look_at_the_secrets_of_others() -> None:
    others = {name for name in Settings.model_fields if name not in KeylessSettings.model_fields}
    receiver = {f"receiver_{name}" for name in ("url", "secrets", "networks", "patience")}
    assert others == {"sealing_keys", "callback_url", "former_callback_urls", "egress_proxy"} | receiver
    unreadable = {f"OCC_{name.upper()}_FILE": "/nowhere" for name in others}
    assert load_keyless_settings({"OCC_REDIS_URL": "redis://r", **unreadable}).redis_url.host == "r"


def test_what_opens_no_key_tells_of_what_is_wrong_with_the_rest() -> None:
    with pytest.raises(SettingsError) as refusal:
        load_keyless_settings({"OCC_LEASE": "1", "OCC_LAESE": "60"})
    assert [problem.split(":")[0] for problem in refusal.value.problems] == ["OCC_REDIS_URL", "OCC_LEASE", "OCC_LAESE"]


def test_every_problem_is_reported_at_once_and_names_its_variable() -> None:
    problems = problems_of(
        {
            "OCC_REDIS_URL": "http://records",
            "OCC_CALLBACK_URL": "hooks",
            "OCC_CALL_DEADLINE": "soon",
            "OCC_RETRY_ATTEMPTS": "0",
            "OCC_WEBHOOK_BODY": "both",
            "OCC_SECOND_LOOK": "2d",
            "OCC_LOG_LEVEL": "loud",
            "OCC_LAESE": "60",
        }
    )
    assert sorted(problem.split(":")[0] for problem in problems) == [
        "OCC_CALLBACK_URL",
        "OCC_CALL_DEADLINE",
        "OCC_LAESE",
        "OCC_LOG_LEVEL",
        "OCC_REDIS_URL",
        "OCC_RETRY_ATTEMPTS",
        "OCC_SEALING_KEYS",
        "OCC_SECOND_LOOK",
        "OCC_WEBHOOK_BODY",
    ]


def test_what_is_required_and_missing_is_asked_for() -> None:
    assert [problem.split(" ")[0:2] for problem in problems_of({})] == [
        [f"{name}:", problem] for name, problem in zip(REQUIRED, ("required,", "required;", "required,"), strict=True)
    ]


@pytest.mark.parametrize("name", [f"OCC_{field.upper()}" for field in Settings.model_fields])
def test_no_problem_repeats_what_was_given(name: str) -> None:
    canary = "hunter2canary"
    attempts = [
        canary,
        f"redis:{canary}",
        f"{canary}:1",
        f'{{"{canary} ": 1}}',
        f"https://a:{canary}@b/c",
        f"{canary}\n\x00",
    ]
    for value in attempts:
        error = refusal_of({**REQUIRED, name: value})
        assert canary not in f"{error} {error!r} {error and error.__context__!r}"


def test_settings_shown_hold_no_secret() -> None:
    settings = load(OCC_BROKER_URL="redis://:other@broker/1")
    for shown in (repr(settings), str(settings)):
        assert not [secret for secret in (KEY.export().split(":")[1], "pw", "other@") if secret in shown]


def test_settings_cannot_be_changed_nor_pickled_with_their_keys() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.lease = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.slots["other"] = SlotSpec("other")  # type: ignore[index]
    with pytest.raises(TypeError):
        pickle.dumps(settings)
    with pytest.raises(TypeError, match="reads its own settings"):
        pickle.dumps(settings.sealing_keys)


@pytest.mark.parametrize("name", ["OCC_REDIS_URL", "OCC_SEALING_KEYS", "OCC_LEASE", "OCC_SLOTS"])
def test_any_setting_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    values = {**REQUIRED, "OCC_LEASE": "90", "OCC_SLOTS": '{"order-submit": "x"}'}
    file = tmp_path / "value"
    file.write_text(f"{values[name]}\r\n", encoding="utf-8")
    from_file = {**values, f"{name}_FILE": str(file)}
    del from_file[name]
    assert load_settings(from_file) == load_settings(values)


def test_a_file_that_gives_nothing_is_a_problem_of_its_variable(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for file, reason in {
        "empty": "empty",
        "binary": "UTF-8",
        "absent": "cannot be read",
        ".": "cannot be read",
    }.items():
        problem = the_problem_with(OCC_LEASE_FILE=str(tmp_path / file))
        assert problem.startswith("OCC_LEASE_FILE: ")
        assert reason in problem
        assert str(tmp_path) not in problem


def test_a_setting_given_twice_is_a_problem_even_if_both_agree(tmp_path: Path) -> None:
    (tmp_path / "lease").write_text("60")
    assert "OCC_LEASE is given as well" in the_problem_with(OCC_LEASE="60", OCC_LEASE_FILE=str(tmp_path / "lease"))


def test_a_blank_variable_counts_as_not_given() -> None:
    assert load(OCC_LEASE="", OCC_SLOTS="  ", OCC_BROKER_URL="", OCC_REDIS_URL_FILE="") == load()


def test_a_mistyped_name_is_a_problem_with_a_suggestion() -> None:
    assert the_problem_with(OCC_DEV_STORE="127.0.0.0/8:1").endswith("did you mean OCC_DEV_STORES?")
    assert the_problem_with(OCC_REDIS_URL_FIEL="x").endswith("did you mean OCC_REDIS_URL_FILE?")
    assert the_problem_with(OCC_ZZZZZZZZZZ="x").endswith("remove it")


def test_what_kubernetes_says_about_a_service_of_ours_is_no_mistake() -> None:
    load(
        OCC_REDIS_SERVICE_HOST="10.0.0.1",
        OCC_REDIS_SERVICE_PORT="6379",
        OCC_REDIS_SERVICE_PORT_METRICS="1",
        OCC_REDIS_PORT="tcp://10.0.0.1:6379",
        OCC_REDIS_PORT_6379_TCP="tcp://10.0.0.1:6379",
        OCC_REDIS_PORT_6379_TCP_ADDR="10.0.0.1",
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("250ms", 0.25),
        ("90s", 90),
        ("5m", 300),
        ("1.5h", 5400),
        ("24h", 86400),
        ("30d", 2592000),
    ],
)
def test_durations_are_seconds_or_carry_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-5", "5x", "m", "1e9", "inf", "nan", "5 m m", "\u0665", "1_000", ".5", "5.", "0x1"]
)
def test_other_ways_to_write_a_duration_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a duration"):
        duration(text)


def test_a_duration_of_nothing_is_refused() -> None:
    assert the_problem_with(OCC_RETRY_FIRST="0") == "OCC_RETRY_FIRST: must be greater than 0"


@pytest.mark.parametrize(
    ("changes", "variable", "other"),
    [
        ({"OCC_LEASE": "39.9"}, "OCC_LEASE", "OCC_CALL_DEADLINE (35 s)"),
        ({"OCC_CALL_DEADLINE": "56"}, "OCC_LEASE", "OCC_CALL_DEADLINE (56 s)"),
        ({"OCC_CONNECT_TIMEOUT": "36"}, "OCC_CONNECT_TIMEOUT", "OCC_CALL_DEADLINE (35 s)"),
        ({"OCC_RETRY_FIRST": "11m"}, "OCC_RETRY_MAX", "OCC_RETRY_FIRST (660 s)"),
        ({"OCC_REVALIDATE_EVERY": "5m"}, "OCC_SECOND_LOOK", "OCC_REVALIDATE_EVERY (300 s)"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, str], variable: str, other: str) -> None:
    problem = the_problem_with(**changes)
    assert problem.startswith(f"{variable}: ")
    assert other in problem


def test_settings_that_just_agree_are_taken() -> None:
    load(OCC_LEASE="40", OCC_CONNECT_TIMEOUT="35", OCC_RETRY_FIRST="600", OCC_SECOND_LOOK="86399")


def test_a_contradiction_with_a_setting_that_cannot_be_read_is_not_guessed() -> None:
    assert the_problem_with(OCC_CALL_DEADLINE="x", OCC_LEASE="1").startswith("OCC_CALL_DEADLINE")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/{merchant_id}/{slot}",
        "https:///{merchant_id}/{slot}",
        "https://hooks.example.com/{merchant_id}",
        "https://hooks.example.com/{slot}",
        "https://hooks.example.com/{merchant_id}/{slot}/{other}",
        "https://hooks.example.com/{merchant_id}/{slot}/{}",
        "https://hooks.example.com/{merchant_id}/{slot}}",
        "https://{merchant_id}.example.com/{slot}",
        "https://{merchant_id}.example.com/{merchant_id}/{slot}",
        "https://user:pw@hooks.example.com/{merchant_id}/{slot}",
        "https://hooks.example.com/{merchant_id}/{slot}#part",
        "https://hooks.example.com/{merchant_id}/ {slot}",
        "https://hooks.example.com:99999/{merchant_id}/{slot}",
        "//hooks.example.com/{merchant_id}/{slot}",
    ],
)
def test_a_callback_url_that_could_not_be_used_is_refused(url: str) -> None:
    assert the_problem_with(OCC_CALLBACK_URL=url).startswith("OCC_CALLBACK_URL: ")


def test_callback_urls_of_before_are_templates_too_and_none_is_that_of_today() -> None:
    before = "https://a.example.com/{merchant_id}/{slot}", "https://b.example.com/?m={merchant_id}&s={slot}"
    assert load(OCC_FORMER_CALLBACK_URLS=f" {before[0]}\n{before[1]} ").former_callback_urls == before
    assert load().former_callback_urls == ()
    assert the_problem_with(OCC_FORMER_CALLBACK_URLS=f"{before[0]} https://oms.example.com/in").startswith(
        "OCC_FORMER_CALLBACK_URLS: entry 2: its path or query names {merchant_id} and {slot}"
    )
    assert "taken out of every slot" in the_problem_with(OCC_FORMER_CALLBACK_URLS=CALLBACK)


def test_a_callback_url_may_name_its_parts_in_the_query() -> None:
    load(OCC_CALLBACK_URL="https://hooks.example.com:8443/occ?m={merchant_id}&s={slot}")


def test_a_callback_url_without_tls_is_for_developers_only() -> None:
    plain = "http://127.0.0.1:8800/{merchant_id}/{slot}"
    assert load(OCC_CALLBACK_URL=plain, OCC_DEV_STORES="127.0.0.0/8:8800").callback_url == plain
    # The unreadable dev stores are the only problem: whether http is fine depends on them.
    assert the_problem_with(OCC_CALLBACK_URL=plain, OCC_DEV_STORES="x").startswith("OCC_DEV_STORES")


def test_dev_stores_cover_their_network_and_port() -> None:
    here, any_port, six = load(OCC_DEV_STORES="127.0.0.0/8:8800, 10.1.2.3:*,[::1]:8443").dev_stores
    assert here.covers("127.8.8.8", 8800)
    assert not here.covers("127.8.8.8", 8801)
    assert not here.covers("128.0.0.1", 8800)
    assert any_port.covers("10.1.2.3", 1)
    assert not any_port.covers("10.1.2.4", 1)
    assert six.covers("::1", 8443)
    for odd in ("::ffff:127.0.0.1", "localhost", "127.1", "2130706433", "0177.0.0.1", "::1%lo", ""):
        assert not any(store.covers(odd, 8800) for store in (here, any_port, six)), odd


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.0/8",
        "127.0.0.1/8:80",
        "127.0.0.0/8:0",
        "127.0.0.0/8:65536",
        "127.0.0.0/8:http",
        "127.0.0.0/8:",
        "localhost:80",
        "::1:80",
        "[127.0.0.1:80",
        "0.0.0.0/0:*",
        "8.8.8.8:443",
        "169.254.0.0/16:80",
        "[fe80::]/64:80",
        "[::]/0:80",
        "[2001:db8::]:80",
        "10.0.0.0/7:80",
        "127.0.0.0/8:80,127.0.0.0/8",
    ],
)
def test_dev_stores_are_never_on_public_or_link_local_networks_and_always_have_a_port(text: str) -> None:
    assert the_problem_with(OCC_DEV_STORES=text).startswith("OCC_DEV_STORES: entry ")


def test_slots_may_have_other_ids_in_the_store_and_be_optional() -> None:
    settings = load(OCC_SLOTS='{"order-submit": "production-submitOrder", "returns": {"id": "r.1", "required": false}}')
    assert settings.slots == {
        "order-submit": SlotSpec("production-submitOrder", required=True),
        "returns": SlotSpec("r.1", required=False),
    }


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '"order-submit"',
        "order-submit",
        '{"order-submit": null}',
        '{"order-submit": ""}',
        '{"order-submit": "a/b"}',
        '{"order-submit": ".."}',
        '{"order-submit": "a b"}',
        '{"Order": "x"}',
        '{"a_b": "x"}',
        '{"": "x"}',
        '{"a": {"required": true}}',
        '{"a": {"id": "x", "required": 1}}',
        '{"a": {"id": "x", "require": true}}',
        '{"a": "x", "a": "y"}',
        '{"a": "x", "b": "x"}',
        "[" * 100_000,
    ],
)
def test_slots_that_could_not_be_registered_are_refused(text: str) -> None:
    assert the_problem_with(OCC_SLOTS=text).startswith("OCC_SLOTS: ")


@pytest.mark.parametrize(
    "path", ["ccadmin", "/", "//evil.example/x", "/a/../b", "/a?b", "/a#b", "/a b", "https://x/y", "/a\\b"]
)
def test_a_shipping_methods_path_is_a_plain_path(path: str) -> None:
    assert the_problem_with(OCC_SHIPPING_METHODS_PATH=path).startswith("OCC_SHIPPING_METHODS_PATH: ")


def test_host_patterns_are_lower_case_names() -> None:
    patterns = load(OCC_ALLOWED_HOSTS="ccadmin-*.OracleOutsourcing.com, admin.shop.example").allowed_hosts
    assert patterns == ("ccadmin-*.oracleoutsourcing.com", "admin.shop.example")


@pytest.mark.parametrize(
    "pattern", ["*", "*.*", "shop.*", "https://a.example", "a.example:443", "a.example/x", "com", "a..b", "1.2.3.4"]
)
def test_a_host_pattern_that_allows_too_much_or_is_no_host_is_refused(pattern: str) -> None:
    assert the_problem_with(OCC_ALLOWED_HOSTS=pattern).startswith("OCC_ALLOWED_HOSTS: entry 1")


@pytest.mark.parametrize(
    "url",
    ["records", "redis://", "http://records", "redis://records:x/0", "redis://records/zero", "redis://pa/ss@records/0",
     "unix://relative/path", "unix://", "unix:/path"],
)  # fmt: skip
def test_a_redis_url_that_could_not_be_used_is_refused(url: str) -> None:
    assert the_problem_with(OCC_REDIS_URL=url, OCC_BROKER_URL="redis://broker").startswith("OCC_REDIS_URL: ")


@pytest.mark.parametrize(
    ("redis_url", "user", "password", "database"),
    [
        ("unix:///run/occ/server.sock", None, None, None),
        ("unix://:p%40w@/run/occ/server.sock", None, "p@w", None),
        ("unix://occ:pw@/run/occ/server.sock?db=3", "occ", "pw", "3"),
        ("unix:///run/occ/server.sock?password=p@%2Fw", None, "p@/w", None),
    ],
)
def test_a_socket_of_the_records_is_told_to_the_broker_in_its_own_words(
    redis_url: str, user: str | None, password: str | None, database: str | None
) -> None:
    broker_url = load(OCC_REDIS_URL=redis_url).broker_url.celery_settings()["broker_url"]
    channel: Any = Channel.__new__(Channel)  # without dialling
    channel.connection = SimpleNamespace(client=Connection(broker_url), default_port=6379)
    told = channel._connparams()
    assert (told["path"], told["username"] or None, told["password"] or None) == (
        "/run/occ/server.sock",
        user,
        password,
    )
    assert told["db"] == int(database or 0)


def test_a_broker_of_its_own_is_used_as_given() -> None:
    assert load(OCC_BROKER_URL="rediss://broker:6380/1").broker_url == server_url("rediss://broker:6380/1")
    assert the_problem_with(OCC_BROKER_URL="broker").startswith("OCC_BROKER_URL: ")


def test_several_sealing_keys_keep_their_order_however_they_are_separated() -> None:
    older = SealingKey.generate()
    for separator in (",", ", ", "\n", "\r\n", ",\n"):
        assert load(OCC_SEALING_KEYS=f"{KEY.export()}{separator}{older.export()}\n").sealing_keys == (KEY, older)


def test_a_broken_or_repeated_sealing_key_is_named_by_its_place() -> None:
    assert "entry 2: " in the_problem_with(OCC_SEALING_KEYS=f"{KEY.export()},k2:short")
    assert "entry 2 has the key id" in the_problem_with(OCC_SEALING_KEYS=f"{KEY.export()},{KEY.export()}")


def test_an_authority_file_must_exist(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    assert load(OCC_CA_BUNDLE=str(tmp_path / "ca.pem")).ca_bundle == str(tmp_path / "ca.pem")
    assert the_problem_with(OCC_CA_BUNDLE=str(tmp_path / "none.pem")).startswith("OCC_CA_BUNDLE: there is no such file")


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy:3128", EgressProxy("proxy", 3128)),
        ("http://Proxy.Example.com:8080/", EgressProxy("proxy.example.com", 8080)),
        ("http://10.1.2.3:1", EgressProxy("10.1.2.3", 1)),
        ("http://[fd00::1]:65535", EgressProxy("fd00::1", 65535)),
        ("http://occ:hunter2@proxy:3128", EgressProxy("proxy", 3128, "occ:hunter2")),
        ("http://o%40c:p%3A%2F%25%C3%A4+:@proxy:3128", EgressProxy("proxy", 3128, "o@c:p:/%\u00e4+:")),
    ],
)
def test_a_proxy_has_a_host_a_port_and_perhaps_a_login(tmp_path: Path, text: str, proxy: EgressProxy) -> None:
    assert load().egress_proxy is None
    assert load(OCC_EGRESS_PROXY=text).egress_proxy == proxy
    (tmp_path / "proxy").write_text(f"{text}\n")
    assert load(OCC_EGRESS_PROXY_FILE=str(tmp_path / "proxy")).egress_proxy == proxy


@pytest.mark.parametrize(
    "text",
    [
        "proxy:3128",
        "//proxy:3128",
        "https://hunter2:hunter2@proxy:3128",
        "socks5://hunter2:hunter2@proxy:1080",
        "http://hunter2:hunter2@proxy",
        "http://hunter2@proxy:3128",
        "http://:hunter2@proxy:3128",
        "http://hunter2:hun/ter2@proxy:3128",
        "http://hunter2:hun@ter2@proxy:3128",
        "http://hunter2:hun ter2@proxy:3128",
        "http://hunter2:hun%ter2@proxy:3128",
        "http://hunter2:%ff@proxy:3128",
        "http://hun%3Ater2:hunter2@proxy:3128",
        "http://hunter2:hunter2@proxy:65536",
        "http://hunter2:hunter2@proxy:0",
        "http://hunter2:hunter2@proxy:3128/path",
        "http://hunter2:hunter2@proxy:3128?hunter2",
        "http://hunter2:hunter2@[::1:3128",
        "http://hunter2:hunter2@[1:2]:3128",
        "http://hunter2:hunter2@::1:3128",
        "http://hunter2:hunter2@pro\u0131y:3128",
    ],
)
def test_a_proxy_that_could_not_be_used_is_refused_and_not_repeated(text: str) -> None:
    problem = the_problem_with(OCC_EGRESS_PROXY=text)
    assert problem.startswith("OCC_EGRESS_PROXY: ")
    assert "hun" not in problem


def test_a_proxy_shown_has_no_login() -> None:
    settings = load(OCC_EGRESS_PROXY="http://occ:hunter2@proxy:3128")
    assert settings.egress_proxy is not None
    for shown in (repr(settings), str(settings), repr(settings.egress_proxy), settings.egress_proxy.url):
        assert "hunter2" not in shown
    assert "proxy:3128" not in repr(settings)


def test_sealing_needs_no_setting_but_the_keys(tmp_path: Path) -> None:
    assert load_sealing_keys({"OCC_SEALING_KEYS": KEY.export(), "OCC_LEASE": "x"}) == (KEY,)
    (tmp_path / "keys").write_text(KEY.export() + "\n")
    assert load_sealing_keys({"OCC_SEALING_KEYS_FILE": str(tmp_path / "keys")}) == (KEY,)
    for environ, problem in (
        ({}, "OCC_SEALING_KEYS: required"),
        ({"OCC_SEALING_KEYS": "x:y"}, "OCC_SEALING_KEYS: entry 1"),
        ({"OCC_SEALING_KEYS_FILE": str(tmp_path / "none")}, "OCC_SEALING_KEYS_FILE: the file it names cannot be read"),
    ):
        with pytest.raises(SettingsError) as refused:
            load_sealing_keys(environ)
        assert [text.startswith(problem) for text in refused.value.problems] == [True]


@settings(deadline=None)
@example("data_dir", "~0")
@given(st.sampled_from(list(Settings.model_fields)), st.text(st.characters(exclude_categories=["Cs"])))
def test_no_value_makes_loading_fail_with_anything_but_a_settings_error(field: str, value: str) -> None:
    refusal = refusal_of({**REQUIRED, f"OCC_{field.upper()}": value})
    assert refusal is None or all(problem.startswith("OCC_") for problem in refusal.problems)


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(1, 65535))
def test_a_dev_store_that_is_accepted_covers_itself(address: object, port: int) -> None:
    text = f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
    try:
        (store,) = load(OCC_DEV_STORES=text).dev_stores
    except SettingsError:
        return
    assert isinstance(store, DevStore)
    assert store.covers(str(address), port)
    assert not store.covers(str(address), port % 65535 + 1)


@pytest.mark.parametrize(("text", "share"), [("0", 0), ("0.25", 0.25), ("1", 1), ("30%", 0.3), (" 7.5 % ", 0.075)])
def test_a_share_is_written_as_a_part_or_in_percent(text: str, share: float) -> None:
    assert load(OCC_OUTAGE_SHARE=text).outage_share == share


@pytest.mark.parametrize("text", ["1.5", "101%", "-0.1", "a third", ".5.", "1e-1", "nan", "\u0660"])
def test_what_is_no_share_is_refused(text: str) -> None:
    assert "OCC_OUTAGE_SHARE" in the_problem_with(OCC_OUTAGE_SHARE=text)


def test_the_home_of_nobody_is_no_folder() -> None:
    assert the_problem_with(OCC_DATA_DIR="~nobody-of-that-name/data") == (
        "OCC_DATA_DIR: nobody's home is known under that name; write the path without ~"
    )


def test_the_source_of_events_is_a_name_or_a_url() -> None:
    assert load().event_source == "occ-connect"
    for source in ("occ-connect/staging", "https://staging.example.com/occ"):
        assert load(OCC_EVENT_SOURCE=source).event_source == source
    for source in ("two words", "/", "x" * 201, "a?b"):
        assert the_problem_with(OCC_EVENT_SOURCE=source).startswith("OCC_EVENT_SOURCE: write a short name")
