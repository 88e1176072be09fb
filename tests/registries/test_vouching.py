"""An image goes where an older build of it is: what both have in common is not asked for, and is there in the end.

The requests are counted by a proxy in front of a real docker-registry whose storage the tests reach into.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import real_registries
from fault_proxy import Fault, FaultProxy, between

from images import make_image
from servers import Tool
from tidewaiter.core.errors import NetworkError, NotFoundError
from tidewaiter.distribution import vouching
from tidewaiter.distribution.blob_places import BlobPlaces
from tidewaiter.distribution.copy import CopyResult, copy
from tidewaiter.distribution.layout_place import LayoutPlace
from tidewaiter.distribution.registry import Registry
from tidewaiter.distribution.registry_place import RegistryPlace
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index, Manifest
from tidewaiter.transport.client import Client

pytestmark = pytest.mark.interop

LAYERS = 6


class Yard:
    """A registry behind a counting proxy, a folder for layouts, and an own repository."""

    def __init__(self, folder: Path, storage: Path, proxy: FaultProxy, client: Client) -> None:
        self.folder, self.storage, self.proxy = folder, storage, proxy
        self.registry = Registry(client, proxy.host, plain_http=frozenset({proxy.host}))
        self.name = f"vouch/{folder.name.replace('_', '-')}"

    def place(self, name: str = "", known: BlobPlaces | None = None) -> RegistryPlace:
        return RegistryPlace(self.registry.repository(name or self.name), known=known, opens=True)

    def copy(
        self, layout: Layout, root: Descriptor, tags: Sequence[str] = ("t",), known: BlobPlaces | None = None
    ) -> CopyResult:
        """Copy into the repository, counting from 0."""
        fault = self.proxy.fault
        self.proxy.reset(fault)
        return copy(LayoutPlace(layout), self.place(known=known), root, tags=tags)

    def asked(self) -> list[str]:
        """Method and kind of the requests since, in alphabetical order."""
        return sorted(f"{one.method} {'manifest' if '/manifests/' in one.path else 'blob'}" for one in self.proxy.seen)

    def about(self, digest: Digest) -> list[str]:
        """Methods of the requests that name the digest."""
        hexadecimal = digests.hexadecimal(digest)
        return [one.method for one in self.proxy.seen if hexadecimal in one.path]

    def repository(self) -> Path:
        return self.storage / "docker/registry/v2/repositories" / self.name

    def complete(self, root: Descriptor) -> bool:
        """Whether everything below the tag can be fetched, with the right bytes."""
        self.proxy.reset()
        to = Layout(self.folder / f"back-{os.urandom(4).hex()}")
        to.create()
        copy(self.place(), LayoutPlace(to), root, tags=["back"])
        return self.registry.repository(self.name).resolve("t").digest == root.digest


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vouching")


@pytest.fixture(scope="module")
def proxy(tool: Tool, storage: Path) -> Iterator[FaultProxy]:
    with real_registries.docker_registry(tool("docker-registry"), storage) as host, between(host) as one:
        yield one


@pytest.fixture
def yard(tmp_path: Path, storage: Path, proxy: FaultProxy) -> Iterator[Yard]:
    proxy.reset()
    with Client(attempts=1) as client:
        yield Yard(tmp_path, storage, proxy, client)
    proxy.reset()


def put(layout: Layout, document: Manifest | Index) -> Descriptor:
    data = documents.encode(document)
    return Descriptor(media_type=document.media_type or "", digest=layout.put(data), size=len(data))


def manifest(layout: Layout, image: Descriptor) -> Manifest:
    document = documents.decode_manifest(layout.read(image.digest))
    assert isinstance(document, Manifest)
    return document


def builds(folder: Path) -> tuple[Layout, Descriptor, Descriptor]:
    """A layout, an image, and the next build of it, in which the config and the last layer are others."""
    layout, older = make_image(folder, sizes=(2000,) * LAYERS)
    return layout, older, rebuilt(layout, older)


def rebuilt(layout: Layout, older: Descriptor) -> Descriptor:
    before = manifest(layout, older)
    changed = manifest(layout, make_image(layout.path, sizes=(3000,))[1])
    return put(
        layout,
        msgspec.structs.replace(before, config=changed.config, layers=[*before.layers[:-1], *changed.layers]),
    )


def index(layout: Layout, *children: Descriptor) -> Descriptor:
    return put(layout, Index(schema_version=2, media_type=documents.INDEX, manifests=list(children)))


def common(layout: Layout, one: Descriptor, other: Descriptor) -> set[Digest]:
    first, second = ({layer.digest for layer in manifest(layout, image).layers} for image in (one, other))
    return first & second


def test_what_an_older_build_names_is_not_asked_for(yard: Yard) -> None:
    """The tag, two new blobs, the manifest: six requests, and one for the same image once more."""
    layout, older, newer = builds(yard.folder / "from")
    yard.copy(layout, older)
    done = yard.copy(layout, newer)
    assert yard.asked() == ["HEAD manifest", "POST blob", "POST blob", "PUT blob", "PUT blob", "PUT manifest"]
    assert (done.sent.blobs, done.skipped.blobs) == (2, LAYERS - 1)
    assert yard.complete(newer)
    again = yard.copy(layout, newer)
    assert yard.asked() == ["HEAD manifest"]
    assert again.skipped.blobs == LAYERS + 1


def test_a_source_without_the_older_build_asks_for_every_blob(yard: Yard) -> None:
    """Where the source does not know what the tag names, or has it damaged, the target is asked as ever."""
    layout, older, newer = builds(yard.folder / "from")
    yard.copy(layout, older)
    layout.blob_path(older.digest).write_bytes(b"{}")
    second = rebuilt(layout, newer)
    yard.copy(layout, newer)
    assert all(yard.about(digest) for digest in common(layout, newer, second))
    assert yard.about(newer.digest) == ["HEAD"]
    layout.blob_path(newer.digest).unlink()
    done = yard.copy(layout, second)
    assert (done.sent.blobs, done.skipped.blobs) == (2, LAYERS - 1)
    assert yard.complete(second)


def lose_data(yard: Yard, digest: Digest) -> None:
    hexadecimal = digests.hexadecimal(digest)
    shutil.rmtree(yard.storage / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal)


def lose_link(yard: Yard, digest: Digest) -> None:
    shutil.rmtree(yard.repository() / "_layers/sha256" / digests.hexadecimal(digest))


@pytest.mark.parametrize("lose", [lose_data, lose_link])
def test_what_a_registry_has_lost_is_sent_again(yard: Yard, lose: Callable[[Yard, Digest], None]) -> None:
    """The older manifest is there and one of its layers is not: the image that is copied over it is whole."""
    layout, older, newer = builds(yard.folder / "from")
    yard.copy(layout, older)
    lost = manifest(layout, newer).layers[1]
    lose(yard, lost.digest)
    done = yard.copy(layout, newer)
    assert yard.asked().count("PUT manifest") == 2
    assert (done.sent.blobs, done.skipped.blobs) == (3, LAYERS - 2)
    assert yard.complete(newer)


def test_only_a_refusal_makes_it_ask_again(yard: Yard) -> None:
    """A registry that forbids is not asked twice; one that refuses for another reason says so in the end."""
    layout, older, newer = builds(yard.folder / "from")
    yard.copy(layout, older)

    def writes(method: str, path: str) -> bool:
        return method == "PUT" and "/manifests/" in path

    yard.proxy.reset(Fault("status 403", times=9, when=writes))
    with pytest.raises(NetworkError):
        yard.copy(layout, newer)
    assert yard.proxy.struck == 1
    assert not any(map(yard.about, common(layout, older, newer)))
    yard.proxy.reset(Fault("status 404", times=9, when=writes))
    with pytest.raises(NotFoundError):
        yard.copy(layout, newer)
    assert yard.proxy.struck == 2
    assert all(map(yard.about, common(layout, older, newer)))


def test_images_of_an_older_index_count_once_they_are_there(yard: Yard) -> None:
    """One request for the older image of a platform stands for its layers; what did not change is asked for once."""
    layout, amd64, newer = builds(yard.folder / "from")
    arm64 = make_image(layout.path, sizes=(50,) * 4)[1]
    yard.copy(layout, index(layout, amd64, arm64))
    root = index(layout, newer, arm64)
    done = yard.copy(layout, root)
    assert not any(map(yard.about, common(layout, amd64, newer)))
    assert [yard.about(one.digest) for one in (amd64, arm64, root)] == [["HEAD"], ["HEAD"], []]
    assert yard.about(newer.digest) == ["HEAD", "PUT"]
    assert done.sent.blobs == 2
    assert yard.complete(root)


def test_an_older_index_without_its_images_proves_nothing(yard: Yard) -> None:
    """A registry that has an index and not the image in it, as some allow, is asked for each layer."""
    layout, amd64, newer = builds(yard.folder / "from")
    yard.copy(layout, index(layout, amd64))
    shutil.rmtree(yard.repository() / "_manifests/revisions/sha256" / digests.hexadecimal(amd64.digest))
    lost = manifest(layout, newer).layers[0]
    lose_data(yard, lost.digest)
    root = index(layout, newer)
    done = yard.copy(layout, root)
    assert yard.about(amd64.digest) == ["HEAD"]
    assert yard.asked().count("PUT manifest") == 2  # image and index, once each
    assert (done.sent.blobs, done.skipped.blobs) == (3, LAYERS - 2)
    assert yard.complete(root)


def test_a_registry_is_not_asked_for_the_older_build(yard: Yard) -> None:
    """Between two repositories the source, which would have to be asked, is not; blobs are asked for as ever."""
    layout, older, newer = builds(yard.folder / "from")
    copy(LayoutPlace(layout), yard.place(f"{yard.name}/source"), older, tags=["older"])
    copy(LayoutPlace(layout), yard.place(f"{yard.name}/source"), newer, tags=["newer"])
    yard.copy(layout, older)
    yard.proxy.reset()
    done = copy(yard.place(f"{yard.name}/source"), yard.place(), newer, tags=["t"])
    assert yard.about(older.digest) == []
    assert all(map(yard.about, common(layout, older, newer)))
    assert (done.mounted.blobs, done.skipped.blobs) == (2, LAYERS - 1)


def test_an_image_that_only_gets_another_tag_is_asked_for_by_digest(yard: Yard) -> None:
    """Where many blobs are unknown, the manifest's digest is asked for first: two requests and the tag."""
    layout, image = make_image(yard.folder / "from", sizes=(500,) * LAYERS)
    yard.copy(layout, image)
    yard.copy(layout, image, tags=("other",))
    assert yard.asked() == ["HEAD manifest", "HEAD manifest", "PUT manifest"]
    yard.copy(layout, image, tags=())
    assert yard.asked() == ["HEAD manifest"]


def test_what_was_vouched_for_is_mounted_elsewhere(yard: Yard) -> None:
    """A home that never sent the layers knows after the copy where they lie."""
    layout, older, newer = builds(yard.folder / "from")
    yard.copy(layout, older)
    known = BlobPlaces(yard.folder, yard.proxy.host)
    yard.copy(layout, newer, known=known)
    elsewhere = yard.place(f"{yard.name}/elsewhere", known)
    assert copy(LayoutPlace(layout), elsewhere, newer, tags=["t"]).mounted.blobs == LAYERS + 1


def test_layers_that_lie_elsewhere_prove_nothing(tmp_path: Path) -> None:
    """Registries do not look for layers with addresses of their own, or of types that say so."""
    layout, image = make_image(tmp_path / "from", sizes=(10, 20, 30))
    document = manifest(layout, image)
    first, second, third = document.layers
    addressed = msgspec.structs.replace(first, urls=["https://example.com/layer"])
    kept_out = msgspec.structs.replace(
        second, media_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    )
    root = put(layout, msgspec.structs.replace(document, layers=[addressed, kept_out, third]))
    found = vouching.older(LayoutPlace(layout), [root.digest])
    assert found.blobs == {document.config.digest, third.digest}
    below = vouching.older(LayoutPlace(layout), [index(layout, image, root).digest])
    assert below.blobs == frozenset()
    assert below.images.keys() == {image.digest, root.digest}
    assert vouching.older(LayoutPlace(layout), [first.digest, digests.of(b"none")]).blobs == frozenset()


def test_a_registry_that_lost_what_its_manifest_names_is_mended(yard: Yard) -> None:
    """The manifest is there under its digest and refused under another tag: everything that it names is asked for."""
    layout, image = make_image(yard.folder / "from", sizes=(500,) * LAYERS)
    yard.copy(layout, image)
    for layer in manifest(layout, image).layers[:2]:
        lose_link(yard, layer.digest)
    done = yard.copy(layout, image, tags=("other",))
    assert (done.sent.blobs, done.skipped.blobs) == (2, LAYERS - 1)
    assert yard.complete(image)
