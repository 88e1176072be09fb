"""Layers are read while they are uploaded, so that little is left to do when the manifest arrives that names them.

1. Once some of an upload is there and looks like a layer, a child process follows it: bytes go to it as they arrive.
2. What is complete and was not followed waits for a child. One child reads blobs of one repository only. When it has
   done so another one is started that waits for the next push.
3. Facts are kept under the blob's digest and the diff ID that it turned out to have: an image counts on them when it
   names that very pair.
4. Whoever judges takes away what still waits, and waits for what is being read.

This saves time and decides nothing: what it gives up is read when it is judged.
"""

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tidewaiter.core import limits
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.inspection.layer_facts import LayerFacts
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines.reading import LayerChild

_LOG = logging.getLogger("tidewaiter.gate")
_CHUNK = 1 << 20
_LINGER_SECONDS = 1.0
"""A child that has nothing to do waits so long for the next blob of its repository: starting one takes a while, too."""
_FRESH_SECONDS = 300.0
"""So long one that has read nothing yet waits for the next blob of any."""
_GZIP, _ZSTD, _TAR, _TAR_AT = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"ustar", 257


class _GivenUpError(Exception):
    """The upload is gone, or does not go on."""


class _Blob:
    """One blob on its way in, or in the store; but for `done`, all of it is looked at under the lock."""

    def __init__(self, repository: str, handle: int) -> None:
        self.repository = repository
        self.handle = handle
        self.length = 0
        """Bytes that there are."""
        self.digest: Digest | None = None
        """Known once it is complete."""
        self.gone = False
        self.done = threading.Event()


class ReadingAhead:
    """Up to `threads` children. Safe from any thread; what goes wrong is nobody's matter, so nothing raises."""

    def __init__(self, folder: Path, threads: int, wanted: Callable[[str], bool]) -> None:
        """`folder` is that of layer facts; `wanted` says whether the layers of a repository are ever read."""
        self.prepare: Callable[[], None] | None = None
        """Called in a thread once there is something to read: somebody will be asked about it soon."""
        self.found: Callable[[LayerFacts], None] = lambda _: None
        """Told of every layer that was read; what it does is done before the next one is."""
        self._cache = LayerFactsCache(folder)
        self._wanted = wanted
        self._threads = threads
        self._changed = threading.Condition()
        self._uploads: dict[Path, _Blob] = {}
        """That are followed."""
        self._todo: deque[_Blob] = deque()
        self._complete: dict[Digest, _Blob] = {}
        """That wait, or are being read."""
        self._children: set[LayerChild] = set()
        self._fresh: LayerChild | None = None
        """It has read nothing, so it may read for anybody."""
        self._busy = 0
        self._closed = False

    @property
    def reading(self) -> bool:
        """Whether a complete blob waits, or is being read."""
        with self._changed:
            return bool(self._complete)

    def grew(self, upload: Path, repository: str, length: int) -> None:
        """So many bytes of an upload are there now."""
        if length < limits.GATE_FOLLOWED_BYTES:
            return
        with self._changed:
            blob = self._uploads.get(upload)
            if blob is None:
                free = not self._closed and not self._todo and self._busy < self._threads
                blob = _opened(upload, repository) if free and self._wanted(repository) else None
                if blob is None:
                    return
                self._uploads[upload] = blob
                self._add(blob)
            blob.length = length
            self._changed.notify_all()

    def complete(self, upload: Path, repository: str, digest: Digest, stored: Path, length: int) -> None:
        """An upload is the blob `digest` now, which lies at `stored`."""
        with self._changed:
            blob = self._uploads.pop(upload, None)
            followed = blob is not None and not blob.done.is_set()
            if not followed:
                if self._closed or len(self._todo) >= limits.GATE_AHEAD or not self._wanted(repository):
                    return
                blob = _opened(stored, repository)
            if blob is None:
                return
            blob.length, blob.digest = length, digest
            self._complete[digest] = blob
            if not followed:
                self._add(blob)
            self._changed.notify_all()

    def gone(self, upload: Path) -> None:
        """Nothing will come of an upload."""
        with self._changed:
            blob = self._uploads.pop(upload, None)
            if blob is not None:
                blob.gone = True
                self._changed.notify_all()

    def settle(self, digests: Iterable[Digest]) -> None:
        """Step 4: when this returns, none of these blobs is being read here, and none of them will be."""
        reading: list[_Blob] = []
        with self._changed:
            for digest in digests:
                blob = self._complete.get(digest)
                if blob is None:
                    continue
                if blob in self._todo:
                    self._todo.remove(blob)
                    self._end(blob)
                else:
                    reading.append(blob)
        for blob in reading:
            blob.done.wait()

    def close(self) -> None:
        """End all children, and do nothing more."""
        with self._changed:
            self._closed = True
            while self._todo:
                self._end(self._todo.popleft())
            for blob in self._uploads.values():
                blob.gone = True
            children = list(self._children)
            self._changed.notify_all()
        for child in children:
            child.kill()

    def _add(self, blob: _Blob) -> None:
        if self.prepare is not None:
            threading.Thread(target=self.prepare, name="prepare", daemon=True).start()
            self.prepare = None
        self._todo.append(blob)
        if self._busy < self._threads:
            self._busy += 1
            threading.Thread(target=self._work, name="reading-ahead", daemon=True).start()

    def _end(self, blob: _Blob) -> None:
        os.close(blob.handle)
        if blob.digest is not None and self._complete.get(blob.digest) is blob:
            del self._complete[blob.digest]
        blob.done.set()

    def _work(self) -> None:
        child: LayerChild | None = None
        repository = ""
        while (blob := self._next(repository if child else "")) is not None:
            if child is not None and blob.repository != repository:
                self._drop(child)
                child = None
            try:
                if child is None:
                    child, repository = self._started(), blob.repository
                facts, listing = child.read_unnamed(self._pieces(blob))
                if blob.digest is not None:
                    self._cache.put(blob.digest, facts, listing)
                    self.found(facts)
            except Exception as error:  # noqa: BLE001  # whoever judges reads it again, and says what is wrong
                if not isinstance(error, (TidewaiterError, _GivenUpError, OSError)):
                    _LOG.exception("reading a layer ahead")
                if child is not None:  # it may be in the middle of something
                    self._drop(child)
                    child = None
            finally:
                with self._changed:
                    self._end(blob)
        if child is not None:
            self._drop(child)
            self._keep_fresh()

    def _started(self) -> LayerChild:
        """A child that has read nothing."""
        with self._changed:
            child, self._fresh = self._fresh, None
            self._changed.notify_all()
        if child is None:
            child = LayerChild()
            with self._changed:
                self._children.add(child)
        return child

    def _keep_fresh(self) -> None:
        """Start a child for whoever needs one next, and end it when nobody does."""
        with self._changed:
            if self._closed or self._fresh is not None:
                return
            try:
                fresh = self._fresh = LayerChild()
            except TidewaiterError:
                return  # whoever needs one hears of it
            self._children.add(fresh)
            self._changed.wait_for(lambda: self._closed or self._fresh is not fresh, _FRESH_SECONDS)
            if self._fresh is not fresh:
                return
            self._fresh = None
        self._drop(fresh)

    def _drop(self, child: LayerChild) -> None:
        child.close()
        with self._changed:
            self._children.discard(child)

    def _next(self, repository: str) -> _Blob | None:
        """The next blob, of that repository if there is one; None when the thread is to end, and counts no more."""
        with self._changed:
            if repository and not self._todo and not self._closed:
                self._changed.wait_for(lambda: self._todo or self._closed, _LINGER_SECONDS)
            if self._closed or not self._todo:
                self._busy -= 1
                return None
            found = next((blob for blob in self._todo if blob.repository == repository), self._todo[0])
            self._todo.remove(found)
            return found

    def _pieces(self, blob: _Blob) -> Iterator[bytes]:
        """Its bytes, as they arrive, to its end."""
        place = 0
        ended = False
        while True:
            data = os.pread(blob.handle, _CHUNK, place)
            place += len(data)
            if data:
                ended = False
                yield data
            elif self._goes_on(blob, place, ended=ended):
                ended = True  # if there is still nothing, it is shorter than was said
            else:
                return

    def _goes_on(self, blob: _Blob, place: int, *, ended: bool) -> bool:
        """Wait until more than `place` bytes are there; False when these are all."""

        def changed() -> bool:
            return blob.gone or self._closed or blob.digest is not None or blob.length > place

        with self._changed:
            if not self._changed.wait_for(changed, limits.GATE_FOLLOW_SECONDS) or blob.gone or self._closed:
                raise _GivenUpError
            if place > blob.length or (ended and place < blob.length):
                raise _GivenUpError
            return place < blob.length


def _opened(path: Path, repository: str) -> _Blob | None:
    """The blob in a file, if it looks like a layer."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        head = os.pread(handle, _TAR_AT + len(_TAR), 0)
        if head.startswith((_GZIP, _ZSTD)) or head[_TAR_AT:] == _TAR:
            return _Blob(repository, handle)
    os.close(handle)
    return None
