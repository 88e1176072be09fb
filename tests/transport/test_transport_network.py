"""`transport.network`: every phase has its time-out, and all waiting can be ended at once."""

import socket
import threading
import time
from collections.abc import Callable

import pytest
from raw_server import speaking

from tidewaiter.core.errors import NetworkError
from tidewaiter.transport import network
from tidewaiter.transport.client import Client, Timeouts
from tidewaiter.transport.failures import ConnectionLostError


def drip_headers(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(400):
        connection.sendall(f"X-{number}: 1\r\n".encode())
        time.sleep(0.05)


def drip_body(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(400):
        connection.sendall(b".")
        time.sleep(0.05)


def sip(connection: socket.socket) -> None:
    for _ in range(400):
        connection.recv(1)
        time.sleep(0.05)


@pytest.mark.parametrize("behave", [drip_headers, drip_body])
def test_an_answer_in_drops_is_given_up(behave: Callable[[socket.socket], None]) -> None:
    """Single bytes of headers or body do not keep a command alive."""
    with speaking(behave) as url, Client(attempts=1, timeouts=Timeouts(read=0.5, upload_end=1)) as client:
        start = time.monotonic()
        with pytest.raises(NetworkError) as caught:
            client.get(url, limit=100_000)
        assert caught.value.code == "network_timeout"
        assert time.monotonic() - start < 5


def test_a_server_that_takes_drops_is_given_up() -> None:
    """Sending has its time-out too, also when the server takes a byte now and then."""
    with speaking(sip) as url, Client(attempts=1, timeouts=Timeouts(read=0.5, upload_end=1)) as client:
        start = time.monotonic()
        with pytest.raises(NetworkError) as caught:
            client.request("PUT", url, content=bytes(20_000_000), limit=10)
        assert caught.value.code == "network_timeout"
        assert time.monotonic() - start < 5


def test_interrupt_ends_all_that_waits() -> None:
    """Threads that wait for a silent server, a body or the next attempt end within a second; then all goes on."""
    silent = True

    def behave(connection: socket.socket) -> None:
        request = connection.recv(1000)
        if b"/body" in request:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nti")
        if b"/busy" in request:
            connection.sendall(b"HTTP/1.1 429 Later\r\nRetry-After: 50\r\nContent-Length: 0\r\n\r\n")
        if silent:
            time.sleep(20)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntide")

    with speaking(behave) as url, Client() as client:
        ended: list[float] = []

        def ask(path: str) -> None:
            with pytest.raises(NetworkError):
                client.get(url + path, limit=10)
            ended.append(time.monotonic())

        threads = [threading.Thread(target=ask, args=(path,)) for path in ("silent", "body", "busy")]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        assert ended == []
        start = time.monotonic()
        client.interrupt()
        for thread in threads:
            thread.join(5)
        assert len(ended) == len(threads)
        assert max(ended) - start < 1
        silent = False
        assert client.get(url + "after", limit=10) == b"tide"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_interrupt_ends_connecting(host: str) -> None:
    """A host, by name or address, that drops the first packet does not hold the command until its time-out."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://{host}:{full.getsockname()[1]}/"
        # Linux takes one more than the backlog; from then on, packets of new connections are dropped.
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with Client() as client:
            ended: list[float] = []

            def ask() -> None:
                with pytest.raises(NetworkError):
                    client.get(url, limit=10)
                ended.append(time.monotonic())

            thread = threading.Thread(target=ask)
            thread.start()
            time.sleep(0.5)
            assert ended == []
            start = time.monotonic()
            client.interrupt()
            thread.join(5)
            assert len(ended) == 1
            assert ended[0] - start < 1
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connecting_has_its_time_out(host: str) -> None:
    """The connect time-out covers everything until the connection stands."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with Client(attempts=1, timeouts=Timeouts(connect=0.3)) as client:
            start = time.monotonic()
            with pytest.raises(NetworkError, match="connected to in time") as caught:
                client.get(f"http://{host}:{full.getsockname()[1]}/", limit=10)
            assert caught.value.code == "network_timeout"
            assert time.monotonic() - start < 2
        for filler in fillers:
            filler.close()


def test_a_connection_is_used_again() -> None:
    """Requests that follow one another share a connection."""
    connections: list[int] = []

    def behave(connection: socket.socket) -> None:
        connections.append(1)
        while connection.recv(1000):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntide")

    with speaking(behave) as url, Client() as client:
        for _ in range(5):
            assert client.get(url, limit=10) == b"tide"
    assert len(connections) == 1


def test_an_interrupt_before_connecting_is_not_lost() -> None:
    """Between the making of a socket and its first packet, an interrupt counts too."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        host, port = listening.getsockname()
        connecting = network._connecting(host, port, 5.0, None)
        connecting.cut()
        with pytest.raises(ConnectionLostError, match="interrupted"):
            connecting.wait()


@pytest.mark.parametrize(("host", "here"), [("127.0.0.1", True), ("[::1]", True), ("localhost", False)])
def test_only_names_are_connected_to_by_a_thread(host: str, here: bool) -> None:
    """A name lookup cannot be given up but by leaving its thread behind; an address needs none. Both need a permit."""
    asked: dict[str, threading.Thread] = {}

    def permit(address: str) -> bool:
        asked[address] = threading.current_thread()
        return False

    with Client(attempts=1, permit=permit) as client, pytest.raises(NetworkError, match="may not be connected to"):
        client.get(f"http://{host}:9/", limit=10)
    assert asked.keys() <= {"127.0.0.1", "::1"}
    assert {thread is threading.current_thread() for thread in asked.values()} == {here}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_closed_port_is_said_to_be_closed(host: str) -> None:
    """The system's own words are in the message."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with Client(attempts=1) as client, pytest.raises(NetworkError, match="Connection refused"):
            client.get(f"http://{host}:{closed.getsockname()[1]}/", limit=10)
