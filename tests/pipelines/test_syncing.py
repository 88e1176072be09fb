"""Taking registries into the catalog: what is known is not asked for again, and what is odd stops nothing else."""

import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from little_registry import LittleRegistry

from image_builder import Tar, put_image
from servers import Serve, reply
from tidewaiter.catalog.browsing import Filter
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import DeniedError, InputError, NotFoundError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index, Platform
from tidewaiter.pipelines.sync import syncing
from tidewaiter.pipelines.sync.syncing import Options, SyncedPlace
from tidewaiter.pipelines.workshop import opened
from tidewaiter.transport import retry
from workplace import command, environment

SITE = "usr/lib/python3/dist-packages"
BASE = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n').bytes()
EVERYTHING = Options()


def package(name: str, version: str) -> bytes:
    """A layer with one Python package."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return Tar().file(f"{SITE}/{name}-{version}.dist-info/METADATA", metadata).bytes()


def described(media_type: str, digest: str, size: int, *, artifact_type: str | None = None) -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest(digest), size=size, artifact_type=artifact_type)


class Port:
    """A registry, a home that may use it, and a folder for layouts."""

    def __init__(self, folder: Path, registry: LittleRegistry) -> None:
        self.folder = folder
        self.registry = registry
        variables = {"TIDEWAITER_HOME": str(folder / "home"), "TIDEWAITER_PLAIN_HTTP": registry.host}
        self.settings: Settings = all_settings.load(variables)
        self.layout = Layout(folder / "layout", synced=False)
        self.layout.create()

    def image(self, *layers: bytes) -> Descriptor:
        """An image of the base and these layers."""
        return put_image(self.layout, [BASE, *layers]).descriptor

    def put(self, name: str, tag: str, *layers: bytes) -> Digest:
        """Such an image in the registry."""
        return self.registry.put(name, tag, self.layout, self.image(*layers))

    def index(self, *children: Descriptor, name: str = "team/multi", tag: str = "1") -> Digest:
        """An index in the registry."""
        data = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=list(children)))
        digest = self.layout.put(data)
        return self.registry.put(name, tag, self.layout, described(documents.INDEX, digest, len(data)))

    def sync(self, *places: str, options: Options = EVERYTHING) -> SyncedPlace:
        """Take in the places, or the whole registry, as a command of its own would; what came of the last."""
        self.registry.seen.clear()
        with opened(self.settings, SILENT) as shop:
            return syncing.sync(shop, places or (f"docker://{self.registry.host}",), options)[-1]

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        with Catalog.open(self.settings) as catalog:
            yield catalog

    def listed(self, repository: str = "") -> dict[str, set[str]]:
        """Tags of each image of the catalog, by repository and digest."""
        with self.catalog() as catalog:
            page = catalog.browse(Filter(repository=repository), rows=1000)
        return {f"{one.name}@{one.digest}": {tag.name for tag in one.synced} for one in page.items}


@pytest.fixture
def port(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Port:
    monkeypatch.setattr(retry, "_FIRST_WAIT_SECONDS", 0.001)
    return Port(tmp_path, LittleRegistry(serve))


# What is taken in


def test_a_whole_registry_is_taken_in(port: Port) -> None:
    """Every image of every repository is inspected, with its packages, and known by every tag that means it."""
    one = port.put("team/a", "1", package("leaky", "1.0"))
    port.registry.tags["team/a"]["latest"] = one
    two = port.put("team/b/c", "2", package("tight", "2.0"))
    done = port.sync()
    assert (done.repositories, done.tags, done.images, done.inspected, done.whole) == (2, 3, 2, 2, True)
    host = port.registry.host
    assert port.listed() == {f"{host}/team/a@{one}": {"1", "latest"}, f"{host}/team/b/c@{two}": {"2"}}
    with port.catalog() as catalog:
        record = catalog.image(f"{host}/team/a:latest")
        assert [component.purl for component in record.components] == ["pkg:pypi/leaky@1.0"]
        assert (record.summary.digest, record.inspected, record.summary.verdict) == (one, True, None)
        assert [use.name for use in catalog.images_with("pkg:pypi/tight")] == [f"{host}/team/b/c"]


def test_a_second_sync_asks_for_tags_and_digests_alone(port: Port) -> None:
    """No manifest and no blob is fetched that is known, be it by another tag, in another repository, or in an index."""
    port.put("team/a", "1", package("leaky", "1.0"))
    inner = port.image(package("deep", "1.0"))
    port.index(inner)
    port.sync()
    port.registry.tags["team/a"]["again"] = port.registry.tags["team/a"]["1"]
    port.registry.tags["team/copy"] = {"1": inner.digest}
    done = port.sync()
    assert done.whole
    assert (done.inspected, done.images) == (0, 1)  # the copy is new where it lies
    assert port.registry.asked("manifests") == []
    assert port.registry.asked("blobs") == []
    assert {method for method, path in port.registry.seen if "/manifests/" in path} == {"HEAD"}
    assert port.listed(repository=f"{port.registry.host}/team/copy") == {
        f"{port.registry.host}/team/copy@{inner.digest}": {"1"}
    }


def test_a_layer_is_fetched_once(port: Port) -> None:
    """Images that share a layer are read side by side, and it is fetched by one of them; later commands know it."""
    for number in range(6):
        port.put("team/a", str(number), package("shared", "1.0"), package("own", f"{number}.0"))
    port.sync(options=Options(jobs=6))
    blobs = port.registry.asked("blobs")
    assert len(blobs) == len(set(blobs))
    port.put("team/b", "1", package("shared", "1.0"), package("other", "1.0"))
    port.sync()
    assert len(port.registry.asked("blobs")) == 2  # a config and a layer


def test_requests_are_bounded(port: Port) -> None:
    """Never more requests are under way than there are jobs."""
    for number in range(12):
        port.put("team/a", str(number), package("own", f"{number}.0"))
    port.sync(options=Options(jobs=2))
    assert 1 <= port.registry.busiest <= 2


def test_one_repository_or_those_below_a_prefix(port: Port) -> None:
    """A place is as large as it is written; a single tag is not the whole repository."""
    for name in ("team/a", "team/b", "teams/c"):
        port.put(name, "1", package("own", "1.0"))
    host = port.registry.host
    assert port.sync(f"{host}/team/").repositories == 2
    assert port.sync(f"docker://{host}/team/*").repositories == 2
    assert port.sync(f"{host}/teams/c").repositories == 1
    port.put("teams/c", "2", package("own", "2.0"))
    assert port.sync(f"{host}/teams/c:2").tags == 1
    assert set().union(*port.listed(repository=f"{host}/teams/c").values()) == {"1", "2"}
    with pytest.raises(NotFoundError):
        port.sync(f"{host}/team/none")
    for odd in ("name", "docker://", "docker://a b", "oci:", "\x1b[31m/x"):
        with pytest.raises(InputError):
            port.sync(odd)


def test_tags_by_pattern(port: Port) -> None:
    """Only tags that fit are looked at, and others are not believed to be gone."""
    port.put("team/a", "3.11", package("own", "1.0"))
    port.put("team/a", "4.0", package("own", "2.0"))
    port.sync()
    done = port.sync(options=Options(tags=("3.*",)))
    assert (done.tags, done.moved_total) == (1, 0)
    assert len(port.listed()) == 2


def test_the_newest_are_inspected(port: Port) -> None:
    """With `newest` the others are listed, not inspected; the next sync reads only what is asked for then."""
    config = '"created":"2026-01-02T03:04:05Z"'
    for number in range(3):
        digest = port.put("team/a", str(number), package("own", f"{number}.0"))
        # The same image, made in another year.
        manifest = json.loads(port.registry.manifests[digest][0])
        data = port.registry.blobs[manifest["config"]["digest"]]
        newer = data.replace(config.encode(), config.replace("2026", f"202{number}").encode())
        blob = port.layout.put(newer)
        port.registry.blobs[blob] = newer
        manifest["config"] |= {"digest": blob, "size": len(newer)}
        port.registry.put_raw("team/a", str(number), json.dumps(manifest).encode(), documents.MANIFEST)
    done = port.sync(options=Options(newest=1))
    assert (done.images, done.inspected) == (3, 1)
    with port.catalog() as catalog:
        inspected = {tag: catalog.image(f"{port.registry.host}/team/a:{tag}").inspected for tag in "012"}
    assert inspected == {"0": False, "1": False, "2": True}
    assert port.sync(options=Options(newest=1)).inspected == 0
    assert port.registry.asked("manifests") == []
    assert port.sync().inspected == 2


# Indexes, artifacts, referrers


def test_an_index_and_its_images(port: Port) -> None:
    """An index's images are known by its tag; those of other platforms are not read until they are asked for."""
    amd = msgspec.structs.replace(port.image(package("a", "1.0")), platform=Platform("amd64", "linux"))
    arm = msgspec.structs.replace(port.image(package("b", "1.0")), platform=Platform("arm64", "linux", "v8"))
    port.index(amd, arm)
    only = Options(platforms=(Platform("amd64", "linux"),))
    assert port.sync(options=only).inspected == 1
    name = f"{port.registry.host}/team/multi"
    assert port.listed() == {f"{name}@{amd.digest}": {"1"}}
    assert port.sync(options=only).inspected == 0
    done = port.sync()
    assert (done.inspected, done.images) == (1, 1)
    assert port.listed() == {f"{name}@{amd.digest}": {"1"}, f"{name}@{arm.digest}": {"1"}}
    with port.catalog() as catalog:
        assert catalog.image(f"{name}:1").summary.digest == amd.digest


def test_what_is_no_image_is_listed_not_read(port: Port) -> None:
    """Charts, signatures and BuildKit's attestations are artifacts; what refers to an image is noted with it."""
    image = port.image(package("a", "1.0"))
    port.registry.put("team/a", "1", port.layout, image)
    blob = described("application/vnd.acme.note", port.layout.put(b"note"), 4)
    config = described(documents.EMPTY, port.layout.put(b"{}"), 2)
    note = documents.encode(
        documents.Manifest(schema_version=2, config=config, layers=[blob], artifact_type="application/vnd.acme.note")
    )
    chart = port.registry.put_raw("team/chart", "1", note, documents.MANIFEST)
    signed = documents.encode(
        documents.Manifest(
            schema_version=2,
            config=described(documents.CONFIG, config.digest, 2),
            layers=[described("application/vnd.dev.cosign.simplesigning.v1+json", blob.digest, 4)],
        )
    )
    signature = port.registry.put_raw("team/a", f"sha256-{image.digest[7:]}.sig", signed, documents.MANIFEST)
    port.registry.referrers = {
        image.digest: [described(documents.MANIFEST, chart, len(note), artifact_type="application/vnd.acme.sbom")]
    }
    done = port.sync()
    assert (done.images, done.inspected, done.artifacts, done.whole) == (1, 1, 2, True)
    assert len(port.listed()) == 1
    with port.catalog() as catalog:
        found = catalog.whereabouts(f"{port.registry.host}/team/a:1").referrers
        assert {one.digest for one in found} == {chart, signature}
        assert "application/vnd.dev.cosign.simplesigning.v1+json" in {one.artifact_type for one in found}
        assert catalog.concerned_by_purl("pkg:pypi/a").not_inspected == 0
    port.sync()
    assert port.registry.asked("manifests") == []


@pytest.mark.thorough
def test_an_index_that_lists_the_same_again_and_again(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each manifest is read once, however many ways lead to it; there are at most so many below a tag."""
    level = [port.image(package("deep", f"{number}.0")) for number in range(2)]
    for depth in range(3):
        made = []
        for number in range(12):
            listed = [msgspec.structs.replace(one, annotations={"n": f"{depth} {number}"}) for one in level]
            data = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=listed))
            made.append(described(documents.INDEX, port.layout.put(data), len(data)))
        level = made
    port.index(*level)
    monkeypatch.setattr(limits, "SYNC_MANIFESTS", 38)
    done = port.sync()
    assert [one.message for one in done.problems] == ["more than 38 manifests are below it"]
    assert done.inspected == 2
    monkeypatch.setattr(limits, "SYNC_MANIFESTS", 39)
    assert port.sync().whole
    assert len(port.registry.asked("manifests")) == 1
    assert port.sync().whole
    assert port.registry.asked("manifests") == []


def test_what_came_to_refer_to_an_image_is_noted_later(port: Port) -> None:
    """What a tag names is asked for its referrers each time; those that are known are not recorded again."""
    image = port.put("team/a", "1", package("a", "1.0"))
    port.registry.referrers = {}
    port.sync()
    note = described(documents.MANIFEST, "sha256:" + "e" * 64, 9, artifact_type="application/vnd.acme.sbom")
    port.registry.referrers = {image: [note]}
    assert port.sync().artifacts == 1
    assert port.sync().artifacts == 0
    assert port.registry.asked("manifests") == port.registry.asked("blobs") == []
    with port.catalog() as catalog:
        (found,) = catalog.whereabouts(f"{port.registry.host}/team/a:1").referrers
    assert (found.digest, found.artifact_type) == (note.digest, note.artifact_type)


def test_a_signature_may_come_before_its_image(port: Port) -> None:
    """Also when the registry failed to send the image at first: the next sync knows what was signed."""
    image = port.image(package("a", "1.0"))
    port.registry.put("team/a", "1", port.layout, image)
    blob = described("application/vnd.dev.cosign.simplesigning.v1+json", port.layout.put(b"note"), 4)
    config = described(documents.CONFIG, port.layout.put(b"{}"), 2)
    signed = documents.encode(documents.Manifest(schema_version=2, config=config, layers=[blob]))
    signature = port.registry.put_raw("team/a", f"sha256-{image.digest[7:]}.sig", signed, documents.MANIFEST)

    def broken(handler: BaseHTTPRequestHandler) -> bool:
        if handler.command == "GET" and handler.path.endswith(f"/manifests/{image.digest}"):
            reply(handler, 500)
            return True
        return False

    port.registry.fault = broken
    assert port.sync().problems_total == 1
    assert port.listed() == {}
    port.registry.fault = None
    assert (port.sync().inspected, port.registry.asked("manifests")) == (1, [f"/v2/team/a/manifests/{image.digest}"])
    with port.catalog() as catalog:
        (found,) = catalog.whereabouts(f"{port.registry.host}/team/a:1").referrers
    assert found.digest == signature


def test_a_list_cannot_hide_an_image(port: Port) -> None:
    """What an index says of a manifest decides nothing about it: named itself, it is read as what it is."""
    image = port.image(package("leaky", "1.0"))
    hidden = msgspec.structs.replace(
        image,
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
        platform=Platform("unknown", "unknown"),
    )
    shown = msgspec.structs.replace(hidden, platform=Platform("amd64", "linux"))
    port.index(hidden, name="team/hides", tag="1")
    port.registry.referrers = {}
    assert port.sync().inspected == 0
    port.registry.put("team/shows", "1", port.layout, image)
    assert port.sync().inspected == 1
    other = msgspec.structs.replace(shown, digest=port.image(package("leaky", "2.0")).digest)
    port.index(other, name="team/runs", tag="1")
    assert port.sync().inspected == 1


def test_several_images_of_one_archive(port: Port) -> None:
    """Each name in an archive is a tag of it, in either format; the bytes are read once."""
    for tag in ("one", "two"):
        put_image(port.layout, [BASE, package(tag, "1.0")], name=tag)
    path = port.folder / "both.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(port.layout.path, ".")
    done = port.sync(f"oci-archive:{path}")
    assert (done.tags, done.images, done.inspected, done.whole) == (2, 2, 2, True)
    assert sorted(map(sorted, port.listed(f"oci-archive:{path}").values())) == [["one"], ["two"]]
    assert port.sync(f"oci:{port.layout.path}").inspected == 0
    assert port.sync(f"oci-archive:{path}:one").moved_total == 0


# Tags


def test_a_tag_that_moves_keeps_its_past(port: Port) -> None:
    """What a tag meant before, what it means now, and when that was seen; and that it is gone."""
    before = port.put("team/a", "1", package("own", "1.0"))
    port.put("team/a", "2", package("own", "2.0"))
    port.sync()
    after = port.put("team/a", "1", package("own", "3.0"))
    done = port.sync()
    assert [(one.name, one.before, one.digest) for one in done.moved] == [("1", before, after)]
    gone = port.registry.tags["team/a"].pop("2")
    done = port.sync()
    assert [(one.name, one.before, one.digest) for one in done.moved] == [("2", gone, "")]
    with port.catalog() as catalog:
        moves = catalog.moved_tags()
        assert [(one.tag, one.before, one.digest) for one in moves] == [("2", gone, ""), ("1", before, after)]
        past = catalog.whereabouts(f"{port.registry.host}/team/a:1").history
        assert [one.digest for one in past] == [after, before]
        with pytest.raises(NotFoundError):
            catalog.image(f"{port.registry.host}/team/a:2")
    assert port.listed()[f"{port.registry.host}/team/a@{gone}"] == set()


def test_a_tag_that_names_nothing(port: Port) -> None:
    """A tag that is listed although its manifest was deleted is none, and nothing is wrong; one that was named is."""
    port.put("team/a", "1", package("own", "1.0"))
    port.put("team/a", "2", package("own", "2.0"))
    port.sync()
    del port.registry.manifests[port.registry.tags["team/a"]["2"]]
    done = port.sync()
    assert (done.whole, [(one.name, one.digest) for one in done.moved]) == (True, [("2", "")])
    assert port.sync().moved == []
    with pytest.raises(NotFoundError):
        port.sync(f"{port.registry.host}/team/a:2")
    del port.registry.tags["team/a"]
    port.registry.listed = ["team/a"]
    done = port.sync()
    assert (done.whole, [(one.name, one.digest) for one in done.moved]) == (True, [("1", "")])


def test_a_synced_tag_is_no_tag_of_the_store(port: Port) -> None:
    """It is neither cleared nor set there, whatever the registry calls it; a tag of the store stays as it is."""
    digest = port.put("team/a", "1", package("own", "1.0"))
    port.sync()
    name = f"{port.registry.host}/team/a"
    with port.catalog() as catalog:
        assert catalog.resolve_tag(name, "1") is None
        assert catalog.standing_tags() == ()
        assert catalog.kept_digests().manifests == frozenset()
        assert catalog.image(f"{name}:1").summary.tags == ()
        with pytest.raises(DeniedError):
            catalog.require_cleared(name, digest, "1")


# What goes wrong


def test_a_broken_image_stops_nothing_else(port: Port) -> None:
    """It is listed, the others are taken in; once it is known to be malformed, nobody fetches it again."""
    port.put("team/a", "1", package("own", "1.0"))
    broken = put_image(port.layout, [b"this is no tar" * 100]).descriptor
    port.registry.put("team/a", "2", port.layout, broken)
    port.registry.put_raw("team/a", "3", b'{"schemaVersion":2,"layers":[],"manifests":[]}', documents.MANIFEST)
    lost = port.put("team/a", "4", package("own", "4.0"))
    layer = json.loads(port.registry.manifests[lost][0])["layers"][-1]["digest"]
    data = port.registry.blobs.pop(layer)
    done = port.sync()
    assert not done.whole
    assert not done.stopped
    assert {one.name.rpartition("@")[0]: one.settled for one in done.problems} == {
        f"{port.registry.host}/team/a:2": True,
        f"{port.registry.host}/team/a:3": True,
        f"{port.registry.host}/team/a:4": False,
    }
    assert done.inspected == 1
    with port.catalog() as catalog:
        assert not catalog.image(f"{port.registry.host}/team/a:2").inspected
        assert catalog.not_inspected() == 3
    port.registry.blobs[layer] = data
    done = port.sync()
    assert (done.inspected, done.whole) == (1, True)
    assert len(port.registry.asked("blobs")) == 2
    assert len(port.registry.asked("manifests")) == 1


def test_bytes_of_another_digest_are_refused(port: Port) -> None:
    """A layer that is not what its digest says is no layer of that image; when the registry is repaired, it is read."""
    digest = port.put("team/a", "1", package("own", "1.0"))
    layer = json.loads(port.registry.manifests[digest][0])["layers"][-1]["digest"]
    right, port.registry.blobs[layer] = port.registry.blobs[layer], package("evil", "6.6.6")
    done = port.sync()
    assert [one.settled for one in done.problems] == [False]
    port.registry.blobs[layer] = right
    assert port.sync().inspected == 1


@pytest.mark.thorough
def test_a_registry_that_vanishes(port: Port) -> None:
    """What was taken in is kept, the answer says why it stopped, and the next sync fetches only the rest."""
    for number in range(8):
        port.put("team/a", str(number), package("own", f"{number}.0"))
    layers = 0

    def vanish(handler: BaseHTTPRequestHandler) -> bool:
        nonlocal layers
        layers += handler.command == "GET" and "/blobs/" in handler.path
        if layers > 10:
            handler.close_connection = True
            return True
        return False

    port.registry.fault = vanish
    done = port.sync(options=Options(jobs=1))
    assert done.stopped
    assert "same command" in done.next_step
    assert 0 < done.inspected < 8
    taken = done.inspected
    port.registry.fault = None
    done = port.sync()
    assert (done.whole, done.inspected) == (True, 8 - taken)
    assert len(port.registry.asked("manifests")) == 8 - taken


def test_a_busy_registry_is_given_time(port: Port) -> None:
    """`Retry-After` is obeyed; a registry that asks for more than we wait is left alone, with what to do."""
    port.put("team/a", "1", package("own", "1.0"))
    moments: list[float] = []

    def busy(handler: BaseHTTPRequestHandler) -> bool:
        if handler.command != "HEAD" or len(moments) > 1:
            return False
        moments.append(time.monotonic())
        if len(moments) == 1:
            reply(handler, 429, Retry_After="1")
        return len(moments) == 1

    port.registry.fault = busy
    assert port.sync().whole
    assert moments[1] - moments[0] >= 1

    def refuses(handler: BaseHTTPRequestHandler) -> bool:
        reply(handler, 429, Retry_After="3600")
        return True

    port.registry.fault = refuses
    done = port.sync()
    assert "3600" in done.next_step
    assert len(port.registry.seen) == 1


def test_hostile_names(port: Port) -> None:
    """Names that no repository or tag can have are refused one by one, and the others are taken in."""
    good = port.put("team/a", "1", package("own", "1.0"))
    odd = ["<script>alert(1)</script>", "a'; DROP TABLE tag;--", "a/\u202egnp.exe", "x" * 4096, "../../etc", "a\nb", ""]
    port.registry.listed = ["team/a", *odd]
    port.registry.said_tags["team/a"] = ["1", *odd]
    done = port.sync()
    assert done.images == 1
    assert done.problems_total == 2 * len(odd)
    assert all(len(problem.message) < 400 for problem in done.problems)
    assert set(port.listed()) == {f"{port.registry.host}/team/a@{good}"}
    long = "a" * 250
    port.registry.tags[long] = {"1": good}
    port.registry.listed = [long, "team/a"]
    port.registry.said_tags.clear()
    done = port.sync()
    assert [problem.settled for problem in done.problems] == [True]
    assert not done.stopped


def test_hostile_names_and_numbers_in_a_layout(port: Port) -> None:
    """A layout calls its images what it likes, and its manifests say what they like: all of it is bounded."""
    good = put_image(port.layout, [BASE], name="<script>'; DROP TABLE tag;--").digest
    for odd in ("a\u202eb", "x" * 4096, "a\nb"):
        put_image(port.layout, [BASE, package("odd", "1.0")], name=odd)
    data = documents.encode(
        documents.Manifest(
            schema_version=2,
            config=described(documents.CONFIG, good, 2),
            layers=[described(documents.LAYER_GZIP, good, 2**62) for _ in range(100)],
            annotations={"a": "b"},
        )
    )
    port.layout.tag("huge", described(documents.MANIFEST, port.layout.put(data), len(data)))
    done = port.sync(f"oci:{port.layout.path}")
    assert (done.inspected, done.problems_total, done.stopped) == (1, 4, "")
    assert set().union(*port.listed().values()) == {"<script>'; DROP TABLE tag;--", "huge"}


@pytest.mark.thorough
def test_many_tags_of_one_repository(port: Port) -> None:
    """Thousands of tags come in pages, are looked at once each, and mean few images."""
    digests = [port.put("team/a", f"v{number}", package("own", f"{number}.0")) for number in range(3)]
    port.registry.tags["team/a"] = {f"t{number:05}": digests[number % 3] for number in range(2500)}
    done = port.sync()
    assert (done.tags, done.images, done.whole) == (2500, 3, True)
    assert sum("/tags/list" in path for _, path in port.registry.seen) == 3
    assert len(port.registry.asked("manifests")) == 3
    assert sorted(map(len, port.listed().values())) == [833, 833, 834]


# Two at once, and killed


def test_two_syncs_at_once(port: Port) -> None:
    """Both end well, and what they recorded is what one would have recorded."""
    for number in range(6):
        port.put(f"team/{number % 2}", str(number), package("own", f"{number}.0"))
    done: list[SyncedPlace] = []

    def run() -> None:
        with opened(port.settings, SILENT) as shop:
            done.extend(syncing.sync(shop, (f"docker://{port.registry.host}",), Options(jobs=2)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.whole for one in done] == [True, True]
    assert sum(one.images for one in done) == 6
    assert len(port.listed()) == 6
    with port.catalog() as catalog:
        assert catalog.moved_tags() == ()
        assert len(catalog.whereabouts(f"{port.registry.host}/team/0:0").history) == 1


@pytest.mark.thorough
def test_a_sync_that_is_killed(port: Port) -> None:
    """What was recorded before stays whole, and the next sync fetches nothing of it again."""
    for number in range(8):
        port.put("team/a", str(number), package("own", f"{number}.0"))
    slow = threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> bool:
        if handler.command == "GET" and "/blobs/" in handler.path:
            slow.wait(0.4)
        return False

    port.registry.fault = wait
    variables = {**environment(port.settings.home.path), "TIDEWAITER_PLAIN_HTTP": port.registry.host}
    words = command("catalog", "sync", f"docker://{port.registry.host}", "--jobs", "1")
    process = subprocess.Popen(words, env={**variables, "NO_PROXY": "127.0.0.1"}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and len(port.registry.asked("blobs")) < 11:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    slow.set()
    port.registry.fault = None
    half = port.listed()
    with port.catalog() as catalog:
        kept = {tag: catalog.image(f"{port.registry.host}/team/a:{tag}") for names in half.values() for tag in names}
    assert all(record.inspected and len(record.components) == 1 for record in kept.values())
    assert 0 < len(kept) < 8
    done = port.sync()
    assert done.whole
    assert len(port.registry.asked("manifests")) == 8 - len(kept)
    assert len(port.listed()) == 8
