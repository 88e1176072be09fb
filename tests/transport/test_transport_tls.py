"""`transport.tls` against a real TLS server with certificates of an own authority."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from raw_server import speaking

import forward_proxy
from authority import Authority
from servers import reply
from tidewaiter.core.errors import InputError, NetworkError
from tidewaiter.transport.client import Client, Timeouts
from tidewaiter.transport.proxies import Proxies
from tidewaiter.transport.tls import Trust

StartTls = Callable[..., str]


@pytest.fixture
def start_tls() -> Iterator[StartTls]:
    """Starts an HTTPS server with a certificate of the authority given; gives its base URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(authority: Authority, *, clients: Path | None = None, location: str = "") -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if location:
                    reply(self, 302, Location=location)
                else:
                    reply(self, 200, b"tide")

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("server"))
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        server = Server(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"https://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetch(url: str, trust: Trust) -> bytes:
    with Client(trust=trust, pause=lambda _: None, timeouts=Timeouts(connect=5, read=5)) as client:
        return client.get(url, limit=10)


def test_only_the_named_authority_is_believed(tmp_path: Path, start_tls: StartTls) -> None:
    """A server of an own authority is refused until its file is named; another authority's file does not help."""
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    url = start_tls(authority)
    for trust in (Trust(), Trust(authorities=other.certificate)):
        with pytest.raises(NetworkError) as caught:
            fetch(url, trust)
        assert caught.value.code == "network_certificate"
        assert "TIDEWAITER_CA_FILE" in caught.value.next_step
    assert fetch(url, Trust(authorities=authority.certificate)) == b"tide"


def test_a_server_without_tls_is_told() -> None:
    """Who starts a registry beside the desk meets it first."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with speaking(answer) as url, pytest.raises(NetworkError, match="does not seem to speak TLS") as caught:
        fetch(url.replace("http://", "https://"), Trust())
    assert "TIDEWAITER_PLAIN_HTTP" in caught.value.next_step


def test_a_folder_is_for_its_host_only(tmp_path: Path, start_tls: StartTls) -> None:
    """`certs.d/HOST:PORT/*.crt` is trusted for that host and port, and for no other."""
    authority = Authority(tmp_path / "ca")
    one, two = start_tls(authority), start_tls(authority)
    folder = tmp_path / "certs.d" / one.removeprefix("https://")
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
    trust = Trust(hosts=tmp_path / "certs.d")
    assert fetch(one, trust) == b"tide"
    with pytest.raises(NetworkError, match="not trusted"):
        fetch(two, trust)


def test_the_folder_of_the_standard_port_has_none_in_its_name(tmp_path: Path) -> None:
    """A registry that is written without port has a folder without port; a listed port goes first."""
    (tmp_path / "registry.example").mkdir()
    trust = Trust(hosts=tmp_path)
    assert trust.folder("https://registry.example/v2/") == tmp_path / "registry.example"
    assert trust.folder("https://registry.example:5000/v2/") is None
    assert trust.folder("http://registry.example/v2/") is None
    (tmp_path / "registry.example:443").mkdir()
    assert trust.folder("https://Registry.example/v2/") == tmp_path / "registry.example:443"


def test_a_client_certificate_is_shown_to_its_host(tmp_path: Path, start_tls: StartTls) -> None:
    """A server that wants certificates of an authority is read with NAME.cert and NAME.key, and not without."""
    authority = Authority(tmp_path / "ca")
    url = start_tls(authority, clients=authority.certificate)
    trust = Trust(authorities=authority.certificate, hosts=tmp_path / "certs.d")
    with pytest.raises(NetworkError):
        fetch(url, trust)
    folder = tmp_path / "certs.d" / url.removeprefix("https://")
    folder.mkdir(parents=True)
    pair = authority.issue("captain")
    (folder / "client.cert").write_bytes(pair.certificate.read_bytes())
    with pytest.raises(InputError, match=r"no client\.key"):
        fetch(url, trust)
    (folder / "client.key").write_bytes(pair.key.read_bytes())
    assert fetch(url, trust) == b"tide"


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    """Damaged and missing files are bad input that says which file."""
    damaged = tmp_path / "damaged.crt"
    damaged.write_text("not a certificate")
    for path in (damaged, tmp_path / "missing.crt"):
        with pytest.raises(InputError, match=path.name) as caught:
            Trust(authorities=path).context(None)
        assert caught.value.code == "bad_certificate"


def test_https_does_not_lead_to_http(tmp_path: Path, start_tls: StartTls) -> None:
    """A redirect out of TLS is not followed."""
    authority = Authority(tmp_path / "ca")
    url = start_tls(authority, location="http://127.0.0.1:9/clear")
    with pytest.raises(NetworkError) as caught:
        fetch(url, Trust(authorities=authority.certificate))
    assert caught.value.code == "insecure_redirect"


def test_a_silent_handshake_is_given_up() -> None:
    """A server that accepts and never answers the TLS hello costs the connect time-out, not for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        with Client(attempts=1, timeouts=Timeouts(connect=0.3), through=Proxies()) as client:
            with pytest.raises(NetworkError) as caught:
                client.get(url, limit=5)
            assert caught.value.code == "network_timeout"


@contextmanager
def behind_tls(authority: Authority, plain: str) -> Iterator[str]:
    """HOST:PORT of the server at `plain`, spoken to with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("proxy"))
    host, _, port = plain.rpartition(":")

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve(connection: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(connection, server_side=True) as near,
            socket.create_connection((host, int(port))) as far,
        ):
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join(5)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def test_a_proxy_may_want_tls_too(tmp_path: Path, start_tls: StartTls) -> None:
    """An https proxy is verified like any server, and the tunnel through it has TLS of its own."""
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    asked: forward_proxy.Asked = []
    url = start_tls(authority)
    with forward_proxy.running(asked) as plain, behind_tls(authority, plain) as proxy:
        through = Proxies(http=f"https://{proxy}", https=f"https://me:secret@{proxy}")
        with Client(trust=Trust(authorities=authority.certificate), through=through) as client:
            assert client.get(url, limit=10) == b"tide"
            assert client.get(url, limit=10) == b"tide"
            assert client.get("http://elsewhere.invalid/", limit=10) == b"by proxy"
        with (
            Client(trust=Trust(authorities=other.certificate), through=through, attempts=1) as client,
            pytest.raises(NetworkError, match="not trusted"),
        ):
            client.get(url, limit=10)
    assert [what for what, _ in asked] == [f"CONNECT {url.removeprefix('https://')}", "GET http://elsewhere.invalid/"]
    assert asked[0][1] == "Basic bWU6c2VjcmV0"


def test_the_system_s_authorities_can_be_replaced(
    tmp_path: Path, start_tls: StartTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE names the only authorities that are trusted; one that is missing is bad input."""
    authority = Authority(tmp_path / "one")
    url = start_tls(authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    assert fetch(url, Trust()) == b"tide"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(InputError, match=r"missing\.pem"):
        fetch(url, Trust())
