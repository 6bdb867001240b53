"""Everything the demo needs, running: a server, simulated stores, two workers and beat, and a producer of requests."""

import json
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import unquote

import redis
from celery import Celery

from integrations.connections.records import Records
from integrations.oracle_commerce.slot import callback_url_for
from integrations.sealing.keyring import SealingKey, seal
from integrations.server.same_environment import SEALING_KEYS, mark_of_key
from integrations.settings import PREFIX, load_settings
from occ.cli.failure import CommandError, ExitCode
from occ.cli.set_up import records_of
from occ.demo.merchants import SLOTS, Part
from occ.demo.verdict import Seen
from occ.local.commands import beat_command, worker_command
from occ.local.environment import wants_embedded_server
from occ.local.processes import Program, Supervisor
from occ.local.server import EmbeddedServer
from occ.simulator.process import SimulatorProcess
from tasks.inbox import STREAM
from tasks.queues import REQUESTS
from tasks.wiring import connect

WORKERS = 2

# The proportions of the defaults, short enough to be watched: a store that hangs is given up after four times three
# seconds, a key is asked about again after two. Nothing else is shortened.
_PACE = {
    "OCC_CALL_DEADLINE": "3",
    "OCC_CONNECT_TIMEOUT": "2",
    "OCC_LEASE": "30",
    "OCC_RETRY_FIRST": "0.3",
    "OCC_RETRY_MAX": "2",
    "OCC_RETRY_ATTEMPTS": "4",
    "OCC_CONFIRM_REJECTION": "2",
    "OCC_SECOND_LOOK": "1h",
    "OCC_RECHECK_DEGRADED": "2h",
    "OCC_REVALIDATE_EVERY": "30d",
    "OCC_DELIVERY_CHECK_EVERY": "1",
}
_DELIVERS = MappingProxyType({"allows_http": True, "resend_delay": 0.1})
"""Callback URLs are on this machine, and the hour between two attempts of a store is a moment."""

_CROWD = 100
# So many at once keep a small machine busy: what is slow then is the machine, and no store is to be blamed for it.
_PACE_OF_A_CROWD = {"OCC_CALL_DEADLINE": "10", "OCC_LEASE": "60"}

_LATENCY = ("--latency", "0.1", "--jitter", "0.1")
_MARK = "demo-"
_PATIENCE_WITH_WORKERS = 5.0


@dataclass(frozen=True, slots=True)
class Merchant:
    """A part, the merchant id it is played under, and which of the two doors its request takes."""

    id: str
    part: Part
    through_inbox: bool


class Stage:
    """Runs while the context is open; used by a main thread, which calls `tend` several times a second.

    A server named in OCC_REDIS_URL is used, and otherwise an embedded one in `folder`; no other setting of `environ`
    counts. Raises CommandError if others use that server, SettingsError, ServerError, RuntimeError.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path, parts: Sequence[Part]) -> None:
        self.folder = folder
        self.is_embedded = wants_embedded_server(environ)
        prefix = "" if self.is_embedded else f"{_MARK}{secrets.token_hex(3)}-"
        self.merchants = [
            Merchant(prefix + part.name, part, through_inbox=bool(number % 2)) for number, part in enumerate(parts)
        ]
        self._prefix = prefix
        self._environ = environ
        self._key = SealingKey.generate()
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def _start(self) -> None:
        until_the_end = self._cleanup.enter_context
        server = until_the_end(EmbeddedServer(self.folder / "server")) if self.is_embedded else None
        with _ctrl_c_is_ours():
            self._simulator = until_the_end(
                SimulatorProcess(["--port=0", "--control-port=0", "--tenants=0", *_LATENCY])
            )
        self.receiver = Receiver()
        self._cleanup.callback(self.receiver.close)
        environment = self._environment(server)
        self._settings = load_settings(environment)
        self._redis = until_the_end(connect(self._settings.redis_url))
        self.records = Records(self._redis)
        self.receiver.client = self._redis
        self._producer = Celery("a-producer", set_as_current=False)
        self._producer.conf.update(self._settings.broker_url.celery_settings())
        self._cleanup.callback(self._producer.close)
        if server is None:
            self._see_that_nobody_uses_it()
            self._cleanup.callback(self._take_our_records_away)
        self._open_stores()
        self._supervisor = until_the_end(
            Supervisor(environment, server=server, log_folder=self.folder / "logs", grace=_PATIENCE_WITH_WORKERS)
        )
        for number in range(1, WORKERS + 1):
            name = f"worker-{number}"
            self._supervisor.start(Program(name, worker_command(name)))
        self._supervisor.start(Program("beat", beat_command()))

    def _environment(self, server: EmbeddedServer | None) -> dict[str, str]:
        """The environment of workers and beat: nothing of ours that happens to be set here."""
        plain = {name: value for name, value in self._environ.items() if not name.startswith(PREFIX)}
        if server is not None:
            where = {"OCC_REDIS_URL": server.url, "OCC_BROKER_URL": server.broker_url}
        else:
            named = {name: self._environ.get(name, "").strip() for name in ("OCC_REDIS_URL", "OCC_REDIS_URL_FILE")}
            where = {
                name: str(Path(value).absolute()) if name.endswith("_FILE") else value
                for name, value in named.items()
                if value
            }
        return {
            **plain,
            **_PACE,
            **(_PACE_OF_A_CROWD if len(self.merchants) > _CROWD else {}),
            **where,
            "OCC_SEALING_KEYS": self._key.export(),
            "OCC_CALLBACK_URL": self.receiver.callback_url,
            "OCC_DEV_STORES": self._simulator.dev_stores,
            "OCC_DATA_DIR": str(self.folder),
            "OCC_LOG_FORMAT": "json",
        }

    def _see_that_nobody_uses_it(self) -> None:
        """Our workers take whatever is due, and have none of the keys of others: on their records that does harm."""
        with records_of(self._settings) as records:
            others = [merchant for merchant in records.merchant_ids() if not merchant.startswith(_MARK)]
        waiting = self._redis.xlen(STREAM) + self._redis.llen(REQUESTS)
        if others or waiting or self._producer.control.ping(timeout=1.0):
            what = "holds connections" if others else "holds requests" if waiting else "has workers"
            raise CommandError(
                ExitCode.REFUSED,
                "server_in_use",
                f"this server {what}, and the demo's workers would take their work without having their keys; name an "
                "empty one (another database number will do), or leave it out: the demo then brings its own",
                field="OCC_REDIS_URL",
            )

    def _open_stores(self) -> None:
        wanted = [{"name": merchant.id, **_DELIVERS, **merchant.part.settings} for merchant in self.merchants]
        self._stores = {store["name"]: store for store in self._simulator.client.add_all(wanted)}

    # --- While it runs ----------------------------------------------------------------------------------------------

    def tend(self) -> None:
        """See that all processes are up."""
        self._supervisor.tend()

    def workers_answer(self) -> bool:
        """Whether all workers have started. Takes up to half a second."""
        return len(self._producer.control.ping(timeout=0.5, limit=WORKERS) or []) >= WORKERS

    def request(self, merchant: Merchant) -> None:
        """Ask to connect a merchant, as a program of somebody else would."""
        store = self._stores[merchant.id]
        request = {
            "merchant_id": merchant.id,
            "store_url": merchant.part.store_url or store["store_url"],
            "application_key": seal(self._key.public_key, self._key.key_id, merchant.id, store["application_key"]),
        }
        if merchant.through_inbox:
            self._redis.xadd(STREAM, {"request": json.dumps(request)})
        else:
            self._producer.send_task("occ.connect", kwargs=request, queue=REQUESTS)

    def order(self, merchant: Merchant) -> None:
        """A shopper orders something at a merchant's store."""
        self._simulator.client.place_orders(merchant.id)

    def given_up(self, merchant: Merchant) -> int:
        """How many deliveries a merchant's store has given up."""
        return int(self._simulator.client.counts(merchant.id)["given_up"])

    def revalidate(self, merchant: Merchant) -> None:
        """Ask for a re-validation."""
        self._redis.xadd(STREAM, {"revalidate": json.dumps({"merchant_id": merchant.id})})

    def refusals(self) -> dict[str, dict[str, Any]]:
        """Requests that were refused, by merchant id."""
        kept = self.records.refusals(count=2 * len(self.merchants))
        ids = {merchant.id for merchant in self.merchants}
        return {refusal["merchant_id"]: refusal for refusal in kept if refusal["merchant_id"] in ids}

    def seen(self) -> tuple[dict[str, Seen], dict[str, Any]]:
        """What became of each merchant by its id, and what the simulator has counted: `totals` and `tenants`."""
        ids = [merchant.id for merchant in self.merchants]
        snapshots = self.records.load_many(ids)
        refusals, counted = self.refusals(), self._simulator.client.summary()
        seen = {
            merchant_id: Seen(
                connection=snapshot.connection,
                refusal=refusals.get(merchant_id),
                counts=counted["tenants"][merchant_id],
                urls={slot: content["urls"] or [] for slot, content in self._slots(merchant_id)},
                callback_urls={
                    slot: callback_url_for(self._settings.callback_url, merchant_id, slot) for slot in SLOTS
                },
                waits=sum(entry["what"] == "waits" for entry in self.records.timeline(merchant_id)),
            )
            for merchant_id, snapshot in zip(ids, snapshots, strict=True)
        }
        return seen, counted

    def _slots(self, merchant_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        slots = self._simulator.client.tenant(merchant_id)["slots"]
        return ((name, slots[name]) for name in SLOTS)

    # --- On a server that stays -------------------------------------------------------------------------------------

    def _take_our_records_away(self) -> None:
        """Whatever carries our merchant ids, wherever records put them. What is told in streams stays told."""
        self._redis.srem(SEALING_KEYS, *(mark_of_key(key) for key in self._settings.sealing_keys))
        for key in self._redis.scan_iter("occ:*", count=1000):
            if self._prefix in key or key.startswith("occ:heard-within:"):
                self._redis.unlink(key)
            elif self._redis.type(key) == "zset":
                members = [member for member, _ in self._redis.zscan_iter(key, f"{self._prefix}*", count=1000)]
                if members:
                    self._redis.zrem(key, *members)


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """A process started meanwhile never gets the terminal's Ctrl+C: we end it, and after those who use it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- What receives the stores' deliveries ----------------------------------------------------------------------------


class Receiver:
    """What takes the stores' deliveries, on this machine: reports each slot it heard from, fails for `failing`."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.client: redis.Redis | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)
        self._thread.start()

    @property
    def callback_url(self) -> str:
        """What OCC_CALLBACK_URL is to be."""
        return f"http://127.0.0.1:{self._server.server_port}/occ/{{merchant_id}}/{{slot}}"

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, merchant_id: str, slot: str) -> int:
        """One delivery; returns the HTTP status of the answer."""
        if merchant_id in self.failing or self.client is None:
            return 500
        report = {"merchant_id": merchant_id, "slot": slot, "at": time.time()}
        self.client.xadd(STREAM, {"heard": json.dumps(report)})
        return 204

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                merchant_id, slot = map(unquote, self.path.rsplit("/", 2)[1:])
                self.send_response(receiver.take(merchant_id, slot))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Nothing: the demo says what matters."""

        return Handler
