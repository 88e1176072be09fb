"""Every registry with every kind of content, with skopeo, crane, regctl and oras as witnesses in both directions."""

from collections.abc import Iterator
from pathlib import Path

import contents
import peers
import pytest
import real_registries
from real_registries import RealRegistry, ask

from images import make_image
from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import NetworkError, NotFoundError
from tidewaiter.distribution.pull import pull
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.transport.client import Client

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module", params=real_registries.NAMES)
def registry(
    request: pytest.FixtureRequest, tool: Tool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealRegistry]:
    with real_registries.start(request.param, tool, tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as one:
        yield one


def repository(client: Client, registry: RealRegistry, name: str) -> Repository:
    return Registry(client, registry.host, plain_http=frozenset({registry.host})).repository(name)


# What a tool cannot do with a kind of content: skopeo reads layouts of OCI manifests only.
CANNOT_PUSH = {("skopeo", "docker")}


@pytest.mark.parametrize("kind", contents.KINDS)
def test_others_read_what_we_push(
    tmp_path: Path, registry: RealRegistry, client: Client, tool: Tool, kind: str
) -> None:
    """What we push is in the registry byte for byte, and each tool fetches exactly that."""
    layout, image = contents.KINDS[kind](tmp_path / "ours")
    remote = repository(client, registry, f"ours/{kind}")
    if subject := contents.subject(layout, image):
        push(layout, subject, remote)
    assert push(layout, image, remote, tags=["1.0"]).digest == image.digest
    expected = contents.contents(layout, image)
    for digest, data in expected.items():
        place = "manifests" if contents.is_manifest(data) else "blobs"
        url = f"http://{registry.host}/v2/ours/{kind}/{place}/{digest}"
        status, _, body = ask(url, headers={"Accept": f"{image.media_type}, {documents.MANIFEST}"})
        assert (status, body) == (200, data)
    for name, fetch in peers.PULL.items():
        copy = Layout(tmp_path / name)
        fetch(tool, copy.path, f"{registry.host}/ours/{kind}", "1.0")
        fetched = {digest: copy.blob_path(digest).read_bytes() for digest in copy.blobs()}
        assert {digest: fetched.get(digest) for digest in expected} == expected, name


@pytest.mark.parametrize("kind", contents.KINDS)
def test_we_read_what_others_push(
    tmp_path: Path, registry: RealRegistry, client: Client, tool: Tool, kind: str
) -> None:
    """What each tool pushes is for us, under its tag and by digest, byte for byte what it pushed."""
    layout, image = contents.KINDS[kind](tmp_path / "theirs")
    layout.tag("1.0", image)
    for name, send in peers.PUSH.items():
        if (name, kind) in CANNOT_PUSH:
            continue
        send(tool, layout.path, f"{registry.host}/theirs/{kind}-{name}", "1.0")
        remote = repository(client, registry, f"theirs/{kind}-{name}")
        assert remote.resolve("1.0").digest == image.digest, name
        for digest, data in contents.contents(layout, image).items():
            if contents.is_manifest(data):
                assert remote.manifest(digest).data == data
            else:
                with remote.open(digest) as blob:
                    assert blob.read() == data


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_sha512_where_the_registry_takes_it(tmp_path: Path, registry: RealRegistry, client: Client, by: str) -> None:
    """Blobs and manifests under sha512 digests come back; a registry that refuses such a manifest is quoted."""
    layout, image = contents.sha512(tmp_path / "ours")
    remote = repository(client, registry, f"sha512/{by}")
    if by == "digest" and not registry.sha512_manifests:
        with pytest.raises(NetworkError, match="DIGEST_INVALID"):
            push(layout, image, remote)
        assert not remote.has_manifest(image.digest)
    else:
        push(layout, image, remote, tags=["1.0"] if by == "tag" else [])
        found = remote.manifest("1.0" if by == "tag" else image.digest)
        assert found.data == layout.read(image.digest)
    for digest, data in contents.contents(layout, image).items():
        if digest != image.digest:
            assert digest.startswith("sha512:")
            with remote.open(digest) as blob:
                assert blob.read() == data


def test_a_mount_or_a_refused_mount(tmp_path: Path, registry: RealRegistry, client: Client) -> None:
    """A sister repository's blobs are mounted, or sent where the registry refuses; either way the image is there."""
    layout, image = make_image(tmp_path / "ours", sizes=(50_000,))
    first = push(layout, image, repository(client, registry, "mount/one"), tags=["t"])
    second = push(
        layout, image, repository(client, registry, "mount/two"), tags=["t"], mount_from=["mount/none", "mount/one"]
    )
    moved = {"mounted": second.mounted_bytes, "sent": second.sent_bytes, "skipped": second.skipped_bytes}
    if registry.mounts:
        assert moved == {"mounted": first.sent_bytes, "sent": 0, "skipped": 0}
    else:
        # Its repositories share one heap of blobs.
        assert moved == {"mounted": 0, "sent": 0, "skipped": first.sent_bytes}
        assert not repository(client, registry, "mount/two").mount(image.digest, "mount/one")
    assert pull(repository(client, registry, "mount/two"), "t", Layout(tmp_path / "back")).digest == image.digest


def test_deletion(tmp_path: Path, registry: RealRegistry, client: Client) -> None:
    """A tag, a manifest and a blob go where the registry lets them go; a refusal leaves everything."""
    layout, image = make_image(tmp_path / "ours", sizes=(100,))
    remote = repository(client, registry, "delete/app")
    push(layout, image, remote, tags=["one", "two"])
    if registry.deletes_tags:
        remote.delete_manifest("one")
        assert remote.tags() == ["two"]
    else:
        with pytest.raises(NetworkError, match="answered 400: DIGEST_INVALID"):
            remote.delete_manifest("one")
        assert remote.tags() == ["one", "two"]
    assert remote.has_manifest("two")
    assert remote.has_manifest(image.digest)
    remote.delete_manifest(image.digest)
    assert not remote.has_manifest(image.digest)
    if registry.digest_takes_tags:
        assert remote.tags() == []
    with pytest.raises(NotFoundError):
        remote.delete_manifest(image.digest)
    layer = images.load(layout, image).manifest.layers[0].digest
    remote.delete_blob(layer)
    assert not remote.has_blob(layer)


def test_250_tags_and_repositories_in_pages(
    tmp_path: Path, registry: RealRegistry, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tags and all repositories are listed however the registry pages, and the fallback tag is one of them."""
    monkeypatch.setattr(limits, "TAG_PAGE", 40)
    layout, image = make_image(tmp_path / "ours", sizes=(10,))
    names = sorted(f"v{number}" for number in range(250))
    remote = repository(client, registry, "many/tags")
    push(layout, image, remote, tags=names)
    assert remote.tags() == names
    others = {f"catalog/{number:02}" for number in range(45)}
    data = layout.read(image.digest)
    for name in sorted(others):
        sister = repository(client, registry, name)
        for digest in contents.contents(layout, image):
            if digest != image.digest and not sister.mount(digest, "many/tags"):
                assert sister.has_blob(digest)
        sister.put_manifest("t", data, image.media_type)
    if not registry.pages_catalog:
        # It gives the first `n` in no order and no way on, so one page must do.
        monkeypatch.setattr(limits, "TAG_PAGE", 1000)
    listed = remote.registry.repositories()
    assert set(listed) >= others | {"many/tags"}
    assert listed == sorted(set(listed))


def test_referrers_by_api_or_fallback_tag(tmp_path: Path, registry: RealRegistry, client: Client, tool: Tool) -> None:
    """Referrers that we push are found by us, oras and regctl, and theirs by us; a deleted one is gone."""
    layout, image = make_image(tmp_path / "ours", sizes=(10,))
    ours = contents.report_on(layout, image)
    remote = repository(client, registry, "refer/app")
    push(layout, image, remote, tags=["1.0"])
    assert remote.referrers(image.digest) == ()
    push(layout, ours, remote)
    target = f"{registry.host}/refer/app@{image.digest}"
    peers.oras_attach(tool, tmp_path, target, "application/x.harbour.note")
    found = {entry.digest: entry for entry in remote.referrers(image.digest)}
    assert len(found) == 2
    assert ours.digest in found
    assert all(entry.annotations for entry in found.values())
    # go-containerregistry's API takes the config's media type for the artifact type.
    shown = documents.EMPTY if registry.referrers else contents.REPORT
    assert ours.digest in {entry.digest for entry in remote.referrers(image.digest, shown)}
    assert remote.referrers(image.digest, "application/x.unknown") == ()
    assert peers.oras_referrers(tool, target) == set(found)
    assert peers.regctl_referrers(tool, target) == set(found)
    # None of these registries says `OCI-Subject`, so whoever pushes a referrer keeps the fallback tag.
    assert image.digest.replace(":", "-") in remote.tags()
    remote.delete_manifest(ours.digest)
    assert {entry.digest for entry in remote.referrers(image.digest)} == set(found) - {ours.digest}


def test_chunks(tmp_path: Path, registry: RealRegistry, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob over UPLOAD_CHUNK_BYTES arrives whole in several chunks."""
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", 50_000)
    layout, image = make_image(tmp_path / "ours", sizes=(175_000,))
    remote = repository(client, registry, "chunks/app")
    push(layout, image, remote, tags=["t"])
    assert pull(remote, "t", Layout(tmp_path / "back")).digest == image.digest


@pytest.mark.parametrize("program", real_registries.DISTRIBUTION.values())
def test_relative_locations(
    tmp_path: Path, tool: Tool, client: Client, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """Uploads go on where a relative Location says, in one piece and in chunks."""
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", 50_000)
    layout, image = make_image(tmp_path / "ours", sizes=(100, 120_000))
    folder = tmp_path / "registry"
    folder.mkdir()
    with real_registries.docker_registry(tool(program), folder, http="relativeurls: true") as host:
        _, headers, _ = ask(f"http://{host}/v2/a/b/blobs/uploads/", method="POST", data=b"")
        assert headers["location"].startswith("/v2/")
        remote = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
        assert push(layout, image, remote, tags=["t"]).digest == image.digest
        assert pull(remote, "t", Layout(tmp_path / "back")).digest == image.digest
