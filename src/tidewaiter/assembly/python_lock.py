"""`pylock.toml` (PEP 751): resolved by uv, read under limits, and never newer or older than its requirements.

The table `[tool.tidewaiter]` says what the lock was made from; a build compares it and does not resolve again.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import msgspec
import uv
from packaging.markers import Environment
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageSdist,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from tidewaiter.assembly import requirements
from tidewaiter.core import durable, limits
from tidewaiter.core.errors import (
    DeadlineError,
    InputError,
    LimitError,
    MissingToolError,
    NetworkError,
    NotFoundError,
    StaleLockError,
    UndeterminedError,
)
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.core.project import Project
from tidewaiter.core.settings import Settings, tool_environment
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.digest import of as digest_of

GLIBC = (2, 36)
"""glibc of the base; wheels may ask for this one or an older one."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]{1,300}\.whl")
# What uv prints when it could not ask, as opposed to an answer that it did not like.
_NETWORK = re.compile(
    r"Failed to fetch|error sending request|Request failed|could not be queried|timed out|dns error|connect error"
    r"|HTTP status (?:server error|client error \((?:401|403|407|408|429))|returned an? [345]\d\d "
    r"|Connection (?:refused|reset)",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


class LockedWheel(msgspec.Struct, frozen=True, kw_only=True):
    """The one wheel of a package that fits the image."""

    name: str
    """Normalised name of the package."""
    version: str
    filename: str
    sha256: str
    size: int | None
    """Bytes; None when the lock does not say."""
    url: str | None = None
    path: Path | None = None
    """The wheel on this machine, when the lock names a file of the project."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Origin(msgspec.Struct, frozen=True, rename="kebab"):
    """`[tool.tidewaiter]`: what the lock was made from."""

    requirements_sha256: str
    python: str
    platform: str
    uv: str


class PythonLock(msgspec.Struct, frozen=True):
    """A lock that belongs to its project; `wheels` sorted by name."""

    path: Path
    origin: Origin
    wheels: tuple[LockedWheel, ...]


def _platform(glibc: tuple[int, int]) -> str:
    return f"x86_64-manylinux_{glibc[0]}_{glibc[1]}"


def _refresh(project: Project) -> str:
    return f"Run `tidewaiter lock {project.directory}` and commit the result."


# What the lock is made from


def _origin(project: Project, glibc: tuple[int, int], uv_version: str) -> Origin:
    return Origin(
        requirements_sha256=requirements.sha256(project),
        python=project.python.version,
        platform=_platform(glibc),
        uv=uv_version,
    )


# Resolving


def _uv() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise MissingToolError(
            f"uv is not installed: {error}", next_step="Install Tidewaiter again; uv comes with it."
        ) from error


def _uv_version(program: str) -> str:
    run = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    words = run.stdout.split()
    if run.returncode or len(words) < 2:
        raise MissingToolError(
            f"uv does not run here: {run.stderr.strip()[:200]}", next_step="Install Tidewaiter again for this platform."
        )
    return words[1]


def _condensed(stderr: str) -> str:
    """The reason that uv gave, in one line, without credentials: its causes and hints joined."""
    lines = [re.sub(r"^\W*(?:error:|cause:|Caused by:)?\s*", "", line) for line in stderr.splitlines()]
    text = " ".join(line.strip() for line in lines if line.strip() and not set(line.strip()) <= {"^", " "})
    text = _CREDENTIALS.sub("***@", text).rstrip(".")
    return text if len(text) <= 1200 else text[:1200] + " …"


def _resolution_failed(project: Project, stderr: str) -> InputError | UndeterminedError:
    reason = _condensed(stderr)
    if _NETWORK.search(stderr):
        return NetworkError(
            f"{project.requirements} could not be resolved, because the index did not answer: {reason}",
            next_step="Check the network, the proxy and TIDEWAITER_PYTHON_INDEX, then run the command again.",
        )
    if "--no-build" in stderr or "no usable wheels" in stderr or "building from source is disabled" in stderr:
        return InputError(
            f"{project.requirements}: a package has no wheel for Python {project.python.version} on "
            f"{_platform(GLIBC)}: {reason}",
            next_step="Choose a release that has a wheel, or build the wheel once, put it beside the requirements and "
            "name its path there; nothing is compiled during a build.",
            code="no_wheel",
        )
    return InputError(
        f"{project.requirements} cannot be satisfied: {reason}",
        next_step="Change the requirements named, then run the command again.",
        code="unsatisfiable",
    )


def resolve(
    project: Project, *, glibc: tuple[int, int] = GLIBC, settings: Settings, progress: Progress = SILENT
) -> bytes:
    """The text of `pylock.toml` for the project's requirements, resolved now against the index.

    The same requirements and the same index give the same bytes: no path and no time of this run is in it.

    Raises:
        NetworkError: the index could not be asked.
        InputError: no set of wheels satisfies the requirements.
        DeadlineError: uv took longer than `RESOLVE_SECONDS`.
    """
    program = _uv()
    origin = _origin(project, glibc, _uv_version(program))
    command = [program, "pip", "compile", project.requirements.name, "--format", "pylock.toml"]
    command += ["--python-version", origin.python, "--python-platform", origin.platform, "--python", sys.executable]
    command += [
        "--no-python-downloads",
        "--no-build",
        "--no-config",
        "--no-header",
        "--no-progress",
        "--color",
        "never",
    ]
    # The index is not an argument, because its credentials would show in the list of processes.
    environment = tool_environment() | {"UV_DEFAULT_INDEX": settings.python_index}
    with progress.task(f"Resolving {project.requirements.name} with uv {origin.uv}"):
        try:
            run = subprocess.run(
                command,
                # uv takes local wheels relative to its folder, and writes them so.
                cwd=project.requirements.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limits.RESOLVE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(
                f"resolving {project.requirements} took more than {limits.RESOLVE_SECONDS} s",
                next_step="Pin more of the requirements, or check the network, then run the command again.",
            ) from error
    if run.returncode:
        raise _resolution_failed(project, run.stderr.decode(errors="replace"))
    text = run.stdout.decode().rstrip("\n")
    table = "".join(f'{key} = "{value}"\n' for key, value in msgspec.to_builtins(origin).items())
    data = f"{text}\n\n[tool.tidewaiter]\n{table}".encode()
    parse(data, project, glibc=glibc)  # what cannot be built is not locked
    return data


def write(project: Project, data: bytes) -> None:
    """Replace the project's `pylock.toml` atomically; raises `StorageError`."""
    durable.write_atomically(project.python_lock, data)


# Reading


def target_tags(python: str, glibc: tuple[int, int] = GLIBC) -> list[Tag]:
    """Wheel tags that run on Python `python` (minor version) and glibc on x86-64, best first."""
    major, minor = (int(part) for part in python.split("."))
    legacy = {17: "manylinux2014_x86_64", 12: "manylinux2010_x86_64", 5: "manylinux1_x86_64"}
    platforms = []
    for number in range(glibc[1], 4, -1):
        platforms.append(f"manylinux_{glibc[0]}_{number}_x86_64")
        if number in legacy:
            platforms.append(legacy[number])
    platforms.append("linux_x86_64")
    interpreter = f"cp{major}{minor}"
    return [
        *cpython_tags((major, minor), [interpreter], platforms),
        *compatible_tags((major, minor), interpreter, platforms),
    ]


def _environment(python: str) -> Environment:
    return Environment(
        implementation_name="cpython",
        implementation_version=f"{python}.0",
        os_name="posix",
        platform_machine="x86_64",
        platform_python_implementation="CPython",
        platform_release="",
        platform_system="Linux",
        platform_version="",
        python_full_version=f"{python}.0",
        python_version=python,
        sys_platform="linux",
    )


def _local(project: Project, path: str, what: str) -> Path:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not path:
        raise InputError(
            f"{project.python_lock}: {what} lies at {path!r}, outside the project",
            next_step="Copy the wheel below the requirements' folder, name it there and lock again.",
        )
    return project.python_lock.parent / pure


def _no_wheel(project: Project, what: str, why: str) -> InputError:
    return InputError(
        f"{project.python_lock}: {what} has no wheel that fits Python {project.python.version}: {why}",
        next_step="Choose a release that has one, or build the wheel once, put it beside the requirements, name its "
        "path there and lock again; a source distribution runs code of its own and is not built here.",
        code="no_wheel",
    )


def _filename(found: PackageWheel | PackageArchive) -> str:
    if isinstance(found, PackageWheel):
        return found.filename
    return PurePosixPath(unquote(urlsplit(found.url).path) if found.url else found.path or "").name


def _locked(project: Project, package: Package, found: PackageWheel | PackageArchive) -> LockedWheel:
    filename = _filename(found)
    what = f"{package.name} {package.version or ''}".rstrip()
    if isinstance(found, PackageArchive) and (found.subdirectory or not filename.endswith(".whl")):
        raise _no_wheel(project, what, f"it comes as the source archive {filename}")
    sha256 = found.hashes.get("sha256", "")
    problem = ""
    if not _FILENAME.fullmatch(filename):
        problem = f"{filename[:200]!r} is not the file name of a wheel"
    elif not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        problem = f"{filename} has no SHA-256"
    elif found.path is None and urlsplit(found.url or "").scheme not in {"http", "https"}:
        problem = (
            f"{filename} lies at {_CREDENTIALS.sub('***@', found.url or '')[:200]!r}, which is not an http(s) address"
        )
    elif found.size is not None and not 0 < found.size <= limits.WHEEL_BYTES:
        problem = f"{filename} is said to have {found.size} bytes, of at most {limits.WHEEL_BYTES}"
    if problem:
        raise InputError(f"{project.python_lock}: {problem}", next_step=_refresh(project))
    return LockedWheel(
        name=package.name,
        version=str(package.version or parse_wheel_filename(filename)[1]),
        filename=filename,
        sha256=sha256,
        size=found.size,
        url=None if found.path is not None else found.url,
        path=None if found.path is None else _local(project, found.path, filename),
    )


def _select(project: Project, document: Pylock, tags: Sequence[Tag]) -> Iterator[LockedWheel]:
    """Exactly one wheel per package whose marker holds in the image, the best by its tags."""
    try:
        for package, found in document.select(environment=_environment(project.python.version), tags=tags):
            what = f"{package.name} {package.version or ''}".rstrip()
            if isinstance(found, PackageWheel):
                yield _locked(project, package, found)
            elif isinstance(found, PackageArchive):
                wheel = _locked(project, package, found)
                if not parse_wheel_filename(wheel.filename)[3] & set(tags):
                    raise _no_wheel(project, what, f"{wheel.filename} is for something else")
                yield wheel
            else:
                kind = "a source distribution" if isinstance(found, PackageSdist) else "a source folder or repository"
                raise _no_wheel(project, what, f"there is only {kind}")
    except (PylockSelectError, PylockValidationError, InvalidWheelFilename) as error:
        raise InputError(
            f"{project.python_lock} does not fit Python {project.python.version} on x86-64 Linux: {error}",
            next_step="Choose releases that have wheels for this Python, then lock again.",
            code="no_wheel",
        ) from error


def _decode(path: Path, data: bytes, refresh: str) -> tuple[Pylock, object]:
    if len(data) > limits.LOCK_FILE_BYTES:
        raise LimitError(f"{path} is over {limits.LOCK_FILE_BYTES} bytes", next_step=refresh)
    try:
        content = tomllib.loads(data.decode())
        document = Pylock.from_dict(content)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}", next_step=refresh) from error
    except (PylockValidationError, ValueError) as error:
        raise InputError(f"{path} is not a PEP 751 lock: {error}", next_step=refresh) from error
    if len(document.packages) > limits.PYTHON_PACKAGES:
        raise LimitError(f"{path} lists {len(document.packages)} packages", next_step="Split the image.")
    return document, (document.tool or {}).get("tidewaiter")


def parse(data: bytes, project: Project, *, glibc: tuple[int, int] = GLIBC) -> PythonLock:
    """The lock in `data`, when it was made from the project as it is now.

    Raises:
        StaleLockError: requirements, Python version or platform have changed since, or are not recorded.
        InputError: not a PEP 751 lock, or a package has no wheel that fits.
        LimitError: too large, or too many packages.
    """
    refresh = _refresh(project)
    document, table = _decode(project.python_lock, data, refresh)
    if table is None:
        raise StaleLockError(
            f"{project.python_lock} does not say what it was made from (no table [tool.tidewaiter])", next_step=refresh
        )
    try:
        origin = msgspec.convert(table, Origin)
    except msgspec.ValidationError as error:
        raise StaleLockError(
            f"{project.python_lock}: [tool.tidewaiter] is malformed: {error}", next_step=refresh
        ) from error
    now = _origin(project, glibc, origin.uv)
    changed = [
        f"{label} changed" + (f" from {before} to {after}" if label != "the requirements" else "")
        for label, before, after in (
            ("the requirements", origin.requirements_sha256, now.requirements_sha256),
            ("[python] version", origin.python, now.python),
            ("the platform", origin.platform, now.platform),
        )
        if before != after
    ]
    if changed:
        raise StaleLockError(f"{project.python_lock} is stale: {', '.join(changed)}", next_step=refresh)
    wheels = sorted(_select(project, document, target_tags(now.python, glibc)), key=lambda wheel: wheel.name)
    return PythonLock(path=project.python_lock, origin=origin, wheels=tuple(wheels))


def read(project: Project, *, glibc: tuple[int, int] = GLIBC) -> PythonLock:
    """The project's lock; raises `NotFoundError` when there is none, otherwise as `parse`."""
    try:
        data = requirements.read_bounded(project.python_lock, limits.LOCK_FILE_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(f"{project.python_lock} does not exist", next_step=_refresh(project)) from error
    except OSError as error:
        raise InputError(
            f"{project.python_lock} cannot be read: {error.strerror}", next_step="Mend the file's kind or permissions."
        ) from error
    return parse(data, project, glibc=glibc)


def digest(lock: PythonLock) -> Digest:
    """Digest of what the lock installs: names, versions, file names and hashes; not where a mirror keeps them."""
    wheels = [(wheel.name, wheel.version, wheel.filename, wheel.sha256) for wheel in lock.wheels]
    return digest_of(msgspec.json.encode([lock.origin.python, lock.origin.platform, wheels]))
