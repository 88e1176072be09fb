"""One interpreter of an image, running: how it is started, checked, asked to compile, and ended.

The interpreter of an image that was made here is started through its own loader, with its own libraries; that of
another runs in a sandbox. It reads sources from a pipe (`bytecode_compiler`).
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, UndeterminedError
from tidewaiter.core.files import unnamed

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
_AGAIN = "Build the base again with `tidewaiter base update`; if it happens again, report it with this message."


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


class Child:
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
