import gzip
from pathlib import Path

import msgspec
import pytest
import zstandard

from image_builder import Tar, put_image
from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.oci.verified import VerifiedLayer

TAR = Tar().file("a", b"12345").bytes()


def walked(layout: Layout, blob: bytes, *, diff_id: str | None = None, size: int | None = None) -> list[str]:
    descriptor = Descriptor(
        media_type=documents.LAYER_GZIP, digest=digests.of(blob), size=len(blob) if size is None else size
    )
    if not layout.has(descriptor.digest):
        layout.put(blob)
    layer = VerifiedLayer(layout, descriptor, digests.parse(diff_id or digests.of(TAR)))
    paths = [entry.path for entry, _ in layer]
    assert layer.tar_size == len(TAR)
    return paths


def test_a_layer_that_is_what_was_promised_is_walked(tmp_path: Path) -> None:
    """A right blob gives its entries, counts its bytes and reports its progress."""
    image = put_image(Layout(tmp_path), [TAR])
    descriptor, diff_id = image.layers[0]
    seen: list[int] = []
    layer = VerifiedLayer(image.source, descriptor, diff_id, advance=seen.append)
    assert [entry.path for entry, _ in layer] == ["a"]
    assert (layer.tar_size, sum(seen)) == (len(TAR), descriptor.size)


def test_bytes_with_another_digest_are_refused(tmp_path: Path) -> None:
    """A blob that was exchanged on disk is noticed, though it is a readable layer."""
    layout = Layout(tmp_path)
    layout.create()
    blob = gzip.compress(TAR, mtime=0)
    path = layout.blob_path(layout.put(blob))
    path.write_bytes(gzip.compress(TAR, mtime=1))
    with pytest.raises(IntegrityError, match="bytes with digest"):
        walked(layout, blob)


def test_another_diff_id_is_refused(tmp_path: Path) -> None:
    """A blob whose tar is not the one that the config names is refused."""
    layout = Layout(tmp_path)
    layout.create()
    with pytest.raises(IntegrityError, match=f"unpacks to {digests.of(TAR)} instead of sha256:0000"):
        walked(layout, gzip.compress(TAR), diff_id="sha256:" + "0" * 64)


@pytest.mark.parametrize(("change", "message"), [(-1, "more than"), (1, "instead of")])
def test_another_size_is_refused(tmp_path: Path, change: int, message: str) -> None:
    """A blob that is longer or shorter than its descriptor says is refused."""
    layout = Layout(tmp_path)
    layout.create()
    blob = gzip.compress(TAR)
    with pytest.raises(IntegrityError, match=message):
        walked(layout, blob, size=len(blob) + change)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_truncated_blob_is_named_as_damaged(tmp_path: Path, compress: "type[bytes]") -> None:
    """A blob cut short is an integrity error, whatever the decompressor makes of it."""
    layout = Layout(tmp_path)
    layout.create()
    blob = compress(TAR)
    path = layout.blob_path(layout.put(blob))
    path.write_bytes(blob[: len(blob) // 2])
    with pytest.raises(IntegrityError, match="instead of"):
        walked(layout, blob)


def test_a_blob_that_is_rightly_named_but_no_tar_is_bad_input(tmp_path: Path) -> None:
    """Garbage with the promised digest is not damaged but malformed."""
    layout = Layout(tmp_path)
    layout.create()
    with pytest.raises(InputError, match="not a readable tar") as caught:
        walked(layout, b"\x01" * 2000)
    assert not isinstance(caught.value, IntegrityError)


def test_bytes_after_the_archive_count(tmp_path: Path) -> None:
    """The diff ID covers the padding behind the end of the archive, as the specification says."""
    layout = Layout(tmp_path)
    layout.create()
    padded = TAR + bytes(4096)
    descriptor = Descriptor(media_type=documents.LAYER, digest=layout.put(padded), size=len(padded))
    assert [entry.path for entry, _ in VerifiedLayer(layout, descriptor, digests.of(padded))] == ["a"]


def test_a_missing_blob_is_not_found(tmp_path: Path) -> None:
    """A layer that the source has not is said to be missing."""
    image = put_image(Layout(tmp_path), [TAR])
    descriptor, diff_id = image.layers[0]
    gone = msgspec.structs.replace(descriptor, digest=digests.of(b"other"))
    with pytest.raises(NotFoundError):
        list(VerifiedLayer(image.source, gone, diff_id))


def test_sha512_is_understood(tmp_path: Path) -> None:
    """Descriptors and diff IDs may be SHA-512."""
    import hashlib

    layout = Layout(tmp_path)
    layout.create()
    digest = digests.parse("sha512:" + hashlib.sha512(TAR).hexdigest())
    with layout.writer() as writer:
        writer.write(TAR)
        writer.commit(digest)
    descriptor = Descriptor(media_type=documents.LAYER, digest=digest, size=len(TAR))
    assert [entry.path for entry, _ in VerifiedLayer(layout, descriptor, digest)] == ["a"]
