"""TLS in front of a server that speaks none itself, as stunnel would do it."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path


class TlsRelay:
    """Takes TLS connections on loopback and hands on what is inside to a server's socket, or its address."""

    def __init__(self, context: ssl.SSLContext, server: Path | tuple[str, int]) -> None:
        self._context = context
        self._family = socket.AF_UNIX if isinstance(server, Path) else socket.AF_INET
        self._server = str(server) if isinstance(server, Path) else server
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(plain,), daemon=True))
                self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        self._open.append(plain)
        with (
            contextlib.suppress(OSError),
            plain,
            socket.socket(self._family) as server,
            self._context.wrap_socket(plain, server_side=True) as client,
        ):
            self.connections += 1
            server.connect(self._server)
            self._open += [client, server]
            back = threading.Thread(target=_hand_on, args=(server, client), daemon=True)
            back.start()
            _hand_on(client, server)
            back.join()

    def close(self) -> None:
        """Hang up everywhere."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


def _hand_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
