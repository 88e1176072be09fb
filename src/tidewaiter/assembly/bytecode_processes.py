"""Bytecode of Python sources, made by the image's own interpreter and by nothing else.

The interpreter of the root file system is started through its own loader, with its own libraries, and reads
sources from a pipe (`bytecode_compiler`). What it returns depends on the source, its final path and the
interpreter only: PEP 552 unchecked-hash headers, stable marshal data. No source is imported or run.
"""

import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from tidewaiter.assembly.bytecode import Interpreter, Source, bytecode_path
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, UndeterminedError
from tidewaiter.core.files import unnamed
from tidewaiter.core.progress import SILENT, Progress

_BOUNDED = """\
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Sets the bound before the sandbox starts, which hands it on."""
_COMPILER = Path(__file__).with_name("bytecode_compiler.py")
_LOADERS = {"amd64": "lib64/ld-linux-x86-64.so.2", "arm64": "lib/ld-linux-aarch64.so.1"}
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_GREETING_BYTES = 64 * limits.KIB
_SYMLINKS = 40
_BATCH = 8
"""Sources sent to an interpreter at once."""
_AHEAD = 3
"""Batches asked for, for each interpreter."""
_AGAIN = "Build the base again with `tidewaiter base update`; if it happens again, report it with this message."

Deliver = Callable[[str, bytes], None]


def _read(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    return source.read_bytes() if isinstance(source, Path) else source()


def _inside(rootfs: Path, path: str) -> Path:
    """Where `path` leads when `rootfs` is the root: symlinks, absolute ones too, never lead out of it."""
    todo = [part for part in path.split("/") if part]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop(0)
        if part in {".", ".."}:
            done = done[:-1] if part == ".." else done
            continue
        here = rootfs.joinpath(*done, part)
        if not here.is_symlink():
            done.append(part)
            continue
        links += 1
        if links > _SYMLINKS:
            raise InputError(f"{rootfs}: too many symlinks on the way to /{path}", next_step=_AGAIN)
        target = str(here.readlink())
        done = [] if target.startswith("/") else done
        todo = [part for part in target.split("/") if part] + todo
    return rootfs.joinpath(*done)


def sandboxed(interpreter: Interpreter, options: Sequence[str], script: Path) -> list[str]:
    """The command line that runs `script` by the interpreter of an image that was not made here.

    It sees the image, read-only, and the script, and has no network and no more memory than others.

    Raises:
        MissingToolError: bwrap is not installed.
    """
    import shutil

    bwrap = shutil.which("bwrap", path=settings.tool_environment().get("PATH"))
    if bwrap is None:
        raise MissingToolError(
            "bwrap is not installed, and the Python of an image that was not made here runs in its sandbox only",
            next_step="Install it (Debian: apt-get install bubblewrap) and run again.",
        )
    line = [sys.executable, "-I", "-S", "-c", _BOUNDED, str(limits.BYTECODE_CHILD_BYTES)]
    line += [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    line += ["--uid", "65532", "--gid", "65532", "--ro-bind", str(interpreter.root()), "/"]
    line += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind", str(script), "/tmp/script.py"]  # noqa: S108  # in the sandbox
    line += ["--setenv", "PYTHONHASHSEED", "0", "--setenv", "PYTHONCOERCECLOCALE", "0", "--chdir", "/"]
    return [*line, "--", interpreter.executable, *options, "/tmp/script.py"]  # noqa: S108  # as above


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder it is, as one that takes its place is another; None when there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _command(interpreter: Interpreter) -> list[str]:
    if interpreter.foreign:
        return sandboxed(interpreter, ["-S", "-s", "-B", "-X", "utf8"], _COMPILER)
    rootfs = interpreter.rootfs.resolve()
    if interpreter.architecture not in _LOADERS:
        raise _cannot_run(interpreter, "no loader is known for this architecture")
    loader = _inside(rootfs, _LOADERS[interpreter.architecture])
    python = _inside(rootfs, interpreter.executable)
    for needed in (loader, python):
        if not needed.is_file():
            raise MissingToolError(f"the base has no /{needed.relative_to(rootfs)}", next_step=_AGAIN)
    folders = [f"{folder}/{_TRIPLETS[interpreter.architecture]}" for folder in ("usr/lib", "lib")]
    libraries = ":".join(str(_inside(rootfs, folder)) for folder in folders)
    if libraries.count(":") != len(folders) - 1 or ";" in libraries:
        raise InputError(
            f"the loader cannot take {rootfs} as a library path", next_step="Use a TIDEWAITER_HOME without `:` and `;`."
        )
    options = ["-P", "-S", "-s", "-B", "-X", "utf8"]
    return [str(loader), "--inhibit-cache", "--library-path", libraries, str(python), *options, str(_COMPILER)]


def _last_words_file() -> BinaryIO:
    """What an interpreter writes its errors to."""
    try:
        return unnamed(Path(settings.tool_environment().get("TMPDIR") or "/tmp"))  # noqa: S108  # has no name there
    except OSError:
        import tempfile  # knows of other folders; brings more along than a small app's build waits for

        return cast("BinaryIO", tempfile.TemporaryFile())


class _Child:
    """One running interpreter of files that lie there, checked or not. Not thread-safe: one thread at a time asks."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._rootfs = interpreter.rootfs.resolve()
        self.busy_since: float | None = None
        self.busy_seconds = 0.0
        """Time spent on finished sources; waiting for the next one, for example for a download, does not count."""
        self.late = ""
        command = _command(interpreter)
        self._errors = _last_words_file()  # closed with the child
        # Hash seed and home only: nothing of the caller's environment reaches the compiler.
        environment = {"PYTHONHOME": str(self._rootfs / "usr"), "PYTHONHASHSEED": "0", "PYTHONCOERCECLOCALE": "0"}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                cwd="/",
                start_new_session=True,  # Ctrl-C reaches this process, which then ends its children
            )
        except OSError as error:
            self._errors.close()
            raise _cannot_run(interpreter, error.strerror or str(error)) from error
        self._requests = cast("BinaryIO", self._process.stdin)
        self._answers = cast("BinaryIO", self._process.stdout)

    def greet(self, interpreter: Interpreter) -> None:
        """Check that the right interpreter answers, with its own libraries, and bound its memory."""
        self.busy_since = time.monotonic()
        try:
            lines = self._read_frame(_GREETING_BYTES).decode(errors="surrogateescape").split("\n")
            resource.prlimit(self._process.pid, resource.RLIMIT_AS, (limits.BYTECODE_CHILD_BYTES,) * 2)
        except (OSError, EOFError) as error:
            words = self._last_words()
            if self.late:
                raise DeadlineError(
                    f"the base's interpreter did not start: {self.late}",
                    next_step="Run the command again on a less busy machine.",
                ) from error
            raise _cannot_run(interpreter, words) from error
        finally:
            self.busy_since = None
        version, tag, *mapped = lines
        expected = f"cpython-{interpreter.version.replace('.', '')}"
        if not version.startswith(interpreter.version + ".") or tag != expected:
            raise MissingToolError(
                f"the base's interpreter says it is {version[:40]} ({tag[:40]}) instead of {interpreter.version}",
                next_step=_AGAIN,
            )
        if interpreter.foreign:
            return  # its sandbox holds nothing else
        strangers = [path for path in mapped if not Path(path).is_relative_to(self._rootfs)]
        if strangers:
            raise MissingToolError(
                f"the base's interpreter took {strangers[0][:200]} from this machine: the base lacks a library",
                next_step=_AGAIN,
            )

    def compile(self, batch: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, bytes | None]]:
        """Path and bytecode of each source of `batch`, in turn; None for one that does not compile.

        Raises:
            DeadlineError: one took longer than `BYTECODE_FILE_SECONDS`.
            UndeterminedError: the interpreter died.
        """
        path = batch[0][0]
        self.busy_since = time.monotonic()
        try:
            frames = [data for name, source in batch for data in (name.encode(errors="surrogateescape"), source)]
            self._requests.write(_number(len(batch)) + b"".join(_number(len(data)) + data for data in frames))
            self._requests.flush()
            for path, _ in batch:
                verdict = self._answers.read(1)
                skipped = verdict == b"s"
                compiled = None if skipped else self._read_frame(limits.BYTECODE_FILE_BYTES if verdict == b"c" else -1)
                self._rest()
                yield path, compiled
        except (OSError, EOFError) as error:
            if self.late:
                raise DeadlineError(
                    f"compiling {path} was given up: {self.late}",
                    next_step="Run the command again on a less busy machine; if it ends here again, leave out the "
                    "package that ships this file.",
                ) from error
            raise UndeterminedError(
                f"the base's interpreter died compiling {path}: {self._last_words()}",
                next_step="Free memory and run the command again; if it dies again, leave out the package that ships "
                "this file.",
                code="bytecode",
            ) from error
        finally:
            self.busy_since = None

    def _rest(self) -> None:
        """Note that one source of a batch is done."""
        now = time.monotonic()
        self.busy_seconds += now - (self.busy_since or now)
        self.busy_since = now

    def _read_frame(self, limit: int) -> bytes:
        head = self._answers.read(4)
        size = int.from_bytes(head, "little")
        if len(head) != 4 or size > limit:
            raise EOFError(f"a frame of {size} bytes")
        data = self._answers.read(size)
        if len(data) != size:
            raise EOFError("a frame was cut")
        return data

    def _last_words(self) -> str:
        self.kill()
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read(limits.ERROR_BODY_BYTES).decode(errors="replace").strip().splitlines()
        reason = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{lines[-1][:300]} ({reason})" if lines else reason

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def close(self) -> None:
        """End it and free what it holds."""
        self.kill()
        self._process.wait()
        for stream in (self._requests, self._answers, self._errors):
            try:
                stream.close()
            except OSError:
                continue  # unsent bytes to a dead child


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _cannot_run(interpreter: Interpreter, reason: str) -> MissingToolError:
    machine = os.uname()
    return MissingToolError(
        f"the base's interpreter {interpreter.executable} (linux/{interpreter.architecture}) does not run on this "
        f"machine ({machine.sysname} {machine.machine}): {reason}",
        next_step=f"Build on a Linux machine for {interpreter.architecture} whose temporary and home folders allow "
        "programs to run, or build without bytecode, which makes the image start more slowly: --no-bytecode.",
    )


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
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._children: list[_Child] = []
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

    def _spawned(self) -> list[_Child]:
        """An interpreter for each process wanted."""
        children: list[_Child] = []
        try:
            while len(children) < self._processes:
                children.append(_Child(self._interpreter))
        except BaseException:
            for child in children:
                child.close()
            raise
        return children

    def _checked_early(self) -> list[_Child]:
        """Interpreters whose files were checked while they started, as both take long; none when those are others now.

        Whatever is wrong with the files is said before anything is asked of an interpreter.
        """
        children: list[_Child] = []
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
