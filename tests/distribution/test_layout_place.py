"""`distribution.layout_place`: what reaches the disk when, and which blobs are taken for right without being read."""

import os
from pathlib import Path

import pytest

from images import make_image
from tidewaiter.distribution import layout_place
from tidewaiter.distribution.copy import CopyResult, copy
from tidewaiter.distribution.layout_place import LayoutPlace
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor


class Image:
    """An image to copy, and a copy of it."""

    def __init__(self, folder: Path, *, synced: bool) -> None:
        self.source, self.root = make_image(folder / "source", sizes=(5000, 3000))
        self.target = Layout(folder / "target", synced=synced)
        self.target.create()

    def copied(self) -> CopyResult:
        return copy(LayoutPlace(self.source), LayoutPlace(self.target), self.root, tags=["t"])

    def damage(self) -> Descriptor:
        """Change a blob so that size, time and inode of its file stay."""
        digest = next(digest for digest in self.source.blobs() if digest != self.root.digest)
        path = self.target.blob_path(digest)
        before = path.stat()
        with path.open("r+b") as file:
            file.write(b"damaged")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return Descriptor(media_type="application/octet-stream", digest=digest, size=before.st_size)


@pytest.fixture
def synced_files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each sync to the disk; they still happen."""
    calls: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        calls.append(handle)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


@pytest.mark.parametrize("synced", [True, False])
def test_only_a_store_waits_for_the_disk(tmp_path: Path, synced_files: list[int], synced: bool) -> None:
    """All that is written into a synced layout is synced; another folder is left to the system, as by other tools."""
    image = Image(tmp_path, synced=synced)
    blobs = len(list(image.source.blobs()))
    synced_files.clear()
    result = image.copied()
    assert set(image.target.blobs()) == set(image.source.blobs())
    assert image.target.resolve("t").digest == result.digest
    if synced:
        assert len(synced_files) >= blobs + 1
    else:
        assert synced_files == []


@pytest.mark.parametrize("synced", [True, False])
def test_what_was_hashed_is_not_read_again(tmp_path: Path, synced: bool) -> None:
    """A blob whose file is as it was counts as right; a changed time makes it be hashed, and fetched when damaged."""
    image = Image(tmp_path, synced=synced)
    image.copied()
    damaged = image.damage()
    assert LayoutPlace(image.target).has_blob(damaged)
    os.utime(image.target.blob_path(damaged.digest))
    assert not LayoutPlace(image.target).has_blob(damaged)
    assert image.copied().sent.blobs == 1
    assert image.target.verify(damaged)


def test_what_was_not_synced_is_read_again_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may have taken bytes that never reached the disk: the notes of an earlier boot prove nothing."""
    image = Image(tmp_path, synced=False)
    image.copied()
    damaged = image.damage()
    assert LayoutPlace(image.target).has_blob(damaged)
    monkeypatch.setattr(layout_place, "_boot", lambda: "another boot")
    assert not LayoutPlace(image.target).has_blob(damaged)


def test_what_was_synced_holds_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is not read whole after every boot."""
    image = Image(tmp_path, synced=True)
    image.copied()
    unread = image.damage()
    monkeypatch.setattr(layout_place, "_boot", lambda: "another boot")
    assert LayoutPlace(image.target).has_blob(unread)


def test_notes_that_cannot_be_read_are_no_notes(tmp_path: Path) -> None:
    """A damaged `.verified` costs hashing, nothing else."""
    image = Image(tmp_path, synced=True)
    image.copied()
    damaged = image.damage()
    (image.target.path / ".verified").write_bytes(b'{"boot": 7')
    assert not LayoutPlace(image.target).has_blob(damaged)
