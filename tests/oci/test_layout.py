import hashlib
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError, StorageError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.image import from_layout
from tidewaiter.oci.layout import REF_NAME, Layout
from tidewaiter.oci.manifest import Descriptor

HELLO = digests.of(b"hello")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "layout")
    made.create()
    return made


def descriptor(layout: Layout, data: bytes) -> Descriptor:
    return Descriptor(media_type=documents.MANIFEST, digest=layout.put(data), size=len(data))


def test_a_blob_appears_under_its_digest(layout: Layout) -> None:
    """What is put can be asked for, opened and read; what is not there is not found."""
    assert layout.put(b"hello") == HELLO
    assert (layout.has(HELLO), layout.has(HELLO, 5), layout.has(HELLO, 6)) == (True, True, False)
    assert layout.read(HELLO) == b"hello"
    assert list(layout.blobs()) == [HELLO]
    with pytest.raises(NotFoundError):
        layout.open(digests.of(b"other"))


def test_an_abandoned_write_leaves_nothing(layout: Layout) -> None:
    """A writer that is not committed, for whatever reason, is as if it had not been."""

    def interrupted() -> None:
        with layout.writer() as writer:
            writer.write(b"hello")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(layout.blobs()) == []
    assert list(layout.ingest.iterdir()) == []


@pytest.mark.parametrize("size", [4, 6])
def test_a_blob_that_is_not_the_expected_one_stays_hidden(layout: Layout, size: int) -> None:
    """Another digest or size is an integrity error, and nothing becomes visible."""
    for expected, length in ((digests.of(b"other"), None), (HELLO, size)):
        with layout.writer() as writer:
            writer.write(b"hello")
            with pytest.raises(IntegrityError):
                writer.commit(expected, size=length)
    assert list(layout.blobs()) == []


def test_sha512_blobs_lie_in_their_own_folder(layout: Layout) -> None:
    """A blob that is expected by SHA-512 is stored and read by it."""
    digest = digests.parse("sha512:" + hashlib.sha512(b"hello").hexdigest())
    with layout.writer() as writer:
        writer.write(b"hello")
        assert writer.commit(digest) == digest
    assert layout.read(digest) == b"hello"


def test_a_damaged_blob_is_noticed_and_can_be_put_again(layout: Layout) -> None:
    """Reading and verifying see altered bytes; putting the right ones mends the blob."""
    layout.put(b"hello")
    layout.blob_path(HELLO).write_bytes(b"jello")
    with pytest.raises(IntegrityError, match="damaged"):
        layout.read(HELLO)
    wanted = Descriptor(media_type=documents.LAYER, digest=HELLO, size=5)
    assert not layout.verify(wanted)
    layout.put(b"hello")
    assert layout.verify(wanted)
    assert not layout.verify(Descriptor(media_type=documents.LAYER, digest=HELLO, size=6))


def test_reading_is_bounded(layout: Layout) -> None:
    """A blob may be as large as the limit, not larger."""
    layout.put(b"hello")
    assert layout.read(HELLO, limit=5) == b"hello"
    with pytest.raises(IntegrityError, match="over 4 bytes"):
        layout.read(HELLO, limit=4)


def test_tags_are_set_moved_and_removed(layout: Layout) -> None:
    """A tag names one manifest at a time; others are left alone."""
    one, two = descriptor(layout, b"1"), descriptor(layout, b"2")
    layout.tag("b:1", one)
    layout.tag("a:1", one)
    layout.tag("b:1", two)
    assert layout.tags() == ["a:1", "b:1"]
    assert layout.resolve("b:1").digest == two.digest
    layout.untag("b:1")
    layout.untag("never")
    assert layout.tags() == ["a:1"]
    assert layout.resolve(None).digest == one.digest
    with pytest.raises(NotFoundError, match="no image 'b:1'"):
        layout.resolve("b:1")


def test_without_a_name_there_must_be_one_image(layout: Layout) -> None:
    """An empty layout and one with two images say what they hold."""
    with pytest.raises(NotFoundError, match="holds 0 images"):
        layout.resolve(None)
    layout.tag("a:1", descriptor(layout, b"1"))
    layout.tag("b:1", descriptor(layout, b"2"))
    with pytest.raises(NotFoundError, match="holds 2 images"):
        layout.resolve(None)


def test_tags_of_many_threads_are_all_kept(layout: Layout) -> None:
    """Writers at the same time do not lose each other's tags."""
    image = descriptor(layout, b"1")
    threads = [threading.Thread(target=layout.tag, args=(f"t:{number}", image)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(layout.tags()) == 12


def test_creating_again_keeps_what_is_there(layout: Layout) -> None:
    """`create` on a layout in use changes nothing but removes what a killed process left long ago."""
    layout.tag("a:1", descriptor(layout, b"1"))
    layout.ingest.mkdir(exist_ok=True)
    old, new = layout.ingest / "old", layout.ingest / "new"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (1, 1))
    layout.create()
    assert layout.tags() == ["a:1"]
    assert list(layout.ingest.iterdir()) == [new]


@pytest.mark.parametrize(
    "index", [b"", b"[]", b"{", b'{"schemaVersion":2,"layers":[]}', b'{"schemaVersion":3,"manifests":[]}']
)
def test_a_malformed_index_is_bad_input(layout: Layout, index: bytes) -> None:
    """An index.json that is none is refused with a sentence."""
    (layout.path / "index.json").write_bytes(index)
    with pytest.raises(InputError):
        layout.index()


def test_a_folder_that_is_no_layout_is_not_found(tmp_path: Path) -> None:
    """Any other folder is said to be no layout."""
    with pytest.raises(NotFoundError, match="not an OCI layout"):
        from_layout(tmp_path, None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_a_disk_that_refuses_is_a_storage_error(layout: Layout) -> None:
    """A full disk is said to be full, and leaves nothing behind."""
    writer = layout.writer()
    writer._file.close()
    writer._file = Path("/dev/full").open("wb")  # noqa: SIM115  the writer closes it
    with pytest.raises(StorageError, match="the disk is full"), writer:
        writer.write(bytes(1_000_000))
    assert list(layout.ingest.iterdir()) == []


@pytest.mark.interop
def test_skopeo_copies_it_without_complaint(tmp_path: Path, tool: Tool) -> None:
    """The real skopeo reads our layout and gives the same manifest back."""
    layout = Layout(tmp_path / "layout")
    image = put_image(layout, [Tar().file("a", b"1").bytes()], name="team/it:1")
    skopeo = tool("skopeo")
    done = subprocess.run([skopeo, "inspect", "--raw", f"oci:{layout.path}:team/it:1"], check=True, capture_output=True)
    assert digests.of(done.stdout) == image.digest
    subprocess.run(
        [
            skopeo,
            "copy",
            "--insecure-policy",
            "--preserve-digests",
            f"oci:{layout.path}:team/it:1",
            f"oci:{tmp_path}/copy:x",
        ],
        check=True,
    )
    assert from_layout(tmp_path / "copy", "x").digest == image.digest
    copied = json.loads((tmp_path / "copy" / "index.json").read_bytes())
    assert copied["manifests"][0]["annotations"][REF_NAME] == "x"
