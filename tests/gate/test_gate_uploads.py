"""Blobs on their way in, as files."""

import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gate_place import digest_of
from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, LimitError, NotFoundError
from tidewaiter.gate.uploads import BusyError, Uploads
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layout import Layout

DATA = os.urandom(300_000)


@pytest.fixture
def store(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "store")
    layout.create()
    return layout


def left(store: Layout) -> list[str]:
    """Files of uploads."""
    folder = store.path / ".uploads"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_what_came_in_pieces_is_one_blob(store: Layout, algorithm: str) -> None:
    """Pieces of several requests make the blob, under the digest of either algorithm; nothing else remains."""
    uploads = Uploads(store)
    name = uploads.begin("a")
    for start in range(0, len(DATA), 100_000):
        with uploads.open("a", name) as upload:
            upload.write([DATA[start : start + 50_000], DATA[start + 50_000 : start + 100_000]])
            upload.sync()
    assert uploads.length("a", name) == len(DATA)
    digest = digests.parse(digest_of(DATA, algorithm))
    with uploads.open("a", name) as upload:
        assert upload.commit(digest) == len(DATA)
    assert store.read(digest) == DATA
    assert left(store) == []


def test_it_goes_on_after_a_restart(store: Layout) -> None:
    """Another process knows how far an upload came from the file alone, and hashes it whole."""
    name = Uploads(store).begin("a")
    with Uploads(store).open("a", name) as upload:
        upload.write([DATA[:1000]])
    again = Uploads(store)
    assert again.length("a", name) == 1000
    with again.open("a", name) as upload:
        upload.write([DATA[1000:]])
        upload.commit(digests.parse(digest_of(DATA)))
    assert store.read(digests.parse(digest_of(DATA))) == DATA


def test_what_another_process_wrote_is_hashed_too(store: Layout) -> None:
    """A hash that does not cover the whole file is not used."""
    uploads = Uploads(store)
    name = uploads.begin("a")
    with uploads.open("a", name) as upload:
        upload.write([b"one"])
    with Uploads(store).open("a", name) as upload:
        upload.write([b"two"])
    with uploads.open("a", name) as upload:
        upload.commit(digests.parse(digest_of(b"onetwo")))


def test_other_bytes_leave_nothing(store: Layout) -> None:
    """A blob of another digest is refused, and its file is gone."""
    uploads = Uploads(store)
    name = uploads.begin("a")
    with uploads.open("a", name) as upload:
        upload.write([DATA])
        with pytest.raises(IntegrityError, match="300000 bytes came"):
            upload.commit(digests.parse(digest_of(b"other")))
    assert left(store) == []
    assert list(store.blobs()) == []


def test_a_blob_that_is_there_is_kept_once(store: Layout) -> None:
    """What comes again is thrown away; the file that is there stays as it is."""
    digest = store.put(DATA)
    before = store.blob_path(digest).stat().st_ino
    uploads = Uploads(store)
    name = uploads.begin("a")
    with uploads.open("a", name) as upload:
        upload.write([DATA])
        upload.commit(digest)
    assert store.blob_path(digest).stat().st_ino == before
    assert left(store) == []


def test_only_who_knows_repository_and_name_finds_it(store: Layout) -> None:
    """Another repository, another name, and names that are paths find nothing."""
    uploads = Uploads(store)
    name = uploads.begin("a")
    for repository, given in (("b", name), ("a", "0" * 32), ("a", "../" + name), ("a", name + "\n"), ("a", "")):
        with pytest.raises(NotFoundError):
            uploads.length(repository, given)
        with pytest.raises(NotFoundError):
            uploads.open(repository, given)
        with pytest.raises(NotFoundError):
            uploads.cancel(repository, given)
    uploads.cancel("a", name)
    with pytest.raises(NotFoundError):
        uploads.length("a", name)


def test_one_at_a_time(store: Layout) -> None:
    """While one goes on with an upload nobody else does; afterwards they may."""
    uploads = Uploads(store)
    name = uploads.begin("a")
    with uploads.open("a", name), pytest.raises(BusyError):
        uploads.open("a", name)
    uploads.open("a", name).__exit__()


def test_abandoned_ones_are_swept(store: Layout) -> None:
    """What nobody went on with for a day goes; what somebody did stays."""
    uploads = Uploads(store)
    old, new = uploads.begin("a"), uploads.begin("a")
    path = next(one for one in (store.path / ".uploads").iterdir() if one.name.endswith(old))
    before = path.stat().st_mtime - limits.GATE_UPLOAD_SECONDS - 5
    os.utime(path, (before, before))
    assert uploads.sweep() == 1
    assert uploads.length("a", new) == 0
    with pytest.raises(NotFoundError):
        uploads.length("a", old)


def test_bounds(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads of a repository and bytes of a blob are bounded, and the last that fits is taken."""
    monkeypatch.setattr(limits, "GATE_UPLOADS", 2)
    monkeypatch.setattr(limits, "GATE_BLOB_BYTES", 10)
    uploads = Uploads(store)
    uploads.begin("a")
    name = uploads.begin("a")
    with pytest.raises(LimitError, match="2 uploads"):
        uploads.begin("a")
    uploads.begin("b")
    with uploads.open("a", name) as upload:
        upload.write([b"0123456789"])
        with pytest.raises(LimitError, match="over 10 bytes"):
            upload.write([b"x"])
    assert len(left(store)) == 2


FULL = """
import resource, sys
from pathlib import Path
from tidewaiter.core.errors import StorageError
from tidewaiter.gate import refusals
from tidewaiter.gate.uploads import Uploads
from tidewaiter.oci.layout import Layout
store = Layout(Path(sys.argv[1]))
uploads = Uploads(store)
name = uploads.begin("a")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with uploads.open("a", name) as upload:
    upload.write([bytes(90_000)])
    try:
        upload.write([bytes(20_000)])
    except StorageError as error:
        print(refusals.of(error).status)
"""


def test_a_full_disk_leaves_nothing(store: Layout) -> None:
    """When the disk takes no more, that is said as 507, and no byte of the upload remains."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(store.path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == ("507\n", 0), done.stderr
    assert left(store) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from tidewaiter.gate.uploads import Uploads
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layout import Layout
store = Layout(Path(sys.argv[1]))
uploads = Uploads(store)
name = uploads.begin("a")
print(name, flush=True)
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
with uploads.open("a", name) as upload:
    upload.write([b"a" * 1000])
    if sys.argv[2] == "writing":
        die()
    setattr(os, sys.argv[2], die)
    upload.commit(digests.of(b"a" * 1000))
"""


@pytest.mark.parametrize("when", ["writing", "fchmod", "fsync", "rename"])
def test_killed_at_any_moment(store: Layout, when: str) -> None:
    """Killed while it writes, syncs or is renamed, an upload is no blob, and it can be gone on with."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.path), when], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == -9, done.stderr
    assert list(store.blobs()) == []
    name = done.stdout.strip()
    uploads = Uploads(store)
    assert uploads.length("a", name) == 1000
    with uploads.open("a", name) as upload:
        upload.commit(digests.Digest("sha256:" + hashlib.sha256(b"a" * 1000).hexdigest()))
    assert len(list(store.blobs())) == 1


def test_a_process_that_starts_keeps_no_upload_busy(store: Layout) -> None:
    """Who ended lets others go on at once, although a child that was forked meanwhile still has the file open."""
    uploads = Uploads(store)
    name = uploads.begin("a")
    with uploads.open("a", name) as upload:
        inherited = os.dup(upload._handle)
    try:
        with uploads.open("a", name):
            pass
    finally:
        os.close(inherited)
