"""The simulator in a thread of its own: many stores, each at its own loopback address, and a control port."""

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from occ.simulator.calls import InFlight
from occ.simulator.control import Control
from occ.simulator.courier import Courier
from occ.simulator.faults import fault_from
from occ.simulator.listener import Listener, bound_socket
from occ.simulator.message import Handler
from occ.simulator.setting_error import SettingError
from occ.simulator.store import SimulatedStore
from occ.simulator.wire import Connection, Finish

MOST_STORES = 254 * 256 * 100
RESET = fault_from("reset")
GOODBYE_TIMEOUT = 2.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate chain and its key, PEM. The certificate should name the stores' IP addresses."""

    certificate: Path | str
    key: Path | str

    def context(self) -> ssl.SSLContext:
        """What the HTTPS listeners use. Raises OSError, ssl.SSLError."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(slots=True)
class _Place:
    """One store and its sockets."""

    store: SimulatedStore
    address: str
    port: int
    tls_port: int | None
    listeners: list[Listener]
    connections: set[Connection]


def address_of(number: int) -> str:
    """The loopback address of the store with this number, from 127.1.0.1 on; never .0 or .255."""
    block, last = divmod(number, 254)
    high, middle = divmod(block, 256)
    return f"127.{1 + high}.{middle}.{1 + last}"


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: every store is a listening socket."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - there is none on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Simulator:
    """Runs while the context is open. Loopback only. Everything here may be called from any thread.

    `port` is the same for all stores (0: a free one); each store has an address of 127.0.0.0/8. Where only 127.0.0.1
    exists (anywhere but Linux, or `one_address=True`) each store has a port instead. `latency` and `jitter` (seconds)
    hold for every store that sets none itself. With `tls` every store also listens on `tls_port`.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        control_port: int = 0,
        latency: float = 0.0,
        jitter: float = 0.0,
        tls: TlsFiles | None = None,
        tls_port: int = 0,
        one_address: bool | None = None,
    ) -> None:
        self.latency = latency
        self.jitter = jitter
        self.everywhere = InFlight()
        self.one_address = sys.platform != "linux" if one_address is None else one_address
        self.port = port
        self.tls_port = tls_port
        self.control_url = ""
        self._wanted_control_port = control_port
        self._tls_files = tls
        self._tls: ssl.SSLContext | None = None
        self._places: dict[str, _Place] = {}
        self._next = 0
        self._control_connections: set[Connection] = set()
        self._infrastructure: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self.courier = Courier(lambda: list(self.stores.values()))

    # -- life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Open the ports. Raises OSError if a wanted one is taken."""
        allow_many_files()
        self._tls = self._tls_files.context() if self._tls_files else None
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="occ-simulator", daemon=True)
        self._thread.start()
        ready.result()
        self.courier.start()

    def stop(self) -> None:
        """Close every socket and end the thread. Harmless when it is not running."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None or loop is None or stop is None:
            return
        self.courier.stop()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        self._thread = self._loop = None

    def _run(self, ready: "Future[None]") -> None:
        asyncio.run(self._live(ready))

    async def _live(self, ready: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_quiet_about_clients)
        self._stop = asyncio.Event()
        try:
            self._open()
        except OSError as problem:
            self._close_everything()
            ready.set_exception(problem)
            return
        ready.set_result(None)
        await self._stop.wait()
        self._close_everything()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                while self._connected():  # noqa: ASYNC110 - each needs a round of the loop to hear that it is over
                    await asyncio.sleep(0)

    def _connected(self) -> bool:
        return bool(self._control_connections) or any(place.connections for place in self._places.values())

    def _open(self) -> None:
        sock = bound_socket("127.0.0.1", self._wanted_control_port)
        control = Control(self)
        make = self._connections(control.answer, lambda _call, _outcome: None, self._control_connections)
        listener = Listener(sock, make)
        self._infrastructure.append(listener)
        self.control_url = f"http://127.0.0.1:{listener.address[1]}"
        if not self.one_address:
            # 127.0.0.1 keeps the port for us; the stores live at the other addresses.
            self.port = self._reserve(self.port)
            if self._tls is not None:
                self.tls_port = self._reserve(self.tls_port)

    def _reserve(self, port: int) -> int:
        def refuse() -> Connection:
            raise ConnectionRefusedError("no store lives at 127.0.0.1")

        listener = Listener(bound_socket("127.0.0.1", port), refuse, fault=lambda: RESET)
        self._infrastructure.append(listener)
        return listener.address[1]

    def _close_everything(self) -> None:
        for place in self._places.values():
            self._shut(place)
        for listener in self._infrastructure:
            listener.close()
        for connection in list(self._control_connections):
            connection.abort()

    def call(self, work: Callable[[], T]) -> T:
        """Run something in the simulator's thread and wait for it."""
        loop = self._loop
        if loop is None:
            raise RuntimeError("the simulator is not running")
        if threading.current_thread() is self._thread:
            return work()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as problem:  # noqa: BLE001 - it is the caller's
                done.set_exception(problem)

        loop.call_soon_threadsafe(run)
        return done.result()

    # -- stores

    @property
    def stores(self) -> Mapping[str, SimulatedStore]:
        """The stores by name, in the order they came."""
        return {name: place.store for name, place in self._places.items()}

    def store(self, name: str) -> SimulatedStore:
        """One store. Raises KeyError."""
        return self._places[name].store

    @property
    def dev_stores(self) -> str:
        """What OCC_DEV_STORES has to be for these stores."""
        if self.one_address:
            return "127.0.0.1/32:*"
        networks = [f"127.0.0.0/8:{self.port}"]
        if self._tls is not None:
            networks.append(f"127.0.0.0/8:{self.tls_port}")
        return ",".join(networks)

    def add(self, name: str | None = None, **changes: object) -> SimulatedStore:
        """A new store, reachable at once; further arguments as in SimulatedStore.change.

        Raises SettingError, OSError.
        """
        return self.call(lambda: self._add(name, changes))

    def add_many(self, count: int, name: str = "m-{n}", **changes: object) -> list[SimulatedStore]:
        """Several alike, `{n}` in the name counting from 1."""
        return self.call(lambda: [self._add(name.replace("{n}", str(n)), changes) for n in range(1, count + 1)])

    def remove(self, name: str) -> None:
        """The store is gone, its address too. Raises KeyError."""
        self.call(lambda: self._shut(self._places.pop(name)))

    def reset_counts(self, names: Iterable[str] | None = None) -> None:
        """Count from zero, for all stores or these."""
        for name in self._places if names is None else names:
            self.store(name).reset_counts()
        self.everywhere.most = self.everywhere.now

    def _add(self, name: str | None, changes: Mapping[str, object]) -> SimulatedStore:
        number = self._next
        name = name or f"m-{number + 1}"
        if name in self._places:
            raise SettingError(f"there is a store {name!r} already")
        if "/" in name or number >= MOST_STORES:
            raise SettingError("no room for this store")
        self._next += 1
        address = "127.0.0.1" if self.one_address else address_of(number)
        place = self._settle(name, address, changes)
        self._places[name] = place
        return place.store

    def _settle(self, name: str, address: str, changes: Mapping[str, object]) -> _Place:
        sockets = [bound_socket(address, 0 if self.one_address else self.port)]
        tls_port = None
        try:
            if self._tls is not None:
                sockets.append(bound_socket(address, 0 if self.one_address else self.tls_port))
                tls_port = sockets[1].getsockname()[1]
            port = sockets[0].getsockname()[1]
            store = SimulatedStore(name, url=f"http://{address}:{port}", everywhere=self.everywhere)
            store.change(**changes)
        except (OSError, ValueError):
            for sock in sockets:
                sock.close()
            raise
        store.https_url = f"https://{address}:{tls_port}" if tls_port else None
        store.base_latency = lambda: (self.latency, self.jitter)
        place = _Place(store, address, port, tls_port, [], set())
        self._listen(place, sockets)
        store.on_deliveries = lambda: self.courier.has_something(store)
        store.on_reachable = lambda reachable: self.call(lambda: self._reach(place, reachable=reachable))
        if not store.reachable:
            self._shut(place)
        return place

    def _listen(self, place: _Place, sockets: Iterable[socket.socket]) -> None:
        make = self._connections(place.store.answer, place.store.finish, place.connections)
        for sock, tls in zip(sockets, (None, self._tls), strict=False):
            place.listeners.append(Listener(sock, make, tls=tls, fault=place.store.connection_fault))

    def _reach(self, place: _Place, *, reachable: bool) -> None:
        if reachable and not place.listeners:
            ports = [port for port in (place.port, place.tls_port) if port is not None]
            self._listen(place, [bound_socket(place.address, port) for port in ports])
        elif not reachable:
            self._shut(place)

    def _shut(self, place: _Place) -> None:
        for listener in place.listeners:
            listener.close()
        place.listeners.clear()
        for connection in list(place.connections):
            connection.abort()

    @staticmethod
    def _connections(handler: Handler, finish: Finish, live: set[Connection]) -> Callable[[], Connection]:
        return lambda: Connection(handler, finish, live)


def _quiet_about_clients(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Clients that break off are what this is for; anything else is a mistake of the simulator and shown."""
    if not isinstance(context.get("exception"), (ConnectionError, ssl.SSLError, TimeoutError)):
        loop.default_exception_handler(context)
