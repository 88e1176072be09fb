"""The project's own wheel (`[app] package`): built as any source is, put into a layer of its own.

1. What enters is what Git tracks below the project's folder, as it lies there: without times, owners and `.git`.
2. Its build requirements are those that the lock pins; the build has no network and no keys (`isolated_build`).
3. What it requires at run time must be in the lock: nothing is resolved, and nothing is missing when it starts.
"""

import hashlib
import io
import tarfile
from email.parser import HeaderParser
from pathlib import Path

import msgspec

from tidewaiter.assembly import isolated_build, source, wheel_cache, wheel_tags
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.isolated_build import Sandbox
from tidewaiter.assembly.python_lock import LockedWheel, PythonLock
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.assembly.wheel_target import Target
from tidewaiter.core import durable, leases, limits
from tidewaiter.core.errors import InputError, LimitError, ProjectError
from tidewaiter.core.progress import Progress
from tidewaiter.core.project import Project

_TOP = "project"


class _Record(msgspec.Struct, frozen=True):
    """A wheel that was built before, in the cache."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    requires: tuple[str, ...]


def archive(project: Project) -> bytes:
    """The tracked files of `project` as an uncompressed tar with one folder; the same files give the same bytes.

    Raises:
        ProjectError: Git tracks nothing here.
        LimitError: more than `APP_FILES` files or `PACKAGE_BYTES`.
    """
    buffer = io.BytesIO()
    total = 0
    paths = sorted(
        path
        for path in source.tracked(project, ["."])
        if not source.IGNORED_NAMES.intersection(Path(path).parts) and not path.endswith(".pyc")
    )
    if not paths:
        raise ProjectError(
            f"{project.directory}: Git tracks no file here, and [app] package takes in what it tracks",
            next_step="Add the package's files to Git and commit them.",
        )
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as written:
        for name in paths:
            path = project.directory / name
            if not path.is_symlink() and not path.exists():
                continue  # removed here: the build is marked dirty
            member = written.gettarinfo(path, f"{_TOP}/{name}")
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            member.type = tarfile.REGTYPE if member.islnk() else member.type
            total += member.size
            if total > limits.PACKAGE_BYTES or len(paths) > limits.APP_FILES:
                raise LimitError(
                    f"{project.directory} has over {limits.APP_FILES} tracked files or {limits.PACKAGE_BYTES} bytes",
                    next_step="Keep data and models out of the package's folder.",
                )
            _add(written, member, path)
    return buffer.getvalue()


def _add(written: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if not member.isreg():
        written.addfile(member)
        return
    try:
        with path.open("rb") as file:
            written.addfile(member, file)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read, or changed meanwhile: {error}", next_step="Mend its permissions; run again."
        ) from error


def build(
    project: Project,
    data: bytes,
    lock: PythonLock,
    *,
    interpreter: Interpreter,
    cache: Path,
    sources: WheelSources,
    progress: Progress,
) -> LockedWheel:
    """The wheel of the project's `archive`, in the cache where every wheel lies; built only when something changed.

    Raises:
        InputError: it cannot be built, or requires what the lock does not have.
        UndeterminedError: a build requirement could not be fetched, or the sandbox did not start.
    """
    said = [
        isolated_build.FORMAT_VERSION,
        interpreter.identity,
        hashlib.sha256(data).hexdigest(),
        [(one.filename, one.sha256) for one in lock.package_requires],
    ]
    key = hashlib.sha256(msgspec.json.encode(said)).hexdigest()
    path = cache / "own-wheels" / f"{key}.json"
    record = _known(path)
    if record is not None:
        leases.claim(cache / "wheels" / record.sha256)
    if record is None or not (cache / "wheels" / record.sha256 / record.filename).is_file():
        with progress.task(f"Building the package in {project.directory.name}"):
            record = _build(data, lock, interpreter=interpreter, cache=cache, sources=sources, name=str(project.path))
        durable.write_atomically(path, msgspec.json.encode(record))
    wheel = LockedWheel(
        name=record.name, version=record.version, filename=record.filename, sha256=record.sha256, size=record.size
    )
    _require_satisfied(project, wheel, record.requires, lock)
    return wheel


def _known(path: Path) -> _Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Record)
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _build(
    data: bytes, lock: PythonLock, *, interpreter: Interpreter, cache: Path, sources: WheelSources, name: str
) -> _Record:
    def fetched(one: LockedWheel) -> Path:
        return wheel_cache.fetch(one, cache=cache / "wheels", sources=sources)

    with isolated_build.scratch(cache) as scratch:
        folder = Path(scratch)
        (folder / "source.tar").write_bytes(data)
        sandbox = Sandbox(folder / "source.tar", folder, interpreter=interpreter, what=f"the package of {name}")
        sandbox.install((one, fetched(one)) for one in lock.package_requires)
        missing = isolated_build.unsatisfied(sandbox.all_requires(), lock.package_requires)
        if missing:
            raise InputError(
                f"the package of {name} needs {', '.join(missing)} to be built, which [build-system] does not require",
                next_step="Add it to requires in [build-system] of pyproject.toml and lock again.",
                code="build_failed",
            )
        (folder / "built").mkdir()
        found = sandbox.build(folder / "built")
        path = folder / "built" / found.filename
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        wheel = LockedWheel(
            name=found.name,
            version=found.version,
            filename=found.filename,
            sha256=sha256,
            size=path.stat().st_size,
            path=path,
        )
        fetched(wheel)
    headers = HeaderParser().parsestr(found.metadata.decode(errors="replace"))
    return _Record(
        name=wheel.name,
        version=wheel.version,
        filename=wheel.filename,
        sha256=sha256,
        size=wheel.size or 0,
        requires=tuple(map(str, headers.get_all("Requires-Dist") or ())),
    )


def _require_satisfied(project: Project, wheel: LockedWheel, requires: tuple[str, ...], lock: PythonLock) -> None:
    """Raise unless the lock has all that `wheel` requires, and not the wheel itself."""
    target = Target(lock.origin.python, lock.architecture)
    missing = isolated_build.unsatisfied(requires, lock.wheels, wheel_tags.environment(target))
    if missing:
        raise InputError(
            f"{lock.path} lacks what the package {wheel} requires: {', '.join(missing)}",
            next_step=f"Add it to {project.python.requirements} and run `tidewaiter lock {project.directory}`.",
            code="unsatisfiable",
        )
    if any(one.name == wheel.name for one in lock.wheels):
        raise InputError(
            f"{lock.path} has a package {wheel.name}, and so is the project's own called",
            next_step=f"Take {wheel.name} out of {project.python.requirements} and lock again.",
            code="unsatisfiable",
        )
