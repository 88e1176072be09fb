"""A wheel from a source distribution, by its own build backend (PEP 517), where that backend can do no harm.

1. The root file system is that of the image's base, read-only: its interpreter, no compiler, nothing of this machine.
2. No network, no keys, no environment, no capability; processes end with the sandbox and after a deadline.
3. What the backend writes lies in memory and is bounded; one wheel comes out, through a pipe.
4. The wheel is checked as any other and written anew: sorted, without times, so that the same source gives the same
   bytes.
"""

import csv
import io
import re
import shutil
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from email.parser import HeaderParser
from pathlib import Path
from typing import IO, cast

import msgspec
from packaging.markers import Environment, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.installation import site_packages
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.wheel import Wheel
from tidewaiter.assembly.wheel_archive import WheelArchive
from tidewaiter.core import durable, limits, settings
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, UndeterminedError
from tidewaiter.oci.layer import Content, Deflated

FORMAT_VERSION = 1
"""Part of every key of a built wheel: raise it when the bytes that the same source gives change."""

_CHILD = Path(__file__).with_name("isolated_child.py")
_EPOCH = "315532800"
"""1980-01-01, the first moment that a zip file can name."""
_LOG_BYTES = 16 * limits.KIB
_TOOLS = r"(?:[\w-]*-)?(?:gcc|g\+\+|cc|c\+\+|clang|cmake|ninja|meson|make|cargo|rustc|gfortran|swig)"
_COMPILER = re.compile(
    rf"\b{_TOOLS}\b[^\n]*(?:No such file|not found|failed)|(?:No such file or directory|not found): '?{_TOOLS}\b"
)


class Answer(msgspec.Struct):
    """What the child says."""

    requires: tuple[str, ...] = ()
    wheel: str = ""
    error: str = ""


class Distribution(msgspec.Struct, frozen=True):
    """A wheel that was built: what its METADATA says."""

    name: str
    version: str
    filename: str
    metadata: bytes


def _root(rootfs: Path) -> list[str]:
    """Arguments that mount the base's top folders, read-only."""
    line = []
    for path in sorted(rootfs.iterdir()):
        if path.name in {"proc", "dev", "tmp", "build", "requirements", "tidewaiter"}:
            continue
        if path.is_symlink():
            line += ["--symlink", str(path.readlink()), f"/{path.name}"]
        elif path.is_dir():
            line += ["--ro-bind", str(path), f"/{path.name}"]
    return line


def _command(interpreter: Interpreter, archive: Path, requirements: Path, task: str) -> list[str]:
    bwrap = shutil.which("bwrap", path=settings.tool_environment().get("PATH"))
    if bwrap is None:
        raise MissingToolError(
            "bwrap is not installed, and nothing is built from source outside of its sandbox",
            next_step="Install it (Debian: apt-get install bubblewrap) and run again, or choose another release.",
        )
    site = f"/requirements/{site_packages(interpreter.version)}"
    environment = {
        "PATH": "/requirements/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": site,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": _EPOCH,
        "HOME": "/build",
        "TMPDIR": "/tmp",  # noqa: S108  # in the sandbox
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    line = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    line += ["--uid", "65532", "--gid", "65532", "--hostname", "build"]
    line += [*_root(interpreter.root()), "--proc", "/proc", "--dev", "/dev"]
    line += ["--size", str(limits.SOURCE_BUILD_BYTES), "--tmpfs", "/build"]
    line += ["--size", str(limits.SOURCE_BUILD_BYTES), "--tmpfs", "/tmp"]  # noqa: S108  # in the sandbox
    line += ["--ro-bind", str(requirements), "/requirements", "--ro-bind", str(archive), "/tidewaiter/source"]
    line += ["--ro-bind", str(_CHILD), "/tidewaiter/child.py", "--remount-ro", "/", "--chdir", "/build"]
    for name, value in environment.items():
        line += ["--setenv", name, value]
    bounds = [str(limits.SOURCE_MEMBERS), str(limits.SOURCE_UNPACKED_BYTES), str(limits.SOURCE_PROCESS_BYTES)]
    return [*line, "--", interpreter.executable, "-P", "-s", "/tidewaiter/child.py", task, *bounds]


def _tail(stream: IO[bytes], kept: bytearray) -> None:
    """Read all of `stream`; the last bytes stay in `kept`."""
    while data := stream.read(_LOG_BYTES):
        kept += data
        del kept[:-_LOG_BYTES]


def _copy(stream: IO[bytes], sink: IO[bytes], process: "subprocess.Popen[bytes]") -> None:
    """Read all of `stream` into `sink`; a child that says too much is ended."""
    left = limits.SOURCE_WHEEL_BYTES
    while data := stream.read(limits.MIB):
        left -= len(data)
        if left < 0:
            process.kill()
            return
        sink.write(data)


def _run(command: Sequence[str], sink: IO[bytes], what: str) -> str:
    """Run the sandbox to its end, its answer into `sink`; what it printed is returned. Errors as `build`."""
    log = bytearray()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}, bufsize=0
    ) as process:
        streams = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr)
        threads = [
            threading.Thread(target=_copy, args=(streams[0], sink, process), daemon=True),
            threading.Thread(target=_tail, args=(streams[1], log), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            process.wait(limits.SOURCE_BUILD_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(
                f"building {what} took more than {limits.SOURCE_BUILD_SECONDS} s",
                next_step="Choose a release that has a wheel.",
            ) from error
        finally:
            process.kill()
            for thread in threads:
                thread.join()  # they end when the last process inside is gone
    return log.decode(errors="replace").strip()


def _ask(command: Sequence[str], folder: Path, what: str) -> tuple[Answer, Path]:
    """The child's answer, and the file that holds what followed it."""
    path = folder / "answer"
    with path.open("w+b") as file:
        log = _run(command, file, what)
        file.seek(0)
        line = file.readline(limits.MIB)
        try:
            found = msgspec.json.decode(line, type=Answer)
        except (ValueError, RecursionError) as error:
            last = log.splitlines()[-1] if log else "it said nothing"
            raise UndeterminedError(
                f"{what} could not be built in the sandbox: {last[:500]}",
                next_step="Check that bwrap may make user namespaces here, then run the command again.",
                code="build_failed",
            ) from error
        if found.error:
            raise _refused(what, found.error, log)
        wheel = folder / "wheel"
        with wheel.open("wb") as rest:
            shutil.copyfileobj(file, rest, limits.MIB)
    return found, wheel


def _refused(what: str, error: str, log: str) -> InputError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if _COMPILER.search(log) or _COMPILER.search(error):
        return InputError(
            f"{what} needs a compiler: {error[:500]}",
            next_step="Only pure Python is built here. Choose a release that has a wheel, or build the wheel once, put "
            "it beside the requirements and name its path there.",
            code="build_failed",
        )
    earlier = f" (before it: {lines[-2][:300]})" if len(lines) > 1 else ""
    return InputError(
        f"{what} cannot be built: {error[:500]}{earlier}",
        next_step="It is built without network and with nothing but its build requirements. Choose a release that has "
        "a wheel, or build the wheel once, put it beside the requirements and name its path there.",
        code="build_failed",
    )


def unpack(wheels: Iterable[tuple[LockedWheel, Path]], folder: Path, interpreter: Interpreter) -> None:
    """Install `wheels` below `folder`, as they would lie in the image. Errors as `Wheel`, and `StorageError`."""
    for locked, path in wheels:
        with Wheel(path, locked, python=interpreter.version, executable=interpreter.executable) as opened:
            try:
                for entry, content in opened.items({}):
                    _write(folder / entry.path, content, entry.mode)
            except OSError as error:
                raise durable.storage_error(error, f"the files of {locked}") from error


def _write(target: Path, content: Content, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        elif content is not None:
            with content.open() if isinstance(content, Deflated) else content() as stream:
                shutil.copyfileobj(stream, file, limits.MIB)
    target.chmod(mode)


class Sandbox:
    """Builds one source archive for one interpreter. Use the folder that is given for nothing else."""

    def __init__(self, archive: Path, folder: Path, *, interpreter: Interpreter, what: str) -> None:
        self._archive = archive
        self._folder = folder
        self._interpreter = interpreter
        self._what = what
        self._requirements = folder / "requirements"
        self._requirements.mkdir()

    def _do(self, task: str) -> tuple[Answer, Path]:
        command = _command(self._interpreter, self._archive, self._requirements, task)
        return _ask(command, self._folder, self._what)

    def requires(self) -> tuple[str, ...]:
        """`[build-system] requires`; nothing of the source is run. Errors as `build`."""
        return self._do("describe")[0].requires

    def install(self, wheels: Iterable[tuple[LockedWheel, Path]]) -> None:
        """Give the backend `wheels`, in the place of those that it had. Errors as `Wheel`."""
        shutil.rmtree(self._requirements)
        self._requirements.mkdir()
        unpack(wheels, self._requirements, self._interpreter)

    def all_requires(self) -> tuple[str, ...]:
        """All that the backend wants, when it can be asked. Errors as `build`."""
        return self._do("requires")[0].requires

    def build(self, target: Path) -> Distribution:
        """Write the normalised wheel into the folder `target`.

        Raises:
            InputError: the source cannot be built, is hostile, or gives no pure Python wheel.
            MissingToolError: bwrap is not here.
            DeadlineError: it took longer than `SOURCE_BUILD_SECONDS`.
            UndeterminedError: the sandbox did not start.
        """
        found, path = self._do("build")
        try:
            name, version, _, tags = parse_wheel_filename(found.wheel)
        except InvalidWheelFilename as error:
            raise _refused(self._what, f"its backend says that it wrote {found.wheel[:200]!r}", "") from error
        if any((tag.abi, tag.platform) != ("none", "any") for tag in tags):
            raise InputError(
                f"{self._what} gives {found.wheel}, which holds compiled code",
                next_step="Only pure Python is built here. Choose a release that has a wheel.",
                code="build_failed",
            )
        metadata = _normalised(path, found.wheel, target / found.wheel)
        headers = HeaderParser().parsestr(metadata.decode(errors="replace"))
        if canonicalize_name(str(headers["Name"])) != name:
            raise _refused(self._what, f"its wheel says that it is {str(headers['Name'])[:100]}", "")
        return Distribution(str(name), str(version), found.wheel, metadata)


def _wanted_by_no_extra(environment: Environment | None) -> dict[str, str | AbstractSet[str]]:
    return {**(cast("dict[str, str]", environment) if environment else {}), "extra": ""}


def unsatisfied(
    wanted: Iterable[str], wheels: Iterable[LockedWheel], environment: Environment | None = None
) -> list[str]:
    """Those of the requirements `wanted` that `wheels` does not satisfy; raises `InputError` for a malformed one.

    `environment` says where they must hold; here when it is not given. What only an extra asks for is not wanted.
    """
    have = {one.name: one.version for one in wheels}
    missing = []
    for line in wanted:
        try:
            requirement = Requirement(line)
            marker = requirement.marker
            needed = marker is None or marker.evaluate(_wanted_by_no_extra(environment))
        except (InvalidRequirement, UndefinedEnvironmentName) as error:
            raise InputError(
                f"a requirement is malformed: {line[:200]!r}", next_step="Ask the publisher, or choose another release."
            ) from error
        version = have.get(canonicalize_name(requirement.name))
        if needed and (version is None or not requirement.specifier.contains(version, prereleases=True)):
            missing.append(line)
    return missing


def _sorted_record(data: bytes) -> bytes:
    rows = sorted(csv.reader(io.StringIO(data.decode(), newline="")))
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _normalised(path: Path, filename: str, target: Path) -> bytes:
    """Write the wheel at `path` anew: names sorted, no times, uncompressed. Returns its METADATA."""
    archive = WheelArchive(path, filename)
    try:
        member = archive.members.get(f"{archive.dist_info}/METADATA")
        if member is None:
            raise archive.refuse("it has no METADATA")
        metadata = archive.read(member)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as written:
            for name in sorted(archive.members):
                found = archive.members[name]
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.create_system = 3
                info.external_attr = (0o100755 if found.executable else 0o100644) << 16
                if name == f"{archive.dist_info}/RECORD":
                    written.writestr(info, _sorted_record(archive.read(found)))
                    continue
                with archive.open(found) as source, written.open(info, "w", force_zip64=False) as sink:
                    shutil.copyfileobj(source, sink, limits.MIB)
    except OSError as error:
        raise durable.storage_error(error, str(target)) from error
    finally:
        archive.close()
    return metadata


def scratch(cache: Path) -> "tempfile.TemporaryDirectory[str]":
    """A folder for one build; raises `StorageError`."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=cache, prefix="build-")
    except OSError as error:
        raise durable.storage_error(error, str(cache)) from error
