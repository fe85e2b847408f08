"""A TCP proxy in front of PostgreSQL or Valkey that can refuse, cut, stall, strand, delay, half-close, cut at COMMIT.

`python -m chaos.proxy TARGET...` is one for another process, for each target a port: it prints the ports, then carries
out the commands that come on its stdin, one a line (`cut`, `delay 0.2`, `heal TARGET`), at all ports, and prints an
empty line when each is done.
"""

import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import Self

# In PostgreSQL's protocol: the statement in a guarded request's last pipeline (Parse), and what is answered to it.
COMMIT = b"\x00COMMIT\x00"
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"


class Proxy:
    """A proxy on a free port of 127.0.0.1 that forwards to a unix socket or a ``host:port`` until the context ends."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.cut_at_commit: str | None = None  # "before" or "after" PostgreSQL has got it; once
        self.cuts = 0
        self.delayed = 0.0  # s that everything takes longer, in either direction
        self._forwarding = threading.Event()
        self._forwarding.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._accept_from(self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def _accept_from(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                try:
                    server = self._connect()
                except OSError:
                    client.close()
                    continue
                self._pairs.append((client, server))
                for pump in (self._to_server, self._to_client):
                    arguments = (client, server, self._forwarding)
                    threading.Thread(target=pump, args=arguments, daemon=True).start()

    def _connect(self) -> socket.socket:
        host, colon, port = self.target.rpartition(":")
        if colon:
            return socket.create_connection((host, int(port)))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.target)
        except OSError:
            server.close()
            raise
        return server

    def _to_server(self, client: socket.socket, server: socket.socket, forwarding: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                self._hold(forwarding)
                if COMMIT in data and self.cut_at_commit == "before":
                    self._cut_once(client, server)
                    return
                server.sendall(data)
                if COMMIT in data and self.cut_at_commit == "after":
                    server.recv(65536)  # PostgreSQL has committed, and the client will not know
                    self._cut_once(client, server)
                    return
        self._close(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, forwarding: threading.Event) -> None:
        with suppress(OSError):
            # Peek: the other thread reads the answer to a COMMIT that is to be cut.
            while server.recv(1, socket.MSG_PEEK):
                if self.cut_at_commit == "after" and self._committing(server):
                    return
                data = server.recv(65536)
                self._hold(forwarding)
                client.sendall(data)
        self._close(client, server)

    def _hold(self, forwarding: threading.Event) -> None:
        forwarding.wait()
        if self.delayed:
            time.sleep(self.delayed)

    @staticmethod
    def _committing(server: socket.socket) -> bool:
        return COMMITTED in server.recv(65536, socket.MSG_PEEK)

    def _cut_once(self, *pair: socket.socket) -> None:
        self.cut_at_commit = None
        self.cuts += 1
        self._close(*pair)

    @staticmethod
    def _close(*pair: socket.socket) -> None:
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        """End all connections; accept new ones."""
        while self._pairs:
            self._close(*self._pairs.pop())

    def half_close(self) -> None:
        """Close each connection to PostgreSQL for writing: it sees its clients go, and they do not notice."""
        for _, server in self._pairs:
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)

    def stall(self) -> None:
        """Keep all connections, and forward nothing in either direction."""
        self._forwarding.clear()

    def strand(self) -> None:
        """Keep all connections, and forward nothing of theirs again; new ones work, as after a failover of a router."""
        self.stall()
        self._forwarding = threading.Event()
        self._forwarding.set()

    def resume(self) -> None:
        self._forwarding.set()

    def delay(self, seconds: float) -> None:
        """Forward everything later by so many seconds."""
        self.delayed = float(seconds)

    def heal(self, target: str = "") -> None:
        """End every fault and all connections; forward new ones to ``target``, if given: another server than before."""
        self.target = target or self.target
        self.delay(0)
        self.resume()
        self.cut()

    def refuse(self) -> None:
        """End all connections and refuse new ones, as if the server were down."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.resume()
        self.cut()

    def accept(self) -> None:
        """Accept connections again, at the same address."""
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self._accept_from(self._listener)


def main() -> None:
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(target)) for target in sys.argv[1:]]
        print(*(proxy.port for proxy in proxies), flush=True)
        for line in sys.stdin:
            command, *arguments = line.split()
            for proxy in proxies:
                getattr(proxy, command)(*arguments)
            print(flush=True)


if __name__ == "__main__":
    main()
