"""Layers are read in child processes: hostile bytes are inflated, walked and understood where they can do no harm.

1. The largest blobs that are files here are opened; children get the open files and nothing else.
2. One child for each thread that the user allows, no more than there is work for; each reads one layer at a time.
3. Any other blob is opened when a child takes it, sent to the child as it arrives, and never stored.
4. A child answers with facts, or with what is wrong with the layer. One that dies, is late or answers oddly means that
   it could not be found out; the first failure ends all children.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO

import msgspec

from tidewaiter.core import child as children
from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.inspection import wire
from tidewaiter.inspection.image import Layer, LayerAnswer
from tidewaiter.inspection.layer_facts import LayerFacts
from tidewaiter.inspection.stack import Item
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.layout import Layout

_COMMAND = ("-m", "tidewaiter.inspection.child")
_ENVIRONMENT = {
    # Threads that inflate share one arena: each of their own would hold on to freed blocks of 1 MiB.
    "MALLOC_ARENA_MAX": "1",
    # Blocks of some MiB are freed and made anew all the time; the kernel would clear each of their pages again.
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
_CHUNK = 1 << 20
_WORTH_A_CHILD = 16 << 20
"""Compressed bytes beside the largest layer for which one more child pays: starting it takes as long as reading so."""
_OPENED = 32
"""Blobs whose files children are given when they start, since later they can get none. Images may have more layers
than a process may have files; reading a large blob from its file is faster than having it sent, a small one hardly."""


class LayerChildError(UndeterminedError):
    """A layer's process died, was late, or answered something that is no answer."""

    default_code = "layer_child"


def _failed(what: str) -> LayerChildError:
    return LayerChildError(
        f"the process that reads layers gave no answer: {what}",
        next_step="Run the command again; if it happens again, do not use this image, and report it.",
    )


def _untold(_: int) -> None:
    pass


class _Stopped(Exception):  # noqa: N818  not an error: another layer has failed, or the user interrupted
    pass


class LayerChild:
    """One child, and the layers that it is asked for; `files` are blobs that it has open."""

    def __init__(self, files: Mapping[Item, IO[bytes]] | None = None) -> None:
        self._files = files = files or {}
        self._child = children.Child(
            (*_COMMAND, str(limits.LAYER_CHILD_BYTES)),
            failure=_failed,
            environment=_ENVIRONMENT,
            descriptors=[file.fileno() for file in files.values()],
        )
        self._started = False

    def kill(self) -> None:
        """End the child from another thread than the one that talks to it."""
        self._child.kill()

    def close(self) -> None:
        """End the child."""
        self._child.close()

    def read(self, source: BlobSource, layer: Layer, advance: Callable[[int], None]) -> LayerAnswer:
        """What the child says of `layer`; raises what it says is wrong, or `LayerChildError`."""
        file = self._files.get((layer.blob.digest, layer.diff_id))
        question = wire.Question(
            blob=layer.blob.digest,
            size=layer.blob.size,
            diff_id=layer.diff_id,
            file=-1 if file is None else file.fileno(),
        )
        if self._ask(question) and file is None:
            self._stream(source, layer, advance)
        facts, listing = self._answer(layer.blob.size, advance)
        if facts.diff_id != layer.diff_id:
            raise self._child.fail("it answered about another layer")
        return LayerAnswer(layer, facts, listing)

    def read_unnamed(self, pieces: Iterable[bytes]) -> tuple[LayerFacts, bytes]:
        """Facts and listing of a blob that has no name yet; raises as `read` does, and what `pieces` raises."""
        if self._ask(wire.Question()) and all(self._child.send(one, deadline=self._deadline()) for one in pieces):
            self._child.send(b"", deadline=self._deadline())
        return self._answer(-1, _untold)

    def _ask(self, question: wire.Question) -> bool:
        if not self._started:
            self._expect_ready()
        return self._child.send(msgspec.json.encode(question), deadline=self._deadline())

    def _deadline(self) -> float:
        return time.monotonic() + limits.LAYER_SILENT_SECONDS

    def _frame(self, deadline: float) -> tuple[bytes, memoryview]:
        frame = memoryview(self._child.receive(limits.LAYER_ANSWER_BYTES, deadline=deadline))
        return bytes(frame[:1]), frame[1:]

    def _expect_ready(self) -> None:
        kind, body = self._frame(time.monotonic() + limits.LAYER_CHILD_SECONDS)
        try:
            if kind != wire.READY:
                raise self._child.fail("it answered something odd when it started")
            msgspec.json.decode(body, type=wire.Ready)
        except (ValueError, RecursionError) as error:
            raise self._child.fail("it answered something odd when it started") from error
        self._started = True

    def _stream(self, source: BlobSource, layer: Layer, advance: Callable[[int], None]) -> None:
        """Send the blob, and no more than its size and one byte: then the child knows that it is too long."""
        left = layer.blob.size + 1
        with source.open(layer.blob.digest) as blob:
            while data := blob.read(min(_CHUNK, left)):
                left -= len(data)
                if not self._child.send(data, deadline=self._deadline()):
                    return  # it knows enough, and says what is wrong
                advance(len(data))
        self._child.send(b"", deadline=self._deadline())

    def _answer(self, size: int, advance: Callable[[int], None]) -> tuple[LayerFacts, bytes]:
        """Facts and listing; the child tells of no progress beyond `size` bytes."""
        listing: bytes | None = None
        told = 0
        while True:
            kind, body = self._frame(self._deadline())
            try:
                if kind == wire.PROGRESS and len(body) == wire.PROGRESS_BYTES and told <= size:
                    amount = int.from_bytes(body, "big")
                    told += amount
                    advance(amount)
                elif kind == wire.PROBLEM:
                    raise msgspec.json.decode(body, type=wire.Problem).error
                elif kind == wire.LISTING and listing is None:
                    listing = bytes(body)
                elif kind == wire.FACTS and listing is not None:
                    return msgspec.msgpack.decode(body, type=LayerFacts), listing
                else:
                    raise self._child.fail("it answered something odd")
            except (ValueError, RecursionError) as error:
                raise self._child.fail("it answered something odd") from error


class LayerReaders:
    """A `LayerReader` of up to `threads` children at a time. They start at once and end with the last answer."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __call__(
        self, source: BlobSource, layers: Sequence[Layer], advance: Callable[[int], None]
    ) -> Iterator[LayerAnswer]:
        """An answer for each of `layers`, as they are done; raises as the protocol says."""
        with ExitStack() as stack:
            files = {}
            if isinstance(source, Layout):  # step 1
                largest = sorted(layers, key=lambda layer: layer.blob.size, reverse=True)[:_OPENED]
                for blob, diff_id in largest:  # a file for each: children share the place in an open file
                    files[blob.digest, diff_id] = stack.enter_context(source.open(blob.digest))
            team = _Team(_count(layers, self._threads), files, source, layers, advance)  # step 2
            stack.callback(team.end)
            return _answers(team, stack.pop_all(), len(layers))


def _answers(team: "_Team", stack: ExitStack, count: int) -> Iterator[LayerAnswer]:
    with stack:
        yield from team.answers(count)


def _count(layers: Sequence[Layer], threads: int) -> int:
    sizes = sorted(layer.blob.size for layer in layers)
    return max(1, min(threads, len(sizes), 1 + sum(sizes[:-1]) // _WORTH_A_CHILD))


class _Team:
    """Children at work, each with a thread that talks to it."""

    def __init__(
        self,
        count: int,
        files: Mapping[Item, IO[bytes]],
        source: BlobSource,
        layers: Sequence[Layer],
        advance: Callable[[int], None],
    ) -> None:
        self._readers = [LayerChild(files) for _ in range(count)]
        self._source = source
        self._advance = advance
        self._todo: deque[Layer] = deque(layers)
        self._done: queue.SimpleQueue[LayerAnswer | BaseException] = queue.SimpleQueue()
        self._stop = False
        self._threads = [threading.Thread(target=self._work, args=(reader,), daemon=True) for reader in self._readers]
        for thread in self._threads:
            thread.start()

    def _work(self, reader: LayerChild) -> None:
        try:
            with contextlib.suppress(IndexError):
                while not self._stop:
                    self._done.put(reader.read(self._source, self._todo.popleft(), self._told))
        except BaseException as error:  # noqa: BLE001  # raised where the answers are awaited
            self._done.put(error)
        finally:
            reader.close()

    def _told(self, amount: int) -> None:
        if self._stop:
            raise _Stopped
        self._advance(amount)

    def answers(self, count: int) -> Iterator[LayerAnswer]:
        """The next `count` answers; raises the first failure."""
        for _ in range(count):
            answer = self._done.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer

    def end(self) -> None:
        """End all children and wait for the threads."""
        self._stop = True
        for reader in self._readers:
            reader.kill()
        for thread in self._threads:
            thread.join()
