"""Our registry client against Debian's docker-registry, with skopeo as the witness."""

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from images import make_image
from servers import StartRegistry, Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, LimitError, NetworkError, NotFoundError
from tidewaiter.distribution import attached, credentials
from tidewaiter.distribution.pull import pull
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import layer as layers
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Index, Platform
from tidewaiter.transport.client import Client

pytestmark = pytest.mark.interop


def repository(client: Client, host: str, name: str) -> Repository:
    return Registry(client, host, plain_http=frozenset({host})).repository(name)


def skopeo(tool: Tool, *arguments: str) -> str:
    return subprocess.run([tool("skopeo"), *arguments], check=True, capture_output=True, text=True).stdout


def test_skopeo_reads_what_we_push(tmp_path: Path, docker_registry: str, tool: Tool) -> None:
    """A pushed image has the same digest and the same bytes for skopeo."""
    layout, image = make_image(tmp_path / "store")
    with Client() as client:
        result = push(layout, image, repository(client, docker_registry, "team/app"), tags=["1.0", "stable"])
    assert result.digest == image.digest
    assert result.sent_bytes > 200_000
    for tag in ("1.0", "stable"):
        seen = skopeo(tool, "inspect", "--tls-verify=false", f"docker://{docker_registry}/team/app:{tag}")
        assert json.loads(seen)["Digest"] == image.digest
    copy = tmp_path / "copy"
    skopeo(tool, "copy", "--src-tls-verify=false", f"docker://{docker_registry}/team/app:1.0", f"oci:{copy}:x")
    assert Layout(copy).resolve("x").digest == image.digest
    assert set(Layout(copy).blobs()) == set(layout.blobs())


def test_a_second_push_sends_nothing(tmp_path: Path, docker_registry: str) -> None:
    """Blobs that are there are skipped; in a sister repository they are mounted."""
    layout, image = make_image(tmp_path / "store")
    with Client() as client:
        first = push(layout, image, repository(client, docker_registry, "again/one"), tags=["t"])
        second = push(layout, image, repository(client, docker_registry, "again/one"), tags=["t"])
        third = push(
            layout, image, repository(client, docker_registry, "again/two"), tags=["t"], mount_from=["again/one"]
        )
    assert (second.sent_bytes, second.skipped_bytes) == (0, first.sent_bytes)
    assert (third.sent_bytes, third.mounted_bytes) == (0, first.sent_bytes)


def test_a_remote_image_is_read_like_a_local_one(tmp_path: Path, docker_registry: str) -> None:
    """`image.load` works on a repository: config, diff IDs and layer contents are the store's."""
    layout, image = make_image(tmp_path / "store")
    with Client() as client:
        remote = repository(client, docker_registry, "remote/app")
        push(layout, image, remote, tags=["t"])
        loaded = images.load(remote, remote.resolve("t"))
        assert loaded.digest == image.digest
        for descriptor, diff_id in loaded.layers:
            with loaded.source.open(descriptor.digest) as blob:
                reader = layers.read_layer(blob)
                names = [entry.path for entry, _ in reader]
            assert reader.diff_id == diff_id
            assert "data" in names
        config = layout.read(loaded.manifest.config.digest)
        assert remote.read(loaded.manifest.config.digest) == config


def test_an_index_is_pushed_children_first_and_followed(tmp_path: Path, docker_registry: str, tool: Tool) -> None:
    """A multi-platform index arrives whole; loading it picks the platform."""
    layout, amd64 = make_image(tmp_path / "store")
    _, arm64 = make_image(tmp_path / "store", sizes=(10,))
    children = [
        msgspec.structs.replace(amd64, platform=Platform(architecture="amd64", os="linux")),
        msgspec.structs.replace(arm64, platform=Platform(architecture="arm64", os="linux")),
    ]
    data = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=children))
    index = documents.Descriptor(media_type=documents.INDEX, digest=layout.put(data), size=len(data))
    with Client() as client:
        remote = repository(client, docker_registry, "index/app")
        push(layout, index, remote, tags=["multi"])
        assert images.load(remote, remote.resolve("multi")).digest == amd64.digest
        assert images.load(remote, remote.resolve("multi"), architecture="arm64").digest == arm64.digest
    raw = skopeo(tool, "inspect", "--raw", "--tls-verify=false", f"docker://{docker_registry}/index/app:multi")
    assert digests.of(raw.encode()) == index.digest


def test_pull_fetches_only_what_is_missing(tmp_path: Path, docker_registry: str) -> None:
    """A pulled image is complete and intact; pulling repairs a damaged blob and leaves the rest."""
    layout, image = make_image(tmp_path / "store")
    target = Layout(tmp_path / "target")
    with Client() as client:
        remote = repository(client, docker_registry, "pull/app")
        push(layout, image, remote, tags=["t"])
        pulled = pull(remote, "t", target)
        assert pulled.digest == image.digest
        assert set(target.blobs()) == set(layout.blobs())
        kept, damaged = (target.blob_path(layer.digest) for layer in pulled.manifest.layers)
        before = kept.stat().st_ino
        damaged.write_bytes(b"damaged")
        pull(remote, image.digest, target)
    assert all(target.verify(layer) for layer in pulled.manifest.layers)
    assert kept.stat().st_ino == before


def test_absent_things_are_not_found(tmp_path: Path, docker_registry: str) -> None:
    """A missing tag, repository, blob or attachment is "not found", not a network error."""
    layout, image = make_image(tmp_path / "store")
    with Client() as client:
        remote = repository(client, docker_registry, "absent/app")
        with pytest.raises(NotFoundError):
            remote.tags()
        push(layout, image, remote, tags=["t"])
        unknown = digests.of(b"unknown")
        with pytest.raises(NotFoundError):
            remote.manifest("nope")
        with pytest.raises(NotFoundError):
            remote.manifest(unknown)
        with pytest.raises(NotFoundError):
            remote.open(unknown)
        with pytest.raises(NotFoundError):
            remote.read(unknown)
        assert not remote.has_blob(unknown)
        assert not remote.has_manifest("nope")
        assert remote.has_manifest("t")
        assert attached.find(remote, image.digest, "sig") is None


def test_all_pages_of_tags_are_read(tmp_path: Path, docker_registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags over several pages come back complete and sorted; the bound on their number holds from both sides."""
    layout, image = make_image(tmp_path / "store", sizes=(1,))
    names = sorted(f"t{number:02}" for number in range(7))
    monkeypatch.setattr(limits, "TAG_PAGE", 3)
    with Client() as client:
        remote = repository(client, docker_registry, "many/tags")
        push(layout, image, remote, tags=names)
        monkeypatch.setattr(limits, "TAGS", 7)
        assert remote.tags() == names
        monkeypatch.setattr(limits, "TAGS", 6)
        with pytest.raises(LimitError):
            remote.tags()


def test_a_damaged_store_blob_is_not_pushed(tmp_path: Path, docker_registry: str) -> None:
    """A blob whose bytes changed in the store is named as damaged; no tag appears."""
    layout, image = make_image(tmp_path / "store")
    layer = images.load(layout, image).manifest.layers[1]
    path = layout.blob_path(layer.digest)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with Client() as client:
        remote = repository(client, docker_registry, "damaged/app")
        with pytest.raises(IntegrityError, match="is damaged"):
            push(layout, image, remote, tags=["t"])
        assert not remote.has_manifest("t")
        path.unlink()
        with pytest.raises(NotFoundError):
            push(layout, image, remote, tags=["t"])


def test_ctrl_c_during_a_push_leaves_no_tag_and_the_next_push_goes_on(tmp_path: Path, docker_registry: str) -> None:
    """An interrupt stops the uploads; afterwards the same push succeeds."""
    layout, image = make_image(tmp_path / "store", sizes=(5_000_000, 10))
    remote_name = "interrupted/app"

    class Interrupting:
        @contextmanager
        def task(self, title: str, *, total: int | None = None, unit: str = "items") -> Iterator["Interrupting"]:
            yield self

        def note(self, text: str) -> None:
            pass

        def describe(self, text: str) -> None:
            pass

        def advance(self, amount: int = 1) -> None:
            raise KeyboardInterrupt

    with Client() as client:
        remote = repository(client, docker_registry, remote_name)
        with pytest.raises(KeyboardInterrupt):
            push(layout, image, remote, tags=["t"], progress=Interrupting())
        assert not remote.has_manifest("t")
        assert push(layout, image, remote, tags=["t"]).digest == image.digest


# bcrypt of "tide-Water:1"
_HTPASSWD = "captain:$2b$04$2TeyYC4HoBnq7TkeNUvV5egONLic57/CEPRDuiZf96GkauMnnMinK\n"


def test_a_password_from_dockers_config_opens_the_registry(
    tmp_path: Path, start_docker_registry: StartRegistry
) -> None:
    """Basic credentials are sent when asked for; without or with wrong ones the error says to log in."""
    layout, image = make_image(tmp_path / "store")
    (tmp_path / "htpasswd").write_text(_HTPASSWD)
    more = f"auth: {{htpasswd: {{realm: here, path: {tmp_path / 'htpasswd'}}}}}\n"
    with start_docker_registry(more) as host, Client() as client:

        def registry(password: str) -> Registry:
            secret = base64.b64encode(f"captain:{password}".encode()).decode()
            (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))
            known = credentials.load(tmp_path / "config.json")
            return Registry(client, host, plain_http=frozenset({host}), credentials=known)

        good = registry("tide-Water:1")
        good.ping()
        assert push(layout, image, good.repository("a/b"), tags=["t"]).digest == image.digest
        assert pull(good.repository("a/b"), "t", Layout(tmp_path / "target")).digest == image.digest
        anonymous = Registry(client, host, plain_http=frozenset({host}))
        for refused in (registry("wrong"), anonymous):
            with pytest.raises(NetworkError) as caught:
                refused.repository("a/b").manifest("t")
            assert caught.value.code == "registry_unauthorized"
            with pytest.raises(NetworkError):
                refused.ping()
            assert "wrong" not in str(caught.value)


def test_tls_is_not_given_up(docker_registry: str) -> None:
    """A host that is not listed for plain HTTP is spoken to with TLS only, even when it answers HTTP."""
    with Client(attempts=1) as client:
        unlisted = Registry(client, docker_registry).repository("any/thing")
        with pytest.raises(NetworkError):
            unlisted.manifest("t")
