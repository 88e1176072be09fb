"""The copy engine between layouts and archives: byte for byte, resumable, nothing half-written."""

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from images import make_image
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NetworkError, NotFoundError
from tidewaiter.distribution import attached
from tidewaiter.distribution.archive_place import ArchiveSource, ArchiveTarget
from tidewaiter.distribution.blob_places import BlobPlaces
from tidewaiter.distribution.copy import choose, copy, parse_platform
from tidewaiter.distribution.layout_place import LayoutPlace, fallback_tag
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.archive import open_archive
from tidewaiter.oci.archive_writer import ArchiveNames, ArchiveWriter
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index, Manifest, Platform
from tidewaiter.oci.reference import ArchiveReference


def put_manifest(layout: Layout, document: Manifest | Index) -> Descriptor:
    data = documents.encode(document)
    return Descriptor(media_type=document.media_type or documents.MANIFEST, digest=layout.put(data), size=len(data))


def artifact(layout: Layout, content: bytes, *, subject: Descriptor | None = None) -> Descriptor:
    """An artifact of a type that nobody knows."""
    empty = Descriptor(media_type=documents.EMPTY, digest=layout.put(b"{}"), size=2)
    blob = Descriptor(media_type="application/vnd.example.odd", digest=layout.put(content), size=len(content))
    return put_manifest(
        layout,
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            artifact_type="application/vnd.example.thing",
            config=empty,
            layers=[blob],
            subject=subject,
            annotations={"com.example.note": "kept"},
        ),
    )


def platforms(folder: Path) -> tuple[Layout, Descriptor, Descriptor, Descriptor]:
    """An index with amd64, a nested index with arm64, an attestation of unknown platform, and a plain blob."""
    layout, amd64 = make_image(folder)
    _, arm64 = make_image(folder, sizes=(10,))
    nested = put_manifest(
        layout,
        Index(
            schema_version=2,
            media_type=documents.INDEX,
            manifests=[msgspec.structs.replace(arm64, platform=Platform(architecture="arm64", os="linux"))],
        ),
    )
    attestation = msgspec.structs.replace(
        artifact(layout, b"attestation"),
        platform=Platform(architecture="unknown", os="unknown"),
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    note = b"a file that an index lists"
    blob = Descriptor(media_type="text/plain", digest=layout.put(note), size=len(note))
    root = put_manifest(
        layout,
        Index(
            schema_version=2,
            media_type=documents.INDEX,
            manifests=[
                msgspec.structs.replace(amd64, platform=Platform(architecture="amd64", os="linux")),
                nested,
                attestation,
                blob,
            ],
        ),
    )
    return layout, root, amd64, arm64


def into(folder: Path) -> LayoutPlace:
    layout = Layout(folder)
    layout.create()
    return LayoutPlace(layout)


def test_an_index_is_copied_whole_and_byte_for_byte(tmp_path: Path) -> None:
    """Nested indexes, attestations, unknown artifact types and plain blobs arrive with their digests."""
    layout, root, _, _ = platforms(tmp_path / "from")
    target = into(tmp_path / "to")
    done = copy(LayoutPlace(layout), target, root, tags=["all"])
    assert set(target.layout.blobs()) == set(layout.blobs())
    assert target.layout.resolve("all").digest == root.digest
    assert done.manifests == 5
    assert done.sent.blobs + done.manifests == len(set(layout.blobs()))
    again = copy(LayoutPlace(layout), into(tmp_path / "to"), root, tags=["all"])
    assert (again.sent.blobs, again.skipped) == (0, done.sent)


def test_one_platform_is_taken_out_of_an_index(tmp_path: Path) -> None:
    """A platform is found in the index or in one nested in it; what is not there is not found, by name."""
    layout, root, amd64, arm64 = platforms(tmp_path / "from")
    source = LayoutPlace(layout)
    assert choose(source, root, parse_platform("linux/amd64")).digest == amd64.digest
    assert choose(source, root, parse_platform("linux/arm64")).digest == arm64.digest
    assert choose(source, root, None) == root
    with pytest.raises(NotFoundError, match=r"no linux/s390x image"):
        choose(source, amd64_only(layout, amd64), parse_platform("linux/s390x"))
    for wrong in ("linux", "linux/", "a/b/c/d", "linux/amd64;x"):
        with pytest.raises(InputError, match="not a platform"):
            parse_platform(wrong)


def amd64_only(layout: Layout, amd64: Descriptor) -> Descriptor:
    child = msgspec.structs.replace(amd64, platform=Platform(architecture="amd64", os="linux"))
    return put_manifest(layout, Index(schema_version=2, media_type=documents.INDEX, manifests=[child]))


def test_indexes_nested_too_deep_are_refused(tmp_path: Path) -> None:
    """INDEX_DEPTH indexes in one another are copied, one more is refused before anything is written."""
    layout, image = make_image(tmp_path / "from", sizes=(10,))
    root = image
    for _ in range(limits.INDEX_DEPTH - 1):
        root = put_manifest(layout, Index(schema_version=2, media_type=documents.INDEX, manifests=[root]))
    copy(LayoutPlace(layout), into(tmp_path / "to"), root)
    deeper = put_manifest(layout, Index(schema_version=2, media_type=documents.INDEX, manifests=[root]))
    target = into(tmp_path / "refused")
    with pytest.raises(InputError, match="nested deeper"):
        copy(LayoutPlace(layout), target, deeper)
    assert list(target.layout.blobs()) == []


def test_what_refers_to_an_image_comes_along_on_request(tmp_path: Path) -> None:
    """Referrers of any depth and cosign's tags are copied, and found again by a copy of the copy."""
    layout, image = make_image(tmp_path / "from", sizes=(10,))
    layout.tag("v1", image)
    sbom = artifact(layout, b"sbom", subject=image)
    about_sbom = artifact(layout, b"signature of the sbom", subject=sbom)
    layout.list_unnamed(sbom)
    layout.list_unnamed(about_sbom)
    signature = artifact(layout, b"cosign")
    layout.tag(attached.tag(image.digest, "sig"), signature)
    first = into(tmp_path / "first")
    assert copy(LayoutPlace(layout), into(tmp_path / "plain"), image, tags=["v1"]).referrers == ()
    done = copy(LayoutPlace(layout), first, image, tags=["v1"], referrers=True)
    assert set(done.referrers) == {sbom.digest, about_sbom.digest, signature.digest}
    assert set(first.layout.blobs()) == set(layout.blobs())
    assert first.layout.resolve(None).digest == image.digest
    again = copy(LayoutPlace(first.layout), into(tmp_path / "second"), image, tags=["v1"], referrers=True)
    assert set(again.referrers) == set(done.referrers)
    listed = json.loads((tmp_path / "first/index.json").read_bytes())["manifests"]
    assert {one.get("artifactType") for one in listed if "annotations" not in one} == {"application/vnd.example.thing"}


def test_the_fallback_index_is_read(tmp_path: Path) -> None:
    """A layout that lists referrers under the fallback tag, as regctl writes them, is understood."""
    layout, image = make_image(tmp_path / "from", sizes=(10,))
    sbom = artifact(layout, b"sbom", subject=image)
    stray = artifact(layout, b"of another image")
    listing = put_manifest(layout, Index(schema_version=2, media_type=documents.INDEX, manifests=[sbom, stray]))
    layout.tag(fallback_tag(image.digest), listing)
    assert [one.digest for one in LayoutPlace(layout).referrers(image.digest)] == [sbom.digest]


def test_referrers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REFERRERS_COPIED referrers are copied, one more is an error that says how to go on."""
    layout, image = make_image(tmp_path / "from", sizes=(10,))
    for number in range(3):
        layout.list_unnamed(artifact(layout, f"{number}".encode(), subject=image))
    monkeypatch.setattr(limits, "REFERRERS_COPIED", 3)
    assert len(copy(LayoutPlace(layout), into(tmp_path / "a"), image, referrers=True).referrers) == 3
    monkeypatch.setattr(limits, "REFERRERS_COPIED", 2)
    with pytest.raises(LimitError, match="refer to the image"):
        copy(LayoutPlace(layout), into(tmp_path / "b"), image, referrers=True)


def test_referrers_are_bounded_in_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of REFERRER_DEPTH referrers is copied, a longer one is an error."""
    layout, image = make_image(tmp_path / "from", sizes=(10,))
    last = image
    for number in range(2):
        last = artifact(layout, f"{number}".encode(), subject=last)
        layout.list_unnamed(last)
    monkeypatch.setattr(limits, "REFERRER_DEPTH", 2)
    assert len(copy(LayoutPlace(layout), into(tmp_path / "a"), image, referrers=True).referrers) == 2
    monkeypatch.setattr(limits, "REFERRER_DEPTH", 1)
    with pytest.raises(LimitError):
        copy(LayoutPlace(layout), into(tmp_path / "b"), image, referrers=True)


def test_foreign_layers_stay_where_they_are(tmp_path: Path) -> None:
    """A layer with addresses of its own is copied when the source has it, and left out, but counted, when not."""
    layout, image = make_image(tmp_path / "from")
    manifest = images.load(layout, image).manifest
    foreign = [msgspec.structs.replace(one, urls=["https://example.com/layer"]) for one in manifest.layers]
    root = put_manifest(layout, msgspec.structs.replace(manifest, layers=foreign))
    layout.blob_path(foreign[0].digest).unlink()
    done = copy(LayoutPlace(layout), into(tmp_path / "to"), root)
    assert (done.left.blobs, done.left.bytes) == (1, foreign[0].size)
    assert done.sent.blobs == 2


def test_sha512_digests_are_kept(tmp_path: Path) -> None:
    """Blobs and manifests named by SHA-512 are verified and stored under that name."""
    layout, _ = make_image(tmp_path / "from", sizes=(10,))

    def put(data: bytes) -> Digest:
        digest = Digest("sha512:" + hashlib.sha512(data).hexdigest())
        with layout.writer() as writer:
            writer.write(data)
            return writer.commit(digest)

    config, content = b"{}", os.urandom(3000)
    data = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            artifact_type="application/vnd.example.long",
            config=Descriptor(media_type=documents.EMPTY, digest=put(config), size=2),
            layers=[Descriptor(media_type="text/plain", digest=put(content), size=len(content))],
        )
    )
    root = Descriptor(media_type=documents.MANIFEST, digest=put(data), size=len(data))
    target = into(tmp_path / "to")
    copy(LayoutPlace(layout), target, root, tags=["long"])
    assert {digests.algorithm(one) for one in target.layout.blobs()} == {"sha512"}
    assert target.layout.read(root.digest) == data
    with ArchiveWriter(tmp_path / "long.tar") as writer:
        copy(LayoutPlace(layout), ArchiveTarget(writer, ArchiveNames(tag="long")), root, tags=["long"])
    archive = open_archive(ArchiveReference(path=tmp_path / "long.tar", kind="oci-archive"))
    assert archive.read(root.digest) == data


class Cutting(LayoutPlace):
    """A source whose stream of one blob breaks off, and that remembers where it was asked to begin."""

    def __init__(self, layout: Layout, victim: Digest, at: int) -> None:
        super().__init__(layout)
        self.victim, self.at = victim, at
        self.offsets: list[int] = []

    def pieces(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
        if blob.digest != self.victim:
            yield from super().pieces(blob, offset)
            return
        self.offsets.append(offset)
        data = b"".join(super().pieces(blob, offset))
        yield data[: self.at - offset] if offset < self.at else data
        if offset < self.at:
            raise NetworkError("cut", next_step="Try again.")


def test_a_stopped_copy_goes_on_in_the_middle_of_a_blob(tmp_path: Path) -> None:
    """What arrived is kept under another name, hashed, and only the rest is asked for."""
    layout, image = make_image(tmp_path / "from", sizes=(500_000,))
    victim = images.load(layout, image).manifest.layers[0].digest
    source = Cutting(layout, victim, 200_000)
    target = into(tmp_path / "to")
    with pytest.raises(NetworkError):
        copy(source, target, image, tags=["t"])
    assert not target.layout.has(victim)
    assert target.layout.tags() == []
    copy(source, into(tmp_path / "to"), image, tags=["t"])
    assert source.offsets == [0, 200_000]
    assert all(target.layout.verify(one) for one in images.load(layout, image).manifest.layers)
    assert list(target.layout.ingest.iterdir()) == []


def test_a_damaged_rest_is_fetched_again_from_its_start(tmp_path: Path) -> None:
    """What an earlier copy left is worth nothing when the whole does not have the digest."""
    layout, image = make_image(tmp_path / "from", sizes=(500_000,))
    victim = images.load(layout, image).manifest.layers[0].digest
    source = Cutting(layout, victim, 200_000)
    target = into(tmp_path / "to")
    with pytest.raises(NetworkError):
        copy(source, target, image)
    (target.layout.ingest / f"sha256-{digests.hexadecimal(victim)}.partial").write_bytes(bytes(150_000))
    source.at = 0
    copy(source, into(tmp_path / "to"), image)
    assert source.offsets == [0, 150_000, 0]
    assert target.layout.verify(images.load(layout, image).manifest.layers[0])


def test_a_damaged_source_is_named_and_nothing_becomes_visible(tmp_path: Path) -> None:
    """The error says which place is damaged; neither a blob nor a name appears at the target."""
    layout, image = make_image(tmp_path / "from")
    victim = images.load(layout, image).manifest.layers[1].digest
    data = layout.blob_path(victim).read_bytes()
    layout.blob_path(victim).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    target = into(tmp_path / "to")
    with pytest.raises(IntegrityError, match=f"{victim} in {layout.path} is damaged"):
        copy(LayoutPlace(layout), target, image, tags=["t"])
    assert not target.layout.has(victim)
    assert target.layout.tags() == []
    with ArchiveWriter(tmp_path / "x.tar") as writer, pytest.raises(IntegrityError):
        copy(LayoutPlace(layout), ArchiveTarget(writer, ArchiveNames(tag="t")), image, tags=["t"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from", "to"]


def test_a_blob_that_changed_after_it_was_verified_is_fetched_again(tmp_path: Path) -> None:
    """A blob is not hashed twice while its file is as it was, and it is once it is not."""
    layout, image = make_image(tmp_path / "from")
    target = into(tmp_path / "to")
    copy(LayoutPlace(layout), target, image)
    victim = images.load(layout, image).manifest.layers[1]
    path = target.layout.blob_path(victim.digest)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = copy(LayoutPlace(layout), into(tmp_path / "to"), image)
    assert done.sent.bytes == victim.size
    assert path.read_bytes() == data


def test_two_copies_at_once_fetch_each_blob_once(tmp_path: Path) -> None:
    """The second waits for the first and finds the blob there; both end well."""
    layout, image = make_image(tmp_path / "from", sizes=tuple([50_000] * 6))
    fetched: list[Digest] = []

    class Counting(LayoutPlace):
        def pieces(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
            fetched.append(blob.digest)
            yield from super().pieces(blob, offset)

    errors: list[BaseException] = []

    def work() -> None:
        try:
            copy(Counting(layout), into(tmp_path / "to"), image, tags=["t"])
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(fetched) == len(set(fetched)) == 7


def test_an_archive_is_both_kinds_and_always_the_same(tmp_path: Path) -> None:
    """The tar is an OCI layout and a docker-archive of the same image, deterministic, and read back by us."""
    layout, image = make_image(tmp_path / "from")
    names = ArchiveNames(tag="1.0", full="docker.io/team/app:1.0", familiar="team/app:1.0")
    for name in ("a.tar", "b.tar"):
        with ArchiveWriter(tmp_path / name) as writer:
            copy(LayoutPlace(layout), ArchiveTarget(writer, names, docker=True), image, tags=["1.0"])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    for kind in ("oci-archive", "docker-archive"):
        archive = open_archive(ArchiveReference(path=tmp_path / "a.tar", kind=kind))
        loaded = images.load(archive, archive.descriptor)
        assert loaded.config == images.load(layout, image).config
        assert [one.digest for one in loaded.manifest.layers] == [
            one.digest for one in images.load(layout, image).manifest.layers
        ]
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = {one.name for one in tar}
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        index = json.load(tar.extractfile("index.json") or io.BytesIO())
        assert {(one.mtime, one.uid, one.gid) for one in tar} == {(0, 0, 0)}
    assert manifest[0]["RepoTags"] == ["team/app:1.0"]
    assert {manifest[0]["Config"], *manifest[0]["Layers"]} < members
    assert index["manifests"][0]["annotations"] == {
        "org.opencontainers.image.ref.name": "1.0",
        "io.containerd.image.name": "docker.io/team/app:1.0",
    }


def test_an_archive_with_referrers_is_read_back_with_them(tmp_path: Path) -> None:
    """Signatures and referrers lie in the archive beside the image, which is still found without a name."""
    layout, image = make_image(tmp_path / "from", sizes=(10,))
    layout.list_unnamed(artifact(layout, b"sbom", subject=image))
    layout.tag(attached.tag(image.digest, "sig"), artifact(layout, b"cosign"))
    with ArchiveWriter(tmp_path / "x.tar") as writer:
        target = ArchiveTarget(writer, ArchiveNames(tag="v1"))
        done = copy(LayoutPlace(layout), target, image, tags=["v1"], referrers=True)
    archive = open_archive(ArchiveReference(path=tmp_path / "x.tar", kind="oci-archive"))
    assert archive.descriptor.digest == image.digest
    back = copy(ArchiveSource(archive), into(tmp_path / "back"), image, tags=["v1"], referrers=True)
    assert set(back.referrers) == set(done.referrers)
    assert len(back.referrers) == 2


def test_docker_gets_no_archive_that_it_cannot_load(tmp_path: Path) -> None:
    """An artifact becomes no docker-archive: an error, and no file."""
    layout, _ = make_image(tmp_path / "from", sizes=(10,))
    thing = artifact(layout, b"x")
    with ArchiveWriter(tmp_path / "x.tar") as writer:
        target = ArchiveTarget(writer, ArchiveNames(tag="t"), docker=True)
        with pytest.raises(InputError, match="nothing that Docker loads"):
            copy(LayoutPlace(layout), target, thing, tags=["t"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from"]


def test_known_places_of_blobs_are_kept_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repositories are remembered per host, the oldest blobs are forgotten, and a damaged file is no error."""
    monkeypatch.setattr(limits, "BLOB_PLACES", 2)
    known = BlobPlaces(tmp_path, "registry.example.com")
    blobs = [digests.of(f"{number}".encode()) for number in range(3)]
    for blob in blobs:
        known.add(blob, "team/app")
    known.add(blobs[2], "team/other")
    known.save()
    again = BlobPlaces(tmp_path, "registry.example.com")
    assert [again.repositories(blob) for blob in blobs] == [(), ("team/app",), ("team/other", "team/app")]
    assert BlobPlaces(tmp_path, "other.example.com").repositories(blobs[2]) == ()
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"[1")
    assert BlobPlaces(tmp_path, "registry.example.com").repositories(blobs[2]) == ()
