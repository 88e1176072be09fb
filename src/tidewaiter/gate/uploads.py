"""Blobs on their way in: each is a file of its own, whose length is how far it came.

1. An upload is named by the repository and 128 random bits; who does not know both finds nothing.
2. Bytes are appended under a lock, hashed as they come. Where the server stopped meanwhile, or another process wrote,
   the file is hashed when it is complete.
3. A complete one is synced, compared with its digest, and renamed to its place in the store: only then it is a blob.

Killed at any moment this leaves files that can be continued, and that are swept away when nobody does.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Self

from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import IntegrityError, LimitError, NotFoundError
from tidewaiter.gate.watching import Unwatched, Watch
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout

_NAME = re.compile(r"[0-9a-f]{32}")
_FOLDER = ".uploads"
_CHUNK = 1 << 20
_HASHERS = 1000


class _Hashed(NamedTuple):
    length: int
    sha256: "hashlib._Hash"


class BusyError(Exception):
    """Another request writes to this upload just now."""


class Uploads:
    """The uploads of a store. Safe from any thread."""

    def __init__(self, store: Layout, watch: Watch | None = None) -> None:
        self.store = store
        self.watch = watch or Unwatched()
        self._folder = store.path / _FOLDER
        self._hashed: OrderedDict[str, _Hashed] = OrderedDict()
        self._lock = Lock()

    def _path(self, repository: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise _unknown()
        return self._folder / f"{hashlib.sha256(repository.encode()).hexdigest()[:32]}-{name}"

    def begin(self, repository: str) -> str:
        """The name of a new upload.

        Raises:
            StorageError: the disk refused.
            LimitError: the repository has too many.
        """
        name = secrets.token_hex(16)
        path = self._path(repository, name)
        prefix = path.name.partition("-")[0]
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            running = sum(one.startswith(prefix) for one in os.listdir(self._folder))  # noqa: PTH208  # names, not paths
            if running >= limits.GATE_UPLOADS:
                raise LimitError(
                    f"{repository} has {running} uploads that are not complete",
                    next_step="Complete or cancel some, or wait until they are swept away.",
                )
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise durable.storage_error(error, str(self._folder)) from error
        return name

    def length(self, repository: str, name: str) -> int:
        """How many bytes came; raises `NotFoundError`."""
        try:
            return self._path(repository, name).stat().st_size
        except FileNotFoundError:
            raise _unknown() from None

    def cancel(self, repository: str, name: str) -> None:
        """Forget an upload; raises `NotFoundError`."""
        path = self._path(repository, name)
        try:
            path.unlink()
        except FileNotFoundError:
            raise _unknown() from None
        with self._lock:
            self._hashed.pop(path.name, None)
        self.watch.gone(path)

    def open(self, repository: str, name: str) -> "Upload":
        """The upload, to go on with; nobody else does meanwhile.

        Raises:
            NotFoundError: there is none of that name in this repository.
            BusyError: somebody else goes on with it.
        """
        path = self._path(repository, name)
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise _unknown() from None
        except OSError as error:
            raise durable.storage_error(error, str(path)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise BusyError from None
        if not os.fstat(handle).st_nlink:  # it was completed or cancelled meanwhile
            os.close(handle)
            raise _unknown()
        with self._lock:
            known = self._hashed.pop(path.name, None)
        return Upload(self, repository, path, handle, known)

    def keep(self, name: str, known: _Hashed) -> None:
        """Remember how far an upload is hashed."""
        with self._lock:
            self._hashed[name] = known
            while len(self._hashed) > _HASHERS:
                self._hashed.popitem(last=False)

    def sweep(self) -> int:
        """Remove uploads that nobody went on with for long; how many."""
        now = clock.now().timestamp()
        gone = 0
        try:
            left = list(self._folder.iterdir())
        except FileNotFoundError:
            return 0
        for path in left:
            with contextlib.suppress(FileNotFoundError):
                if now - path.lstat().st_mtime > limits.GATE_UPLOAD_SECONDS:
                    path.unlink()
                    self.watch.gone(path)
                    gone += 1
        return gone


class Upload:
    """One that is being gone on with. Use as a context manager, from one thread at a time."""

    def __init__(self, uploads: Uploads, repository: str, path: Path, handle: int, known: _Hashed | None) -> None:
        self._uploads = uploads
        self._store = uploads.store
        self._repository = repository
        self._path = path
        self._handle = handle
        self.length = os.fstat(handle).st_size
        if known is not None and known.length == self.length:
            self._sha256: hashlib._Hash | None = known.sha256
        else:
            self._sha256 = None if self.length else hashlib.sha256()
        self._gone = self._closed = False
        # A request may end, and this be closed, while a thread still works for it.
        self._writing, self._syncing = Lock(), Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._gone and self._sha256 is not None:
            self._uploads.keep(self._path.name, _Hashed(self.length, self._sha256))
        with self._writing, self._syncing:
            # A process that is being started may hold the file a moment longer; the lock would go with it.
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)
            self._closed = True

    def write(self, pieces: Sequence[bytes]) -> None:
        """Append bytes.

        Raises:
            StorageError: the disk refused; nothing of the upload remains.
            LimitError: it is too long; nothing remains either.
        """
        with self._writing:
            self._write(pieces)

    def _write(self, pieces: Sequence[bytes]) -> None:
        size = sum(map(len, pieces))
        if self.length + size > limits.GATE_BLOB_BYTES:
            self.remove()
            raise LimitError(f"the blob is over {limits.GATE_BLOB_BYTES} bytes", next_step="Split what it holds.")
        data: Sequence[bytes | memoryview] = pieces
        if self._closed:
            return
        try:
            while data:
                written = os.writev(self._handle, data[:_PIECES])
                data = _after(data, written)
        except OSError as error:
            self.remove()
            raise durable.storage_error(error, str(self._store.path)) from error
        self.length += size
        if self._sha256 is not None:
            for piece in pieces:
                self._sha256.update(piece)
        self._uploads.watch.grew(self._path, self._repository, self.length)

    def sync(self) -> None:
        """Let what was written go to the disk. Raises `StorageError`; nothing of the upload remains then."""
        try:
            with self._syncing:
                if not self._closed:
                    os.fdatasync(self._handle)
        except OSError as error:
            self.remove()
            raise durable.storage_error(error, str(self._store.path)) from error

    def commit(self, expected: Digest) -> int:
        """Make it the blob with that digest, which is on the disk when this returns; its length.

        Raises:
            IntegrityError: its bytes have another digest; nothing of it remains.
            StorageError: the disk refused; nothing remains either.
        """
        actual = self._digest(digests.algorithm(expected))
        if actual != expected:
            self.remove()
            raise IntegrityError(
                f"{self.length} bytes came, whose digest is {actual}, not {expected}",
                next_step="Send the blob again.",
            )
        target = self._store.blob_path(expected)
        try:
            if self._store.has(expected, self.length):
                self.remove()
                return self.length
            os.fchmod(self._handle, 0o644)
            os.fsync(self._handle)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.rename(target)
            self._gone = True
            durable.sync_directory(target.parent)
        except OSError as error:
            self.remove()
            raise durable.storage_error(error, str(target)) from error
        self._uploads.watch.complete(self._path, self._repository, expected, target, self.length)
        return self.length

    def _digest(self, algorithm: str) -> str:
        if algorithm == "sha256" and self._sha256 is not None:
            return f"sha256:{self._sha256.hexdigest()}"
        found = hashlib.new(algorithm)
        place = 0
        while data := os.pread(self._handle, _CHUNK, place):
            found.update(data)
            place += len(data)
        return f"{algorithm}:{found.hexdigest()}"

    def remove(self) -> None:
        """Leave nothing of it."""
        if not self._gone:
            self._gone = True
            self._path.unlink(missing_ok=True)
            self._uploads.watch.gone(self._path)


_PIECES = 512
"""Of one system call; it takes 1,024."""


def _after(pieces: Sequence[bytes | memoryview], written: int) -> Sequence[bytes | memoryview]:
    """What is left of `pieces` after so many bytes of them."""
    for number, piece in enumerate(pieces):
        if written < len(piece):
            return [memoryview(piece)[written:], *pieces[number + 1 :]]
        written -= len(piece)
    return ()


def _unknown() -> NotFoundError:
    return NotFoundError("there is no such upload", next_step="Begin a new one.")
