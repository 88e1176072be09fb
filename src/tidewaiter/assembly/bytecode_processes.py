"""Bytecode of Python sources, made by the image's own interpreter and by nothing else.

Several interpreters (`bytecode_child`) compile for any number of threads. What they return depends on the source, its
final path and the interpreter only: PEP 552 unchecked-hash headers, stable marshal data. No source is imported or run.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from tidewaiter.assembly.bytecode import Interpreter, Source, bytecode_path
from tidewaiter.assembly.bytecode_child import Child
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.core.progress import SILENT, Progress

_BATCH = 8
"""Sources sent to an interpreter at once."""
_AHEAD = 3
"""Batches asked for, for each interpreter."""

Deliver = Callable[[str, bytes], None]


def _read(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    return source.read_bytes() if isinstance(source, Path) else source()


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder it is, as one that takes its place is another; None when there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


class _Asked:
    """What one caller of `Compiler.compile` waits for."""

    def __init__(self) -> None:
        self.wanted = True
        """Whether the caller is still there."""
        self.answers: queue.SimpleQueue[list[tuple[str, bytes]] | BaseException] = queue.SimpleQueue()


def _batches(sources: Iterable[tuple[str, Source]]) -> Iterator[list[tuple[str, Source]]]:
    remaining = iter(sources)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


class Compiler:
    """`processes` interpreters that compile for any number of threads. Use as a context manager.

    They start with the first source, so that a build that compiles nothing starts none.
    """

    def __init__(self, interpreter: Interpreter, *, processes: int) -> None:
        self._interpreter = interpreter
        self._processes = processes
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: UndeterminedError | None = None
        self._started = False
        self._threads: list[threading.Thread] = []
        self._waiting: queue.SimpleQueue[tuple[_Asked, Sequence[tuple[str, Source]]] | None] = queue.SimpleQueue()
        self._watchdog = threading.Thread(target=self._watch, name="bytecode-watchdog", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stop.set()
            threads, children = list(self._threads), list(self._children)
        if kind is not None:
            for child in children:
                child.kill()
        self._abandon()
        for _ in threads:
            self._waiting.put(None)
        for thread in threads:
            thread.join()
        if self._watchdog.ident is not None:  # it was started
            self._watchdog.join()
        for child in children:
            child.close()

    def _abandon(self) -> None:
        """Answer what no thread has begun with: nobody will."""
        while True:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job[0].answers.put(RuntimeError("the compiler was closed"))

    def compile(self, sources: Iterable[tuple[str, Source]], deliver: Deliver) -> None:
        """Compile `sources` (path in the image, source) and hand `deliver` each path with its bytecode.

        `deliver` runs in the caller's thread, in no particular order; sources that do not compile are left out.
        A few dozen sources are in memory at a time when they are given as paths or callables.

        Raises:
            MissingToolError: the interpreter cannot run here.
            UndeterminedError: it died or took too long.
        """
        self._start()
        asked = _Asked()
        waiting = 0
        try:
            for batch in _batches(sources):
                self._submit(asked, batch)
                waiting += 1
                if waiting >= _AHEAD * self._processes:
                    self._collect(asked, deliver)
                    waiting -= 1
            for _ in range(waiting):
                self._collect(asked, deliver)
        finally:
            asked.wanted = False

    @staticmethod
    def _collect(asked: _Asked, deliver: Deliver) -> None:
        answer = asked.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        for path, compiled in answer:
            deliver(path, compiled)

    def _submit(self, asked: _Asked, batch: Sequence[tuple[str, Source]]) -> None:
        with self._lock:
            if self._stop.is_set():
                raise RuntimeError("the compiler is closed")
            self._waiting.put((asked, batch))
            # One thread more than there are interpreters reads what the next of them will get.
            if len(self._threads) <= self._processes:
                self._threads.append(threading.Thread(target=self._work, name="bytecode", daemon=True))
                self._threads[-1].start()

    def _work(self) -> None:
        """Compile batch after batch, until there are no more."""
        while (job := self._waiting.get()) is not None:
            asked, batch = job
            try:
                asked.answers.put(self._batch(batch) if asked.wanted else [])
            except BaseException as error:  # noqa: BLE001  # handed to the caller, who waits
                asked.answers.put(error)

    def _start(self) -> None:
        with self._lock:
            if self._stop.is_set():
                raise RuntimeError("the compiler is closed")
            if self._failure is not None:
                raise self._failure
            if not self._started:
                try:
                    self._start_children()
                except UndeterminedError as error:
                    self._failure = error
                    raise
                self._started = True

    def _start_children(self) -> None:
        self._children = self._checked_early() or self._spawned()
        self._watchdog.start()
        for child in self._children:
            child.greet(self._interpreter)
            self._idle.put(child)

    def _spawned(self) -> list[Child]:
        """An interpreter for each process wanted."""
        children: list[Child] = []
        try:
            while len(children) < self._processes:
                children.append(Child(self._interpreter))
        except BaseException:
            for child in children:
                child.close()
            raise
        return children

    def _checked_early(self) -> list[Child]:
        """Interpreters whose files were checked while they started, as both take long; none when those are others now.

        Whatever is wrong with the files is said before anything is asked of an interpreter.
        """
        children: list[Child] = []
        before = _identity(self._interpreter.rootfs)
        if before is not None and not self._interpreter.foreign:
            with suppress(UndeterminedError, InputError):  # the check finds out why
                children = self._spawned()
        try:
            self._interpreter.root()
        except BaseException:
            for child in children:
                child.close()
            raise
        if before == _identity(self._interpreter.rootfs):
            return children
        for child in children:
            child.close()
        return []

    def _batch(self, sources: Sequence[tuple[str, Source]]) -> list[tuple[str, bytes]]:
        batch = [(path, data) for path, source in sources if len(data := _read(source)) <= limits.BYTECODE_SOURCE_BYTES]
        if not batch:
            return []
        child = self._idle.get()
        try:
            if self._failure is not None:
                raise self._failure
            return [(path, compiled) for path, compiled in child.compile(batch) if compiled is not None]
        except UndeterminedError as error:
            # Whoever asks next hears of the first failure, not of a pipe that is closed since.
            self._failure = self._failure or error
            raise
        finally:
            self._idle.put(child)

    def _watch(self) -> None:
        """Kill interpreters that are late, so that the threads that wait for them wake up."""
        while not self._stop.wait(0.2):
            now = time.monotonic()
            for child in list(self._children):
                since = child.busy_since
                if since is None:
                    continue
                if now - since > limits.BYTECODE_FILE_SECONDS:
                    child.late = f"it took more than {limits.BYTECODE_FILE_SECONDS} s"
                elif child.busy_seconds + now - since > limits.BYTECODE_SECONDS:
                    child.late = f"all files together took more than {limits.BYTECODE_SECONDS} s"
                if child.late:
                    child.kill()


def compile_tree(
    interpreter: Interpreter,
    sources: Iterable[tuple[str, Source]],
    *,
    threads: int,
    progress: Progress = SILENT,
    title: str = "Compiling Python sources",
) -> dict[str, bytes]:
    """Bytecode of `sources`, pairs of final path (`/usr/lib/python3.11/os.py`) and source, by bytecode path.

    Sources that do not compile with this interpreter are left out, as installers do.

    Raises:
        MissingToolError: the interpreter cannot run here.
        UndeterminedError: it died or took too long.
    """
    found: dict[str, bytes] = {}
    listed = list(sources)
    with progress.task(title, total=len(listed)) as task, Compiler(interpreter, processes=threads) as compiler:

        def deliver(path: str, compiled: bytes) -> None:
            found[bytecode_path(path, interpreter.version)] = compiled
            task.advance()

        compiler.compile(listed, deliver)
    return found
