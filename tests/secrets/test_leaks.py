"""No secret is found in any place, after everything that can go wrong has gone wrong; a leak in each place would be.

Application keys and access tokens are searched for in many spellings, and with them what opens them: the private
sealing key, the server's password, Flower's; also the secret that signs deliveries. Logs are at DEBUG, and every
command counts as slow.
"""

import base64
import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis

from integrations.connections.known_request import KnownRequest
from integrations.errors import RequestRefused
from occ.local.commands import worker_command
from occ.simulator.store import SimulatedStore
from tasks import queues
from tasks.queues import QUEUES
from tests.pipeline import REPOSITORY, Pipeline, ended
from tests.receiving import SECRET as RECEIVER_SECRET
from tests.receiving import ReceiverServer
from tests.secrets import places
from tests.secrets.canaries import KEY, TOKEN, Search
from tests.secrets.crashing_app import CRASHES
from tests.secrets.stores import add, echoing_stores, faulty_stores
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

WITHIN = 240.0
ALL_QUEUES = sorted({value for value in vars(queues).values() if isinstance(value, str) and value.startswith("occ")})


@dataclass
class Suite:
    """A pipeline in which everything has happened, and what was seen of it in each place."""

    pipeline: Pipeline
    tap: places.Wiretap
    flower: places.Flower
    stores: list[SimulatedStore] = field(default_factory=list)
    seen: dict[str, bytes] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)
    tokens_issued: int = 0

    @property
    def client(self) -> redis.Redis:
        """Answers are bytes."""
        return redis.Redis.from_url(self.pipeline.server.url)

    @property
    def merchants(self) -> list[str]:
        """All of them."""
        return [store.name for store in self.stores]

    def look(self, place: str) -> bytes:
        """What there is now in one place."""
        return PLACES[place](self)


def _dump(suite: Suite) -> bytes:
    with suite.client as client:
        return places.server_dump(client)


def _slow_log(suite: Suite) -> bytes:
    with suite.client as client:
        return places.slow_log(client)


PLACES: dict[str, Callable[[Suite], bytes]] = {
    "server": _dump,
    "slow log": _slow_log,
    "append-only file": lambda suite: places.files(suite.pipeline.folder / "server" / "appendonlydir"),
    "what clients say": lambda suite: suite.tap.everything(),
    "messages": lambda suite: places.messages(suite.pipeline),
    "Flower": lambda suite: suite.flower.everything(),
    "inspect": lambda suite: places.inspected(suite.pipeline),
    "logs": lambda suite: places.logs(suite.pipeline),
    "events and timelines": lambda suite: places.history(suite.pipeline, suite.merchants),
    "occ": lambda suite: places.printed_by_occ(suite.pipeline, suite.merchants),
    "ps": lambda _: places.command_lines(),
    "celery report": lambda suite: places.celery_report(suite.pipeline),
    # The password lies there in a file for its owner alone: test_the_files_that_hold_a_secret_are_private.
    "data folder": lambda suite: places.files(suite.pipeline.folder, but=["password"]),
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    settings = {
        "OCC_CALL_DEADLINE": "4",
        "OCC_LEASE": "12",
        "OCC_RETRY_ATTEMPTS": "4",
        "OCC_RETRY_FIRST": "0.2",
        "OCC_LOG_LEVEL": "DEBUG",
    }
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(ReceiverServer(clock=time.time, answer=moody))
        settings |= {
            "OCC_RECEIVER_URL": receiver.url,
            "OCC_RECEIVER_SECRETS": RECEIVER_SECRET,
            "OCC_RECEIVER_NETWORKS": "127.0.0.0/8",
        }
        pipeline = stack.enter_context(Pipeline(tmp_path_factory.mktemp("leaks"), settings=settings))
        for name, value in (("slowlog-log-slower-than", 0), ("slowlog-max-len", 1_000_000), ("rdbcompression", "no")):
            pipeline.redis.config_set(name, value)
        tap = places.Wiretap(pipeline.server.url)
        stack.callback(tap.close)
        for number, pool in enumerate(("threads", "prefork"), 1):
            start_crashing_worker(pipeline, f"worker-{number}", pool, "--concurrency=12")
        pipeline.start_beat()
        pipeline.await_workers()
        suite = Suite(pipeline, tap, places.Flower(pipeline))
        watch = places.Watch(pipeline)
        connect_all(suite)
        watch.stop()
        with suite.client as client:
            suite.keys += client.scan_iter(count=1000)
        at_work = [place for place in PLACES if place in {"inspect", "ps"}]
        for place in at_work:
            suite.seen[place] = suite.look(place)
        end_what_never_ends(pipeline)
        for place in [place for place in PLACES if place not in at_work]:
            suite.seen[place] = suite.look(place)
        for place, seen in watch.seen.items():
            suite.seen[place] += bytes(seen)
        tap.forget()
        pipeline.redis.slowlog_reset()
        yield suite


def end_what_never_ends(pipeline: Pipeline) -> None:
    """Everything has happened: what crashes again and again would only keep the other tests waiting."""
    for name in [name for name in pipeline.processes if name != "flower"]:
        pipeline.kill(name, signal.SIGTERM)


def moody(event: dict[str, Any]) -> int:
    """A receiver that fails, refuses and takes."""
    return {"onboarding": 204, "active": 503, "degraded": 400}.get(event["type"].rpartition(".")[2], 204)


def start_crashing_worker(pipeline: Pipeline, name: str, pool: str, *options: str) -> None:
    app = {"tasks": "tests.secrets.crashing_app", ",".join(QUEUES): ",".join(ALL_QUEUES)}
    pipeline._start(name, [*(app.get(part, part) for part in worker_command(name)), *options], {"OCC_POOL": pool})


def connect_all(suite: Suite) -> None:
    """Every fault, every echo, every crash; the two doors take turns, and the command line has one for itself."""
    pipeline = suite.pipeline
    suite.stores += faulty_stores(pipeline.simulator)
    suite.stores += echoing_stores(pipeline.simulator)
    suite.stores += [
        add(pipeline.simulator, f"crash-{kind}-{name}") for kind in ("key", "token", "task") for name in CRASHES
    ]
    by_hand = add(pipeline.simulator, "by-hand")
    for number, store in enumerate(suite.stores):
        (pipeline.send if number % 2 else pipeline.post)(pipeline.request(store))
    suite.stores.append(by_hand)
    command = [sys.executable, "-m", "occ.cli", "connect", by_hand.name, "--store-url", by_hand.url]
    told = subprocess.run(
        [*command, "--application-key-file", "-", "--wait", "--timeout", "60", "--json"],
        input=by_hand.application_key.encode(),
        env=pipeline.environment,
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
        timeout=120,
    )
    (pipeline.folder / "by-hand.log").write_bytes(told.stdout + told.stderr)
    # A task that fails before it has claimed its work is started again and again, by the tick: its run has no end.
    left = {store.name for store in suite.stores if not store.name.startswith("crash-task")}

    def all_ended() -> bool:
        for merchant_id in sorted(left):
            connection = pipeline.connection(merchant_id)
            if connection is not None and ended(connection, 1):
                left.discard(merchant_id)
        return not left

    wait_until(all_ended, within=WITHIN, what="all runs to end")
    suite.tokens_issued = sum(int(str(store.summary()["tokens_issued"])) for store in suite.stores)


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_in(suite: Suite, place: str) -> None:
    password = suite.pipeline.server.address.password
    private_key = suite.pipeline.key.export().partition(":")[2]
    shared = base64.b64decode(RECEIVER_SECRET.partition("_")[2]).decode()
    search = Search([KEY, TOKEN, password, private_key, places.FLOWER_LOGIN[1], shared])
    assert len(suite.seen[place]) > 1000, "there was something to search"
    assert search.hits(suite.seen[place]) == []


def test_everything_has_happened(suite: Suite) -> None:
    statuses = {suite.pipeline.status(store.name)["status"] for store in suite.stores}
    assert statuses >= {"active", "degraded", "needs_reauthorisation", "unreachable"}
    assert suite.tokens_issued > len(suite.stores) / 3
    assert len(suite.stores) > 150
    told = suite.seen["logs"].decode(errors="replace")
    for line in (
        "attempt_crashed",
        "task_failed",
        "uncaught_exception",
        "unraisable_exception",
        "Traceback",
        "dev_stores_are_called",
        "receiver_fails",
    ):
        assert line.lower() in told.lower(), line
    assert (suite.pipeline.folder / "killed-once").exists(), "a worker process was killed with a key in its hands"
    assert b"sealed.v1." in suite.seen["server"]


def test_flower_asks_for_a_login(suite: Suite) -> None:
    for path in ("/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers"):
        assert suite.flower.get(path, login=None).status_code == 401, path
        assert suite.flower.get(path, login=("operator", "guess")).status_code == 401, path
    assert "--address=127.0.0.1" in " ".join(suite.pipeline.processes["flower"].args)  # type: ignore[arg-type]


def test_the_files_that_hold_a_secret_are_private(suite: Suite) -> None:
    password = suite.pipeline.server.address.password.encode()
    holders = [
        path
        for path in suite.pipeline.folder.rglob("*")
        if path.is_file() and password in path.read_bytes() and path.name != "MONITOR"
    ]
    assert [path.name for path in holders] == ["password"]
    for path in holders:
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0


def test_the_server_holds_what_the_documentation_says_and_nothing_else(suite: Suite) -> None:
    text = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    known = {merchant_id.encode() for merchant_id in suite.merchants}
    with suite.client as client:
        fields = {field for name in known for field in client.hkeys(b"occ:connection:" + name)}
    assert {kind_of(key.decode()) for key in suite.keys} <= documented
    allowed = {"version", "record", "sealed_key", "sealed_candidate", "change", "asked_again", "heard"}
    assert {field.decode() for field in fields} <= allowed


PREFIXES = (
    *("occ:connection:", "occ:timeline:", "occ:token:", "occ:outcomes:", "_kombu.binding"),
    *("occ:deliveries:", "occ:delivering:", "occ:stores:", "occ:writer:", "occ:status:", "occ:keys:"),
)


def kind_of(key: str) -> str:
    """The key without what differs from merchant to merchant and from process to process."""
    for prefix in PREFIXES:
        if key.startswith(prefix):
            return f"{prefix}*"
    return re.sub(r"^celery@.*|^worker.*@.*|.*\.celery\.pidbox$|^celeryev\..*", "*.celery.pidbox", key)


# --- The suite would find one ---------------------------------------------------------------------------------------

Plant = Callable[[Suite, str], object]


def _command(suite: Suite, *command: str) -> None:
    with suite.client as client:
        client.execute_command(*command)


def _written_and_deleted(suite: Suite, leak: str) -> None:
    _command(suite, "SET", "planted", leak)
    _command(suite, "DEL", "planted")


def _as_event(suite: Suite, leak: str) -> None:
    with suite.pipeline.producer.events.default_dispatcher(hostname="planted@here") as dispatcher:
        dispatcher.send("task-received", uuid=leak[:8], name="planted", args="()", kwargs=leak)
    wait_until(lambda: leak in str(suite.flower.tasks()), what="Flower to see the event")


def _with_a_leaking_worker(suite: Suite, leak: str) -> None:
    """A worker whose arguments, settings and log leak."""
    name = f"leaking-{leak}"
    celery = [sys.executable, "-m", "celery", "-A", "tests.secrets.leaking_app", "worker", "--loglevel=DEBUG"]
    pipeline = suite.pipeline
    broker = {"LEAK": leak, "OCC_BROKER_URL": pipeline.server.broker_url}
    pipeline._start(name, [*celery, "--hostname", f"{leak}@%h", "--queues", name], broker)
    wait_until(lambda: b"ready" in pipeline.output(name), what="the leaking worker")
    pipeline.producer.send_task("leaking.leak", args=[leak, 0.1], queue=name)
    wait_until(lambda: b"Traceback" in pipeline.output(name), what="its traceback")


def report_of_the_leaking(suite: Suite, leak: str) -> bytes:
    """The report of an app with a setting that leaks; its settings cannot be changed from outside."""
    return places.celery_report(suite.pipeline, "tests.secrets.leaking_app", LEAK=leak)


def _as_refusal(suite: Suite, leak: str) -> None:
    refused = KnownRequest("connect", "celery").refused(RequestRefused("x", "planted", leak))
    suite.pipeline.records.note_refusal(refused)


PLANTS: dict[str, Plant] = {
    "server": lambda suite, leak: _command(suite, "XADD", "planted-stream", "*", "x", leak),
    "slow log": lambda suite, leak: _command(suite, "GET", leak),
    "append-only file": _written_and_deleted,
    "what clients say": lambda suite, leak: _command(suite, "PUBLISH", "planted", leak),
    "messages": lambda suite, leak: suite.pipeline.producer.send_task("planted", args=[leak], queue="planted"),
    "Flower": _as_event,
    "inspect, logs, ps": _with_a_leaking_worker,
    "events and timelines": lambda suite, leak: _command(suite, "XADD", "occ:events", "*", "event", f'"{leak}"'),
    "occ": _as_refusal,
    "celery report": lambda suite, leak: suite.seen.update({"leaking report": report_of_the_leaking(suite, leak)}),
    "data folder": lambda suite, leak: (suite.pipeline.folder / "planted").write_text(leak),
}


@pytest.fixture(scope="module")
def planted(suite: Suite) -> Iterator[dict[str, tuple[str, str]]]:
    """What leaks in each place: one secret as it is, and one in base64 amid other text."""
    secrets: dict[str, tuple[str, str]] = {}
    for number, (places_of_it, plant) in enumerate(PLANTS.items()):
        plain, encoded = f"Planted{number}plainx7Q", f"Planted{number}base64x7Q"
        hidden = base64.urlsafe_b64encode(f"<{encoded}>".encode()).decode().rstrip("=")
        plant(suite, f"{plain}.{hidden}")
        secrets |= dict.fromkeys(places_of_it.split(", "), (plain, encoded))
    yield secrets
    for name in [name for name in suite.pipeline.processes if name.startswith("leaking")]:
        suite.pipeline.kill(name, signal.SIGKILL)


@pytest.mark.parametrize("place", PLACES)
def test_a_leak_would_be_found_in(suite: Suite, planted: dict[str, tuple[str, str]], place: str) -> None:
    search = Search(planted[place])
    assert search.hits(suite.seen[place]) == []
    some = replace(suite, stores=suite.stores[:3])  # whose is the leak is not the point
    leaking = suite.seen["leaking report"] if place == "celery report" else some.look(place)
    assert {hit.secret for hit in search.hits(leaking)} == {*planted[place]}
