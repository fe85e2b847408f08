"""The client of Valkey: each wait has an end, and a connection that is not as it was left is not used again."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from django.test import override_settings

from fundapi.web import valkey as web
from tests.reliability.valkey import Valkey, private_valkey

SECONDS = 0.3


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with private_valkey() as running:
        yield running


@pytest.fixture
def client(server: Valkey) -> Iterator[redis.Redis]:
    with override_settings(REDIS_URL=server.url), web._client() as made:
        yield made


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    """Our end of a connection, and the server's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield web._Socket(ours, SECONDS), theirs


def idle(client: redis.Redis) -> list[Any]:
    connections: list[Any] = client.connection_pool._available_connections
    return connections


def ask(connection: Any, command: bytes) -> int:
    connection.sendall(command)
    length: int = connection.recv_into(bytearray(100))
    return length


def test_one_connection_serves_one_command_after_another(client: redis.Redis) -> None:
    numbers = {client.client_id() for _ in range(5)}
    assert len(numbers) == len(idle(client)) == 1


def test_a_connection_that_valkey_closed_is_replaced_unnoticed(client: redis.Redis, server: Valkey) -> None:
    first = client.client_id()
    with redis.Redis.from_url(server.url) as other:
        other.client_kill_filter(_id=first)
    assert client.client_id() != first
    assert len(idle(client)) == 1


def test_an_answer_that_nobody_asked_for_is_given_to_nobody(client: redis.Redis) -> None:
    first = client.client_id()
    idle(client)[0]._parser._reader.feed(b"$8\r\nintruder\r\n")
    assert client.echo("ours") == b"ours"
    assert client.client_id() != first


def test_not_even_by_a_server_that_announces_its_maintenance(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py lends a connection of such a server with an answer in it."""
    monkeypatch.setattr(client.connection_pool, "maint_notifications_enabled", lambda: True)
    test_an_answer_that_nobody_asked_for_is_given_to_nobody(client)


def test_a_connection_that_cannot_be_looked_at_is_replaced(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.client_id()
    monkeypatch.setattr(idle(client)[0]._sock, "fileno", lambda: -1)  # poll: ValueError
    assert client.client_id() != first
    assert (len(idle(client)), client.connection_pool._in_use_connections) == (1, set())


def test_a_connection_that_is_given_back_twice_is_lent_once(client: redis.Redis) -> None:
    pool = client.connection_pool
    connection = pool.get_connection()
    pool.release(connection)
    pool.release(connection)
    assert idle(client) == [connection]


def test_each_of_many_threads_has_a_connection(client: redis.Redis) -> None:
    """WEB_THREADS may be 1,000, and redis-py refuses the 101st."""
    pool = client.connection_pool
    lent = [pool.get_connection() for _ in range(150)]
    for connection in lent:
        pool.release(connection)
    assert (len(idle(client)), pool._in_use_connections) == (150, set())


def test_a_connection_of_a_failed_command_is_lent_again(client: redis.Redis) -> None:
    for _ in range(3):
        with pytest.raises(redis.ResponseError):
            client.execute_command("NONSENSE")
    assert (len(idle(client)), client.connection_pool._in_use_connections) == (1, set())


def test_threads_never_share_a_connection(client: redis.Redis) -> None:
    wrong: list[bytes | str] = []

    def ask(name: str) -> None:
        for number in range(200):
            sent = f"{name}-{number}".encode()
            if (came := client.echo(sent)) != sent:
                wrong.append(came)

    threads = [threading.Thread(target=ask, args=(str(name),)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(idle(client)) <= 6


def test_a_silent_server_costs_one_timeout(ends: tuple[Any, socket.socket]) -> None:
    ours, _ = ends
    ours.sendall(b"PING")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ours.recv_into(bytearray(100))
    assert SECONDS * 0.9 < time.monotonic() - began < SECONDS * 2


def test_an_answer_in_drops_costs_one_timeout(ends: tuple[Any, socket.socket]) -> None:
    ours, theirs = ends

    def drip() -> None:
        with suppress(OSError):
            for _ in range(30):
                theirs.sendall(b".")
                time.sleep(0.1)

    threading.Thread(target=drip, daemon=True).start()
    ours.sendall(b"PING")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        all(iter(lambda: ours.recv_into(bytearray(100)), 0))
    assert time.monotonic() - began < SECONDS * 2


def test_a_command_that_nobody_takes_in_costs_one_timeout(ends: tuple[Any, socket.socket]) -> None:
    ours, _ = ends
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ours.sendall(b"." * 20_000_000)
    assert time.monotonic() - began < SECONDS * 3


@pytest.mark.parametrize("length", [300_000, 4_000_000])
@pytest.mark.parametrize("piece", [20_000, 10_000_000], ids=["slowly", "late"])
def test_a_long_command_that_is_taken_in_slowly_costs_one_timeout(
    ends: tuple[Any, socket.socket], length: int, piece: int
) -> None:
    ours, theirs = ends

    def take() -> None:
        with suppress(OSError):
            while True:
                time.sleep(SECONDS * 0.7)
                taken = 0
                while taken < min(piece, length):
                    taken += len(theirs.recv(65_536))

    threading.Thread(target=take, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ask(ours, b"." * length)
    assert time.monotonic() - began < SECONDS * 1.5


def test_no_time_at_all_is_not_for_ever() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        timed = web._Socket(ours, 1e-9)
        with pytest.raises(TimeoutError):
            ask(timed, b"PING")


def test_a_long_command_and_its_answer_come_whole(ends: tuple[Any, socket.socket]) -> None:
    ours, theirs = ends
    came = bytearray()

    def take() -> None:
        while len(came) < 5_000_000:
            came.extend(theirs.recv(65_536))
        theirs.sendall(b"+OK")

    thread = threading.Thread(target=take)
    thread.start()
    sent = bytes(range(256)) * 20_000
    ours.sendall(sent[:5_000_000])
    buffer = bytearray(10)
    assert ours.recv_into(buffer) == 3
    thread.join()
    assert came == sent[:5_000_000]
