"""What the answer of a receiver means, and which receivers are called at all."""

import socket
from ipaddress import ip_network
from pathlib import Path

import pytest

from integrations.deliveries.receiver import Receiver, Verdict, receiver_of, verdict_of
from integrations.egress.addresses import DevStore
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.errors import SettingsError
from integrations.observer import CallOutcome
from integrations.sealing.keyring import SealingKey
from integrations.sealing.signing import SigningSecret
from integrations.settings import load_settings
from tests.integrations.wire_servers import resolve_to
from tests.receiving import SECRET

OTHER = "whsec_" + "b" * 44
EVENT = '{"id": "m-1.1"}'


def test_only_a_success_is_one_and_only_a_4xx_is_about_the_event() -> None:
    found = {status: verdict_of(status) for status in range(100, 600)}
    assert {status for status, verdict in found.items() if verdict is Verdict.DELIVERED} == {*range(200, 300)}
    assert {status for status, verdict in found.items() if verdict is Verdict.REFUSED} < {*range(400, 500)}


def test_statuses_that_a_specification_speaks_of() -> None:
    assert {status: verdict_of(status).value for status in (204, 400, 409, 413, 422)} == {
        204: "delivered",
        400: "refused",
        409: "refused",
        413: "refused",
        422: "refused",
    }
    for status in (302, 401, 403, 404, 408, 410, 429, 500, 502, 503, 504):
        assert verdict_of(status) is Verdict.AWAY


def answer_of(session: GuardedSession, url: str) -> tuple[Verdict, CallOutcome, str]:
    receiver = Receiver(session, url, [SigningSecret.parse(SECRET)])
    answered = receiver.deliver("m-1.1", EVENT, 1_800_000_000, Deadline.after(5))
    return answered.verdict, answered.outcome, answered.reason


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "fd00::1", "100.64.0.1"])
def test_an_address_that_is_not_public_is_not_dialled(address: str) -> None:
    session = GuardedSession(resolve=resolve_to(address))
    verdict, outcome, reason = answer_of(session, "https://crm.example.com/events")
    assert (verdict, outcome) == (Verdict.AWAY, CallOutcome.BLOCKED)
    assert address not in reason
    session.close()


@pytest.mark.server
def test_a_receiver_that_nobody_runs_is_told_of_and_nothing_is_raised() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        session = GuardedSession(dev_stores=(DevStore(ip_network("127.0.0.0/8"), None),))
        told = answer_of(session, f"http://127.0.0.1:{taken.getsockname()[1]}/")
        session.close()
    assert told == (Verdict.AWAY, CallOutcome.UNREACHABLE, "unreachable: connection refused")


ENVIRONMENT = {
    "OCC_REDIS_URL": "redis://records:6379/0",
    "OCC_SEALING_KEYS": SealingKey.generate().export(),
    "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"URL": "https://crm.example.com"}, "SECRETS: required with OCC_RECEIVER_URL"),
        ({"URL": "http://crm.example.com", "SECRETS": SECRET}, "URL: write a URL that starts with https://, as"),
        ({"URL": "https://u:p@crm.example.com", "SECRETS": SECRET}, "URL: write a URL"),
        ({"URL": "https://crm.example.com/a b", "SECRETS": SECRET}, "URL: write a URL"),
        ({"URL": "https://crm.example.com/#a", "SECRETS": SECRET}, "URL: write a URL"),
        ({"URL": "https://crm.example.com:8443", "SECRETS": SECRET}, "URL: its port is 443"),
        ({"URL": "https://crm.example.com:99999", "SECRETS": SECRET}, "URL: its port is 443"),
        ({"SECRETS": f"{SECRET} whsec_short"}, "SECRETS: entry 2: write whsec_"),
        ({"NETWORKS": "10.0.0.1/8"}, "NETWORKS: entry 1: write a network"),
        ({"NETWORKS": "10.0.0.0/8, 8.8.8.0/24"}, "NETWORKS: entry 2: a loopback or private network"),
        ({"NETWORKS": "169.254.0.0/16"}, "NETWORKS: entry 1: a loopback or private network"),
    ],
)
def test_a_receiver_that_could_not_be_used_is_refused(changes: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({**ENVIRONMENT, **{f"OCC_RECEIVER_{name}": value for name, value in changes.items()}})
    (told,) = refused.value.problems
    assert told.startswith(f"OCC_RECEIVER_{problem}")
    assert "short" not in told
    assert "u:p" not in told


def test_secrets_come_from_a_file_too_and_are_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(f"{SECRET}\n{OTHER}\n")
    url = "https://CRM.example.com/Events?token=t0ken"
    settings = load_settings(
        {**ENVIRONMENT, "OCC_RECEIVER_URL": url, "OCC_RECEIVER_SECRETS_FILE": str(tmp_path / "secrets")}
    )
    assert settings.receiver_url == "https://crm.example.com/Events?token=t0ken"
    assert settings.receiver_secrets == (SigningSecret.parse(SECRET), SigningSecret.parse(OTHER))
    assert "t0ken" not in repr(settings)
    assert "receiver_secrets" not in repr(settings)


def test_the_settings_say_whether_there_is_a_receiver_and_where_it_may_be() -> None:
    environment = dict(ENVIRONMENT)
    assert receiver_of(load_settings(environment)) is None
    environment |= {"OCC_RECEIVER_URL": "https://crm.example.com:8443/events", "OCC_RECEIVER_SECRETS": SECRET}
    receiver = receiver_of(load_settings({**environment, "OCC_RECEIVER_NETWORKS": "10.1.0.0/16"}))
    assert receiver is not None
    egress = receiver._session._egress
    assert egress._may_be_dialled("https", "10.1.2.3", 8443)
    assert not egress._may_be_dialled("https", "10.2.2.3", 8443)
    assert not egress._may_be_dialled("https", "10.1.2.3", 6379), "at the port of its URL only"


@pytest.mark.parametrize(("networks", "through_the_proxy"), [("", True), ("10.1.0.0/16", False)])
def test_a_receiver_in_a_network_of_ours_is_called_directly_whatever_leads_to_the_stores(
    networks: str, through_the_proxy: bool
) -> None:
    environment = {
        **ENVIRONMENT,
        "OCC_RECEIVER_URL": "https://crm.example.com/events",
        "OCC_RECEIVER_SECRETS": SECRET,
        "OCC_RECEIVER_NETWORKS": networks,
        "OCC_EGRESS_PROXY": "http://127.0.0.1:3128",
    }
    receiver = receiver_of(load_settings(environment))
    assert receiver is not None
    assert receiver._session._egress.proxied("https", "crm.example.com", 443) is through_the_proxy
