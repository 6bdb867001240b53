"""Another server takes the place of ours, and lacks the last writes: replication is asynchronous."""

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import redis

from integrations.connections.records import Records
from occ.local.server_binary import find_server_binary
from occ.simulator.store import SimulatedStore
from tasks.wiring import connect
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.server import LATENCY, RESUMES_WITHIN, longest, resumed
from tests.faults.trial import Trial
from tests.ports import free_port
from tests.sentinels import PASSWORD, Sentinels
from tests.waiting import wait_until

LOST_SECONDS = 1.0


class Servers(ABC):
    """A master and who may follow it. `url`: for OCC_REDIS_URL."""

    url: str

    @property
    @abstractmethod
    def replaced(self) -> int:
        """How often another has become the master."""

    @abstractmethod
    def lose_touch(self) -> None:
        """From now on nobody else gets what is written to the master."""

    @abstractmethod
    def replace(self) -> None:
        """Another is the master now."""

    @abstractmethod
    def mend(self) -> None:
        """The former one follows it."""


def failover_by_address(trial: Trial) -> Report:
    """A replica that lacks the last second gets the master's address; the demoted one keeps its connections."""
    with _by_address(trial.folder) as servers:
        return _failovers(trial, servers)


def failover_by_sentinel(trial: Trial) -> Report:
    """The master is killed, and sentinels put a replica in its place that lacks the last second."""
    with _by_sentinel(trial.folder) as servers:
        return _failovers(trial, servers)


def _failovers(trial: Trial, servers: Servers) -> Report:
    """Nobody is lost, every record comes to say what is so, and consumers who have heard what was lost hear that too.

    No event id stands for two events. No worker ends, and calls to stores go on within 10 s.
    """
    turns = trial.size(2, 10)
    report, seconds = trial.report(), []
    with _HeardRig(trial, servers.url) as rig:
        rig.start()
        # Whoever has read what was lost, and has the key forgotten because of it, leaves slots behind: rightly so.
        rig.established.connect(trial.size(1, 4), without="disconnects_in_part")
        stores = []
        for turn in range(turns):
            rig.established.ask(turn, turns)
            stores += (more := rig.add_merchants(15, f"m-{turn}-{{n}}"))
            rig.feed(more, within=3)
            rig.go_on(trial.dice.uniform(1, 2))
            servers.lose_touch()
            rig.go_on(LOST_SECONDS)
            servers.replace()
            rig.struck()
            seconds.append(resumed(rig))
            servers.mend()
            replaced = servers.replaced
            _send_again(rig, stores)
            rig.established.ask_again()
            rig.struck()
        for _ in range(3):  # sentinels of a busy machine may find another failover necessary
            rig.until(lambda: not rig.unfinished() and not rig.established.unfinished(), HEALS_WITHIN)
            since, replaced = replaced, servers.replaced
            _send_again(rig, stores)
            if replaced != since:
                rig.established.ask_again()
                rig.struck()
        rig.finish(report, repeated_puts=8 * turns, heals_within=HEALS_WITHIN + RESUMES_WITHIN)
        rig.until(lambda: not rig.misled(), HEALS_WITHIN)
        report.own |= {
            "failovers": turns,
            "replaced": servers.replaced,
            "resumed_within": longest(seconds),
            "heard": len(rig.heard),
        }
        report.hold("resumed_within", longest(seconds), RESUMES_WITHIN)
        report.hold("two_events_of_one_id", len(rig.ambiguous), 0)
        report.hold("consumers_misled", len(rig.misled()), 0)
        report.own["misled"] = sorted(rig.misled())[:8]
        return report


def _send_again(rig: Rig, stores: Sequence[SimulatedStore]) -> None:
    """Whoever finds no trace of a merchant whose request was sent sends it again."""
    sent = [store for store in stores if store.name in rig.sent_at]
    known = rig.records.load_many([store.name for store in sent])
    if again := [store for store, one in zip(sent, known, strict=True) if one.connection is None]:
        rig.struck()
        rig.feed(again, within=0.5)


class _HeardRig(Rig):
    """On the servers of `url`, with a consumer who hears each event as soon as it is there."""

    def __init__(self, trial: Trial, url: str) -> None:
        super().__init__(trial, settings={"OCC_REDIS_URL": url}, latency=LATENCY)
        self.recorded_once, self.may_repeat, self.loses_writes = False, True, True
        self.heard: dict[str, dict[str, Any]] = {}
        self.ambiguous: set[str] = set()
        self._url, self._after, self._listened = url, "", 0.0

    def __enter__(self) -> Self:
        super().__enter__()
        self.redis = connect(self._url)
        self._cleanup.callback(self.redis.close)
        self.records = Records(self.redis)
        return self

    def _work(self) -> None:
        super()._work()
        if time.monotonic() > self._listened + 0.1:
            self._listened = time.monotonic()
            try:
                self._listen()
            except redis.RedisError:
                return

    def _listen(self) -> None:
        while page := self.records.events(after=self._after, count=5000):
            self._after = page[-1][0]
            for _, event in page:
                identity = str(event["id"])
                if self.heard.setdefault(identity, event) != event:
                    self.ambiguous.add(identity)

    def misled(self) -> set[str]:
        """Merchants of whom a consumer takes another status for the latest than the record says."""
        self._listen()
        latest: dict[str, tuple[str, str]] = {}
        for event in self.heard.values():
            subject, sequence = str(event["subject"]), str(event["sequence"])
            if "previous_status" in event["data"] and sequence > latest.get(subject, ("", ""))[0]:
                latest[subject] = sequence, str(event["data"]["status"])
        snapshots = self.records.load_many(list(latest))
        says = {
            name: one.connection and str(one.connection.status) for name, one in zip(latest, snapshots, strict=True)
        }
        return {name for name, (_, status) in latest.items() if says[name] != status}


# --- By address -------------------------------------------------------------------------------------------------------


class _TwoAtAnAddress(Servers):
    """A path that leads to one of two servers."""

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        self._link, self._folder, self._ports = folder / "address", folder, ports
        self.url = f"unix://{self._link}"
        self._master, self._other = ports
        self._replaced = 0
        self._lead_to(self._master)

    @property
    def replaced(self) -> int:
        return self._replaced

    def _lead_to(self, name: str) -> None:
        new = self._link.with_suffix(".new")
        new.symlink_to(self._folder / name / "s")
        new.replace(self._link)

    def _client(self, name: str) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self._folder / name / "s"), decode_responses=True)

    def follow(self) -> None:
        """The other one follows the master."""
        with self._client(self._other) as other:
            other.replicaof("127.0.0.1", str(self._ports[self._master]))
            wait_until(lambda: other.info("replication")["master_link_status"] == "up", what="the replica")

    def lose_touch(self) -> None:
        with self._client(self._other) as other:
            other.replicaof("NO", "ONE")

    def replace(self) -> None:
        self._master, self._other = self._other, self._master
        self._replaced += 1
        self._lead_to(self._master)
        with self._client(self._other) as demoted:
            demoted.replicaof("127.0.0.1", str(self._ports[self._master]))

    def mend(self) -> None:
        self.follow()


@contextmanager
def _by_address(folder: Path) -> Iterator[Servers]:
    ports = {name: free_port() for name in ("a", "b")}
    with ExitStack() as running:
        for name, port in ports.items():
            (folder / name).mkdir()
            options = [
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "--unixsocket",
                "s",
                "--save",
                "",
                "--appendonly",
                "yes",
            ]
            command = [str(find_server_binary().path), *options, "--repl-diskless-sync-delay", "0"]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder / name)
            running.callback(process.wait, 60)
            running.callback(process.kill)
            wait_until((folder / name / "s").exists, what="the server")
        servers = _TwoAtAnAddress(folder, ports)
        servers.follow()
        yield servers


# --- By Sentinel ------------------------------------------------------------------------------------------------------


class _Watched(Servers):
    """A group that sentinels watch, which takes writes that no replica has."""

    def __init__(self, group: Sentinels) -> None:
        self._group, self.url = group, group.url
        self._master = self._killed = 0
        for port in group.servers:
            _set(port, "min-replicas-to-write", "0")

    @property
    def replaced(self) -> int:
        return self._group.replaced

    def lose_touch(self) -> None:
        self._await_end_of_failover()
        self._master = self._group.master
        for port in self._group.servers:
            if port != self._master:
                _set(port, "masterauth", "not this one")
        with redis.Redis(port=self._master, password=PASSWORD) as client:
            client.client_kill_filter(_type="replica")

    def replace(self) -> None:
        # Sentinels of a busy machine may be doing it by themselves, and get stuck without the one they have chosen.
        is_still = self._group.master == self._master and not self._group.is_replacing
        self._killed = self._group.kill_master() if is_still else 0

    def mend(self) -> None:
        wait_until(lambda: self._group.master != self._master, what="another master")
        for port in self._group.servers:
            if port != self._killed:
                _set(port, "masterauth", PASSWORD)
        if self._killed:
            self._group.start(self._killed, replica_of=self._group.master)
            _set(self._killed, "min-replicas-to-write", "0")
        wait_until(lambda: self._group.sees_replicas, what="the former master to follow")
        self._await_end_of_failover()

    def _await_end_of_failover(self) -> None:
        wait_until(lambda: not self._group.is_replacing, what="the end of a failover")


def _set(port: int, name: str, value: str) -> None:
    with redis.Redis(port=port, password=PASSWORD) as client:

        def done() -> bool:
            try:
                return bool(client.config_set(name, value))
            except redis.RedisError:
                return False

        wait_until(done, what="a server to take a setting")


@contextmanager
def _by_sentinel(folder: Path) -> Iterator[Servers]:
    group = Sentinels(folder)
    try:
        yield _Watched(group)
    finally:
        group.end()
