"""The embedded server: a Redis or Valkey of our own, for those who have none. Keeps its data, leaves nothing behind."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from occ.local.private_files import is_taken, private_folder, taken
from occ.local.server_address import ServerAddress, address_in, clear_away, known_address
from occ.local.server_binary import SETTING, ServerBinary, ServerError, find_server_binary
from occ.local.tether import tethered

_LOCK = "lock"
_LOG = "server.log"
_LOG_LIMIT = 5_000_000
_CHECK_EVERY = 0.01
_ANSWER_WITHIN = 2.0
_LAST_LINES = 12

_REMEDIES = (
    ("No space left on device", "The disk that holds the data folder is full: make room and start again."),
    ("Read-only file system", "The data folder cannot be written to: set OCC_DATA_DIR to one that can."),
    ("Permission denied", "The data folder is another user's, in part or as a whole: set OCC_DATA_DIR to another."),
    (
        "append only file",
        """The append-only file is damaged in the middle (a cut-off end would be mended by itself). Keep a copy of the
folder; then repair it with redis-check-aof or valkey-check-aof --fix, or move it away and start empty.""",
    ),
)


class AlreadyRunningError(ServerError):
    """Another process runs a server on this folder; use that one."""


class EmbeddedServer:
    """A server on a folder: private socket, password, append-only file; ends with this process, whatever ends it.

    Started by a main thread. May be started again after it exited or was stopped; address and password stay.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binary: ServerBinary | None = None,
        ready_within: float = 30.0,
        stop_within: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder.absolute()
        self._binary = binary
        self._ready_within = ready_within
        self._stop_within = stop_within
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._address: ServerAddress | None = None

    @classmethod
    def running_in(cls, folder: Path, *, wait: float = 5.0) -> ServerAddress | None:
        """The address of the server somebody runs on this folder. Waits for one that is just starting or stopping."""
        until = time.monotonic() + wait
        while is_taken(folder / _LOCK):
            address = known_address(folder.absolute())
            if address is not None and _answers(address):
                return address
            if time.monotonic() > until:
                return None
            time.sleep(_CHECK_EVERY)
        return None

    @property
    def url(self) -> str:
        """For redis-py."""
        return self.address.url

    @property
    def broker_url(self) -> str:
        """For Celery."""
        return self.address.broker_url

    @property
    def address(self) -> ServerAddress:
        """Where it listens, once it has been started."""
        if self._address is None:
            raise ServerError("the embedded server has not been started")
        return self._address

    @property
    def binary(self) -> ServerBinary:
        """The program that runs, or will."""
        if self._binary is None:
            self._binary = find_server_binary(os.environ.get(SETTING, "").strip())
        return self._binary

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_status(self) -> int | None:
        """How it ended by itself: an exit code, or minus a signal's number. None while it runs, or after `stop`."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        """Start it and wait until it answers. Raises AlreadyRunningError, or ServerError with the last log lines."""
        if self.pid is not None:
            raise RuntimeError("this server is running")
        try:
            private_folder(self.folder)
            address, log_starts_at = self._spawn_on_folder()
        except OSError as error:
            raise ServerError(_with_remedy(f"The data folder {self.folder} cannot be used: {error}.")) from None
        try:
            self._await_readiness(address, log_starts_at)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it in order: everything accepted is in the file. Forced if that takes too long. Harmless when stopped."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(SIGTERM)  # the same as SHUTDOWN, and works while it is busy or full
            try:
                process.wait(self._stop_within)
            except subprocess.TimeoutExpired:
                process.send_signal(SIGKILL)
                process.wait()
        lock = taken(self.folder / _LOCK)
        if lock is not None:  # else the next server is starting, and the socket may be its own
            clear_away(self.folder)
            os.close(lock)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn_on_folder(self) -> tuple[ServerAddress, int]:
        lock = self._take_folder()
        try:
            clear_away(self.folder)
            self._address = address_in(self.folder)
            log_starts_at = self._trimmed_log()
            self._process = self._spawn(lock, self._address)
        finally:
            os.close(lock)  # the server has inherited it: the folder is taken for exactly as long as it lives
        return self._address, log_starts_at

    def _take_folder(self) -> int:
        """A descriptor that holds the folder. The last server may need a moment for its orderly end."""
        until = self._clock() + self._stop_within
        while (lock := taken(self.folder / _LOCK)) is None:
            address = known_address(self.folder)
            if address is not None and _answers(address):
                raise AlreadyRunningError(f"A server is running on {self.folder} already.")
            if self._clock() > until:
                raise ServerError(f"Another server holds {self.folder} and does not answer; end it first.")
            time.sleep(_CHECK_EVERY)
        return lock

    def _spawn(self, lock: int, address: ServerAddress) -> subprocess.Popen[bytes]:
        command, pipe = tethered([self.binary.path, "-"], SIGTERM)
        with (self.folder / _LOG).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_without_our_settings(os.environ),
                start_new_session=True,  # a terminal's Ctrl+C must not reach it before those who use it have ended
                pass_fds=(lock, *pipe),
                umask=0o077,
            )
        assert process.stdin is not None  # noqa: S101 - asked for above
        # The password goes through the pipe: not in a command line, and in no file but its own.
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(_configuration(self.folder, address))
        return process

    def _await_readiness(self, address: ServerAddress, log_starts_at: int) -> None:
        until = self._clock() + self._ready_within
        while True:
            if self.exit_status is not None:
                raise ServerError(self._explained(f"It ended at once ({self.exit_status}).", log_starts_at))
            try:
                _ping(address)
            except redis.BusyLoadingError:
                until = self._clock() + self._ready_within  # a long file is no failure as long as it is being read
            except (redis.ConnectionError, redis.TimeoutError):
                pass
            else:
                return
            if self._clock() > until:
                raise ServerError(self._explained(f"No answer within {self._ready_within:g} s.", log_starts_at))
            time.sleep(_CHECK_EVERY)

    def _trimmed_log(self) -> int:
        """The length of the log before this start; an old, long one is put aside."""
        log = self.folder / _LOG
        size = log.stat().st_size if log.exists() else 0
        if size <= _LOG_LIMIT:
            return size
        log.replace(log.with_suffix(".log.1"))
        return 0

    def _explained(self, what: str, log_starts_at: int) -> str:
        with (self.folder / _LOG).open("rb") as log:
            log.seek(log_starts_at)
            said = log.read().decode(errors="replace")
        lines = "\n".join(f"    {line}" for line in said.splitlines()[-_LAST_LINES:])
        outcome = f"The embedded server ({self.binary}) did not start on {self.folder}. {what}"
        return f"{_with_remedy(outcome, said)}\nIts last lines, in full in {_LOG} there:\n{lines}"


def _with_remedy(outcome: str, evidence: str = "") -> str:
    """What happened, and what to do about it if that is known."""
    remedies = [remedy for sign, remedy in _REMEDIES if sign in outcome + evidence]
    return "\n".join([outcome, *remedies[:1]])


def _configuration(folder: Path, address: ServerAddress) -> bytes:
    directives: list[tuple[str, str | Path]] = [
        ("port", "0"),  # nobody on the network, not even on loopback
        ("unixsocket", address.socket),
        ("unixsocketperm", "600"),
        ("requirepass", address.password),
        ("dir", folder),
        ("logfile", ""),
        ("daemonize", "no"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),  # what must not be forgotten is confirmed with WAITAOF
        ("aof-load-truncated", "yes"),
        ("aof-use-rdb-preamble", "no"),  # plain commands: another version, Redis or Valkey, can read the file
        ("save", ""),
        ("maxmemory-policy", "noeviction"),  # a full server must refuse work, never forget it
        # Memory of a connection at rest: its hash is one piece, its few lines of timeline stand in a block that fits.
        ("hash-max-listpack-value", "4096"),
        ("stream-node-max-bytes", "1536"),
    ]
    return b"".join(b"%s %s\n" % (name.encode(), _quoted(value)) for name, value in directives)


def _quoted(value: str | Path) -> bytes:
    """A value as the configuration's grammar wants it, whatever bytes a path has."""
    return b'"%s"' % b"".join(b"\\x%02x" % byte for byte in os.fsencode(value))


def _without_our_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The server has no use for our settings, and sealing keys need not be in one more process."""
    return {name: value for name, value in environ.items() if not name.startswith("OCC_")}


def _ping(address: ServerAddress) -> None:
    with redis.Redis(
        unix_socket_path=str(address.socket),
        password=address.password,
        socket_timeout=_ANSWER_WITHIN,
        retry=Retry(NoBackoff(), 0),
    ) as client:
        client.ping()


def _answers(address: ServerAddress) -> bool:
    try:
        _ping(address)
    except redis.RedisError:
        return False
    return True
