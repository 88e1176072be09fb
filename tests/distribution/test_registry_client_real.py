"""The registry client against Debian's docker-registry: TLS, passwords, proxies, chunks, ranges, deletion, catalog."""

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forward_proxy
from authority import Authority
from images import make_image
from servers import Serve, StartRegistry
from tidewaiter.core import limits
from tidewaiter.core.errors import NetworkError, NotFoundError
from tidewaiter.distribution import credentials
from tidewaiter.distribution.copy import copy
from tidewaiter.distribution.pull import pull
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.distribution.registry_place import RegistryPlace
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.transport.client import Client, Response
from tidewaiter.transport.proxies import Proxies
from tidewaiter.transport.tls import Trust

pytestmark = pytest.mark.interop

# bcrypt of "tide-Water:1"
_HTPASSWD = "captain:$2b$04$2TeyYC4HoBnq7TkeNUvV5egONLic57/CEPRDuiZf96GkauMnnMinK\n"


def repository(client: Client, host: str, name: str, locks: Path | None = None) -> Repository:
    return Registry(client, host, plain_http=frozenset({host}), lock_directory=locks).repository(name)


def blob_of(data: bytes, algorithm: str = "sha256") -> Descriptor:
    digest = Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    return Descriptor(media_type="application/octet-stream", digest=digest, size=len(data))


def test_tls_of_an_own_authority_with_a_password_through_a_proxy(
    tmp_path: Path, start_docker_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own CA and client certificate from `certs.d`, the password from config.json, all inside the proxy's tunnel."""
    authority = Authority(tmp_path / "ca")
    server, captain = authority.issue("server"), authority.issue("captain")
    (tmp_path / "htpasswd").write_text(_HTPASSWD)
    monkeypatch.setenv("REGISTRY_HTTP_TLS_CERTIFICATE", str(server.certificate))
    monkeypatch.setenv("REGISTRY_HTTP_TLS_KEY", str(server.key))
    monkeypatch.setenv("REGISTRY_HTTP_TLS_CLIENTCAS", f"[{authority.certificate}]")
    more = f"auth: {{htpasswd: {{realm: here, path: {tmp_path / 'htpasswd'}}}}}\n"
    layout, image = make_image(tmp_path / "store")
    asked: forward_proxy.Asked = []
    with start_docker_registry(more) as host, forward_proxy.running(asked) as proxy:
        folder = tmp_path / "certs.d" / host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
        secret = base64.b64encode(b"captain:tide-Water:1").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))
        known = credentials.load(tmp_path / "config.json")
        trust = Trust(hosts=tmp_path / "certs.d")
        through = Proxies(https=f"http://{proxy}")
        with Client(trust=trust, through=through, attempts=1) as client, pytest.raises(NetworkError):
            Registry(client, host, credentials=known).ping()  # no client certificate yet
        (folder / "client.cert").write_bytes(captain.certificate.read_bytes())
        (folder / "client.key").write_bytes(captain.key.read_bytes())
        with Client(trust=trust, through=through) as client:
            remote = Registry(client, host, credentials=known).repository("safe/app")
            assert push(layout, image, remote, tags=["t"]).digest == image.digest
            assert pull(remote, "t", Layout(tmp_path / "target")).digest == image.digest
            with pytest.raises(NetworkError) as caught:
                Registry(client, host).repository("safe/app").manifest("t")
            assert caught.value.code == "registry_unauthorized"
    assert {what for what, _ in asked} == {f"CONNECT {host}"}


class _Noting(Client):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def request(self, method: str, url: str, **more: Any) -> Response:
        self.asked.append(f"{method} {url.partition('/v2/')[2]}")
        return super().request(method, url, **more)


def test_a_copy_that_finds_everything_there_asks_twice(docker_registry: str, tmp_path: Path) -> None:
    """What the source's tag means, and whether the target's means the same; then nothing is read again."""
    layout, image = make_image(tmp_path / "store")
    with _Noting() as client:
        source = repository(client, docker_registry, "twice/from")
        target = repository(client, docker_registry, "twice/to")
        for remote in (source, target):
            push(layout, image, remote, tags=["t"])
        client.asked.clear()
        done = copy(RegistryPlace(source), RegistryPlace(target), source.resolve("t"), tags=["t"])
        assert client.asked == ["GET twice/from/manifests/t", "HEAD twice/to/manifests/t"]
    assert done.skipped.blobs == len({layer.digest for layer in images.load(layout, image).manifest.layers}) + 1


def test_what_came_last_is_asked_for_again_when_it_is_to_be_resolved(docker_registry: str, tmp_path: Path) -> None:
    """A tag that moved is seen; only reading by digest what has just come is free."""
    layout, first = make_image(tmp_path / "store")
    _, second = make_image(tmp_path / "store", sizes=(5,))
    with _Noting() as client:
        remote = repository(client, docker_registry, "moves/app")
        push(layout, first, remote, tags=["t"])
        assert remote.resolve("t").digest == first.digest
        push(layout, second, remote, tags=["t"])
        assert remote.resolve("t").digest == second.digest
        client.asked.clear()
        assert remote.read(second.digest) == layout.read(second.digest)
        assert client.asked == []
        assert remote.read(first.digest) == layout.read(first.digest)
        assert client.asked == [f"GET moves/app/manifests/{first.digest}"]


def test_chunks_and_ranges(docker_registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob sent in chunks arrives whole; from an offset on, only the rest is read."""
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", 1_000_000)
    data = os.urandom(3_500_001)
    blob = blob_of(data)
    with Client() as client:
        remote = repository(client, docker_registry, "chunks/app")
        remote.push_blob(blob, lambda: [data[start : start + 300_000] for start in range(0, len(data), 300_000)])
        assert remote.has_blob(blob.digest)
        sink = io.BytesIO()
        remote.download(blob, sink)
        assert sink.getvalue() == data
        with remote.open(blob.digest, offset=3_000_000) as file:
            assert file.read() == data[3_000_000:]
        assert b"".join(remote.pieces(blob, blob.size)) == b""
        assert repository(client, docker_registry, "chunks/other").mount(blob.digest, "chunks/app")


def test_a_cut_chunk_reaches_the_registry_in_the_end(
    docker_registry: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that fails once in the middle of a chunk, and with it the connection, does not lose the upload."""
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", 1_000_000)
    data = os.urandom(2_500_000)
    blob = blob_of(data)
    calls = 0

    with Client(pause=lambda _: None) as client:

        def pieces() -> Iterator[bytes]:
            nonlocal calls
            calls += 1
            for start in range(0, len(data), 100_000):
                if calls == 1 and start == 1_500_000:
                    client.interrupt()
                yield data[start : start + 100_000]

        remote = repository(client, docker_registry, "cut/app")
        remote.push_blob(blob, pieces)
        assert calls > 1
        assert b"".join(remote.pieces(blob)) == data


def test_sha512_blobs(docker_registry: str) -> None:
    """A blob of a sha512 digest is sent, found, read and verified."""
    data = os.urandom(100_000)
    blob = blob_of(data, "sha512")
    with Client() as client:
        remote = repository(client, docker_registry, "long/app")
        remote.push_blob(blob, lambda: [data])
        assert b"".join(remote.pieces(blob)) == data
        assert remote.read(blob.digest) == data


def test_the_catalog_and_deletion(tmp_path: Path, docker_registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repositories are listed over pages; a deleted manifest and blob are gone, and gone things are not found."""
    monkeypatch.setattr(limits, "TAG_PAGE", 2)
    layout, image = make_image(tmp_path / "store", sizes=(10,))
    names = [f"catalog/{number}" for number in range(5)]
    with Client() as client:
        for name in names:
            push(layout, image, repository(client, docker_registry, name), tags=["t"])
        listed = Registry(client, docker_registry, plain_http=frozenset({docker_registry})).repositories()
        assert set(names) <= set(listed)
        remote = repository(client, docker_registry, names[0])
        remote.delete_manifest(image.digest)
        assert not remote.has_manifest("t")
        with pytest.raises(NotFoundError):
            remote.delete_manifest(image.digest)
        blob = next(digest for digest in layout.blobs() if digest != image.digest)
        remote.delete_blob(blob)
        assert not remote.has_blob(blob)
        with pytest.raises(NotFoundError):
            remote.delete_blob(blob)


def test_referrers_by_the_fallback_tag(tmp_path: Path, docker_registry: str) -> None:
    """A registry without the referrers API gets the index under the tag, and gives it back."""
    layout, image = make_image(tmp_path / "store", sizes=(10,))
    empty = Descriptor(media_type=documents.EMPTY, digest=digests.of(b"{}"), size=2)
    data = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            artifact_type="application/spdx+json",
            config=empty,
            layers=[empty],
            subject=image,
            annotations={"org.example": "kept"},
        )
    )
    with Client() as client:
        remote = repository(client, docker_registry, "refer/app", tmp_path / "locks")
        push(layout, image, remote, tags=["t"])
        assert remote.referrers(image.digest) == ()
        remote.push_blob(empty, lambda: [b"{}"])
        remote.put_manifest(digests.of(data), data, documents.MANIFEST)
        (found,) = remote.referrers(image.digest, "application/spdx+json")
        assert (found.digest, found.annotations) == (digests.of(data), {"org.example": "kept"})
        assert remote.referrers(image.digest, "other/type") == ()
        assert image.digest.replace(":", "-") in remote.tags()
        remote.delete_manifest(digests.of(data))
        assert remote.referrers(image.digest) == ()


_PULL = """
import sys
from pathlib import Path
from tidewaiter.distribution.registry import Registry
from tidewaiter.distribution.transfer import in_parallel
from tidewaiter.transport.client import Client, Response

host = sys.argv[1]
with Client() as client:
    remote = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
    print("ready", flush=True)
    in_parallel(lambda number, stop: remote.has_blob("sha256:" + str(number) * 64), [1, 2, 3], threads=3)
"""


def test_ctrl_c_ends_a_pull_from_a_silent_registry(serve: Serve) -> None:
    """Workers that hang on a server without an answer do not hold the command for more than two seconds."""
    host = serve(lambda _: time.sleep(20)).removeprefix("http://")
    process = subprocess.Popen([sys.executable, "-c", _PULL, host], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.7)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert time.monotonic() - start < 2
        assert b"KeyboardInterrupt" in errors
    finally:
        process.kill()
        process.wait()
