"""A bad network: a TCP relay in front of a server, on a free port of 127.0.0.1, that loses answers."""

import socket
import threading
from contextlib import suppress
from typing import Self

from tests.servers import Server


class Relay:
    """Forwards connections to the server until the context ends."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.lost = 0
        self._losing: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def lose(self, start: bytes) -> None:
        """Lose the answer to the next request that begins so: the server gets it, and the client is hung up on."""
        self._losing.append(start)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server.port))
                losing = threading.Event()
                for pump in (self._send, self._answer):
                    threading.Thread(target=pump, args=(client, server, losing), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                for start in [each for each in self._losing if data.startswith(each)]:
                    self._losing.remove(start)
                    losing.set()
                server.sendall(data)
        server.close()

    def _answer(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if losing.is_set():
                    self.lost += 1
                    break
                client.sendall(data)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
