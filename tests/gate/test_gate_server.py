"""The registry as a process: killed, out of memory's reach, asked in odd ways over real sockets."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from served import Served, prepare, resident, serving, until

from gate_place import digest_of, manifest
from tidewaiter.oci import manifest as documents

DATA = os.urandom(3_000_000)
MANIFEST_TYPE = {"Content-Type": documents.MANIFEST}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    with serving(home, prepare(home)) as running:
        yield running


def send(served: Served, text: bytes, *, wait: float = 20) -> bytes:
    """What comes back for these very bytes."""
    host, _, port = served.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(text)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def image(served: Served, repository: str, contents: bytes) -> bytes:
    """The manifest of an image whose blobs are pushed."""
    for data in (contents, b'{"os":"linux"}'):
        answer = served.ask("POST", f"/{repository}/blobs/uploads/?digest={digest_of(data)}", data)
        assert answer.status == 201
    return manifest(
        {"mediaType": documents.CONFIG, "digest": digest_of(b'{"os":"linux"}'), "size": 14},
        [{"mediaType": documents.LAYER, "digest": digest_of(contents), "size": len(contents)}],
    )


def test_paths_as_they_are_sent(served: Served) -> None:
    """What a server in between might decode once more reaches nothing: neither files nor other repositories."""
    for path in (
        b"/v2/open/../../etc/passwd",
        b"/v2/open%2F..%2Fx/manifests/v1",
        b"/v2/open/x/blobs/sha256:..%2f..%2f..%2findex.json",
        b"/v2/open/x/manifests/%2e%2e",
        b"/v2/open/x/blobs/uploads/%2e%2e%2fblobs",
        b"//v2/open/x/manifests/v1",
        b"/v2//open/x/manifests/v1",
        b"/v2/open/x\x00/manifests/v1",
        b"/v2/open/\xc3\xa9/manifests/v1",
    ):
        head = b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        told = send(served, head + f"Authorization: Bearer {served.token}\r\n\r\n".encode())
        assert told.split(b" ", 2)[1] in {b"400", b"404", b"405"}, (path, told[:300])


def test_a_wrong_token_is_not_nobody(served: Served) -> None:
    """A token that nobody gave out is 401 in the shape that clients read, also where reading needs none."""
    answer = served.ask("GET", "/open/x/manifests/v1", headers={"Authorization": "Bearer wrong"})
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")


def test_slow_clients_hold_up_nobody(served: Served) -> None:
    """While many send a byte now and then, others are answered at once; what is slow comes to its end, too."""
    begun = [served.ask("POST", "/open/slow/blobs/uploads/").headers["location"] for _ in range(20)]
    sockets = []
    host, _, port = served.host.partition(":")
    for where in begun:
        connection = socket.create_connection((host, int(port)), timeout=30)
        head = f"PATCH {where} HTTP/1.1\r\nHost: {served.host}\r\nAuthorization: Bearer {served.token}\r\n"
        connection.sendall(f"{head}Content-Length: 3\r\n\r\na".encode())
        sockets.append(connection)
    started = time.monotonic()
    data = image(served, "open/quick", DATA)
    assert served.ask("PUT", "/open/quick/manifests/v1", data, MANIFEST_TYPE).status == 201
    assert served.ask("GET", f"/open/quick/blobs/{digest_of(DATA)}").body == DATA
    assert time.monotonic() - started < 10
    for connection in sockets:
        connection.sendall(b"bc")
        assert connection.recv(1000).startswith(b"HTTP/1.1 202")
        connection.close()


def test_many_pulls_at_once(served: Served) -> None:
    """Two hundred clients that pull the same blob at once all get it whole."""
    data = image(served, "open/popular", DATA)
    assert served.ask("PUT", "/open/popular/manifests/v1", data, MANIFEST_TYPE).status == 201
    where = f"/open/popular/blobs/{digest_of(DATA)}"
    with ThreadPoolExecutor(200) as threads:
        answers = list(threads.map(lambda _: served.ask("GET", where, seconds=120), range(200)))
    assert {one.status for one in answers} == {200}
    assert {digest_of(one.body) for one in answers} == {digest_of(DATA)}


@pytest.mark.thorough
def test_killed_while_it_takes_and_answers(tmp_path: Path) -> None:
    """Killed again and again during pushes it loses nothing that was answered, shows nothing half, and goes on."""
    home = tmp_path / "home"
    token = prepare(home)
    answered: dict[str, bytes] = {}
    for turn in range(4):
        with serving(home, token) as served:
            for tag, data in answered.items():
                found = served.ask("GET", f"/open/killed/manifests/{tag}")
                assert found.body == data
                layer = digest_of(bytes([int(tag[1:])]) * 500_000)
                assert served.ask("GET", f"/open/killed/blobs/{layer}").body[:1] == bytes([int(tag[1:])])
            shown = served.ask("GET", "/open/killed/tags/list")
            for tag in shown.json["tags"] if shown.status == 200 else ():
                assert served.ask("GET", f"/open/killed/manifests/{tag}").status == 200
            seconds = 0.15 + 0.13 * turn if answered or turn < 3 else 10  # a busy machine may have answered nothing yet
            timer = threading.Timer(seconds, served.kill)
            timer.start()
            _push_until_it_dies(served, turn, answered)
            timer.join()
    assert answered


def _push_until_it_dies(served: Served, turn: int, answered: dict[str, bytes]) -> None:
    for number in range(50):
        name = turn * 50 + number
        try:
            data = image(served, "open/killed", bytes([name]) * 500_000)
            if served.ask("PUT", f"/open/killed/manifests/v{name}", data, MANIFEST_TYPE).status == 201:
                answered[f"v{name}"] = data
        except (OSError, http.client.HTTPException):
            return  # killed, also in the middle of an answer


@pytest.mark.thorough
def test_an_upload_goes_on_after_a_kill(tmp_path: Path) -> None:
    """What came before the server was killed need not be sent again."""
    home = tmp_path / "home"
    token = prepare(home)
    host_path = ""
    with serving(home, token) as served:
        host_path = served.ask("POST", "/open/x/blobs/uploads/").headers["location"].removeprefix("/v2")
        assert served.ask("PATCH", host_path, DATA[:2_000_000]).status == 202
        served.kill()
    with serving(home, token) as served:
        assert served.ask("GET", host_path).headers["range"] == "0-1999999"
        digest = digest_of(DATA)
        answer = served.ask("PUT", f"{host_path}?digest={digest}", DATA[2_000_000:])
        assert answer.status == 201
        assert served.ask("GET", f"/open/x/blobs/{digest}").body == DATA


@pytest.mark.thorough
def test_fifty_uploads_at_once(served: Served) -> None:
    """Fifty uploads that run together stay under 200 MB of memory, all of the server included."""
    count, size = 50, 8_000_000
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, resident(served.process.pid))

    statuses: list[int] = []

    def push(number: int) -> None:
        data = number.to_bytes(4, "big") * (size // 4)
        answer = served.ask("POST", f"/open/many/blobs/uploads/?digest={digest_of(data)}", data, seconds=300)
        statuses.append(answer.status)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(count)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert statuses == [201] * count
    assert peak < 200_000_000


@pytest.mark.thorough
def test_a_waiver_releases_without_a_push(tmp_path: Path) -> None:
    """A server that runs notices an approved waiver by itself and shows what waited for it."""
    import gzip

    from image_builder import Tar
    from workplace import run

    home = tmp_path / "home"
    token = prepare(home)
    tar = Tar().file("data", "x").bytes()
    layer = gzip.compress(tar, mtime=0)
    settings = f'{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{digest_of(tar)}"]}}}}'
    with serving(home, token) as served:
        for data in (layer, settings.encode()):
            served.ask("POST", f"/team/app/blobs/uploads/?digest={digest_of(data)}", data)
        data = manifest(
            {"mediaType": documents.CONFIG, "digest": digest_of(settings.encode()), "size": len(settings)},
            [{"mediaType": documents.LAYER_GZIP, "digest": digest_of(layer), "size": len(layer)}],
        )
        denied = served.ask("PUT", "/team/app/manifests/1.0.0", data, MANIFEST_TYPE)
        assert (denied.status, denied.code) == (403, "DENIED")
        asked = run(
            home,
            *("waiver", "request", "--rule", "image.non-root", "--environment", "staging", "--reason", "shown"),
            *("--expires", _soon(), "--as", "alice", "--format", "json"),
        )
        assert asked.code == 0, asked.err
        assert run(home, "waiver", "approve", asked.json["id"], "--as", "bob").code == 0
        until(lambda: served.ask("GET", "/team/app/manifests/1.0.0").status == 200, seconds=60)


def _soon() -> str:
    import datetime as dt

    from tidewaiter.core import clock

    return (clock.now() + dt.timedelta(days=5)).date().isoformat()
