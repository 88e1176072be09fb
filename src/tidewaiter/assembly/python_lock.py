"""`pylock.toml` (PEP 751): one wheel for each package, read under limits, never newer or older than its requirements.

The table `[tool.tidewaiter]` says what the lock was made from; a build compares it and does not resolve again. There
is one lock for each architecture. A package whose wheel was built from its source distribution says so in its own
`tool.tidewaiter`, with the wheel's hash and everything that it was built with.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageSdist,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from tidewaiter.assembly import requirements, wheel_target
from tidewaiter.assembly.wheel_target import GLIBC, Target
from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError, StaleLockError
from tidewaiter.core.project import IndexSection, Project
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.digest import of as digest_of

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]{1,300}\.whl")
_SDIST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]{1,300}\.(?:tar\.gz|zip)")
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
    built: "Built | None" = None
    """What it is made of, when it was built from a source distribution."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Built(msgspec.Struct, frozen=True):
    """How a wheel that no index offers was made."""

    sdist: LockedWheel
    """The source distribution."""
    requires: tuple[LockedWheel, ...]
    """The wheels that built it, sorted by name."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file in `tool.tidewaiter` of a package."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int = 0
    """Bytes; 0 when the index does not say."""
    url: str


class BuiltRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`tool.tidewaiter` of a package: the wheel that its source distribution gave, and what built it."""

    wheel: str
    sha256: str
    size: int
    requires: tuple[Record, ...] = ()


class Origin(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """`[tool.tidewaiter]`: what the lock was made from."""

    requirements_sha256: str
    python: str
    platform: str
    uv: str
    sources_sha256: str = ""
    """Of `[[python.indexes]]`, `[python] build` and the project's own build requirements; empty without them."""
    bytecode: bool = True
    """Whether the image has `.pyc` files."""
    package_requires: tuple[Record, ...] = ()
    """What builds the project's own wheel."""


class PythonLock(msgspec.Struct, frozen=True):
    """A lock that belongs to its project; `wheels` sorted by name."""

    path: Path
    origin: Origin
    wheels: tuple[LockedWheel, ...]
    indexes: tuple[IndexSection, ...] = ()
    """Where some of the packages come from, and only they."""
    package_requires: tuple[LockedWheel, ...] = ()
    """The wheels that build the project's own wheel."""
    architecture: str = "amd64"


def target_of(project: Project, architecture: str = "amd64", glibc: tuple[int, int] = GLIBC) -> Target:
    """What the wheels of the project must run on."""
    return Target(project.python.version, architecture, glibc)


def without_credentials(text: str) -> str:
    """`text` without the user and password of the addresses in it."""
    return _CREDENTIALS.sub("***@", text)


def _refresh(project: Project, target: Target) -> str:
    option = "" if target.architecture == "amd64" else f" --platform linux/{target.architecture}"
    return f"Run `tidewaiter lock {project.directory}{option}` and commit the result."


# What the lock is made from


def _sources(project: Project) -> str:
    section = project.python
    requires = requirements.of_package(project)
    if not section.indexes and not section.build and requires is None:
        return ""
    indexes = sorted(
        (one.name, one.url.rstrip("/"), sorted(map(canonicalize_name, one.packages))) for one in section.indexes
    )
    said = msgspec.json.encode([indexes, sorted(map(canonicalize_name, section.build)), requires])
    return hashlib.sha256(said).hexdigest()


def origin_of(project: Project, target: Target, uv_version: str) -> Origin:
    """What a lock of the project as it is now would be made from. Raises `InputError`."""
    return Origin(
        requirements_sha256=requirements.sha256(project),
        python=target.python,
        platform=target.platform,
        uv=uv_version,
        sources_sha256=_sources(project),
    )


def toml(value: object) -> str:
    """Text, numbers, tables and lists of them as TOML on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return msgspec.json.encode(value).decode()


def table(origin: Origin) -> str:
    """`[tool.tidewaiter]` as it stands at the end of a lock."""
    rows = "".join(f"{key} = {toml(value)}\n" for key, value in msgspec.to_builtins(origin).items())
    return f"[tool.tidewaiter]\n{rows}"


def record_of(wheel: LockedWheel) -> Record:
    """`wheel` as `tool.tidewaiter` names it."""
    return Record(
        name=wheel.name,
        version=wheel.version,
        filename=wheel.filename,
        sha256=wheel.sha256,
        size=wheel.size or 0,
        url=wheel.url or "",
    )


def write(project: Project, data: bytes, architecture: str = "amd64") -> None:
    """Replace the project's lock for `architecture` atomically; raises `StorageError`."""
    durable.write_atomically(project.python_lock_for(architecture), data)


# Reading


class _Reading(msgspec.Struct, frozen=True):
    """One lock under examination."""

    path: Path
    target: Target
    refresh: str
    buildable: frozenset[str] = frozenset()

    def local(self, path: str, what: str) -> Path:
        """Where a file of the project lies; raises `InputError` when that is outside."""
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or not path:
            raise InputError(
                f"{self.path}: {what} lies at {path!r}, outside the project",
                next_step="Copy the wheel below the requirements' folder, name it there and lock again.",
            )
        return self.path.parent / pure

    def no_wheel(self, what: str, why: str) -> InputError:
        """`what` cannot be installed, because `why`."""
        name = what.split(" ", maxsplit=1)[0]
        return InputError(
            f"{self.path}: {what} has no wheel that fits {self.target}: {why}",
            next_step=f'Choose a release that has one, or, if its source is pure Python, allow it by build = ["{name}"]'
            " in [python], or put a wheel beside the requirements, name its path there and lock again.",
            code="no_wheel",
        )

    def unusable(self, problem: str) -> InputError:
        """The lock says something that nobody can use."""
        return InputError(f"{self.path}: {problem}", next_step=self.refresh)

    def require_file(self, filename: str, form: re.Pattern[str], sha256: object, size: int | None, url: str) -> str:
        """The hash of a file that can be fetched and verified; raises `InputError` when it cannot."""
        if not form.fullmatch(filename):
            kind = "a wheel" if form is _FILENAME else "a source distribution"
            raise self.unusable(f"{filename[:200]!r} is not the file name of {kind}")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise self.unusable(f"{filename} has no SHA-256")
        if url and urlsplit(url).scheme not in {"http", "https"}:
            raise self.unusable(
                f"{filename} lies at {without_credentials(url)[:200]!r}, which is not an http(s) address"
            )
        if size is not None and not 0 < size <= limits.WHEEL_BYTES:
            raise self.unusable(f"{filename} is said to have {size} bytes, of at most {limits.WHEEL_BYTES}")
        return sha256


def _name_of(found: PackageWheel | PackageArchive | PackageSdist) -> str:
    if not isinstance(found, PackageArchive):
        return found.filename
    return PurePosixPath(unquote(urlsplit(found.url).path) if found.url else found.path or "").name


def _locked(reading: _Reading, package: Package, found: PackageWheel | PackageArchive) -> LockedWheel:
    filename = _name_of(found)
    what = f"{package.name} {package.version or ''}".rstrip()
    if isinstance(found, PackageArchive) and (found.subdirectory or not filename.endswith(".whl")):
        raise reading.no_wheel(what, f"it comes as the source archive {filename}")
    url = None if found.path is not None else found.url
    sha256 = reading.require_file(
        filename, _FILENAME, found.hashes.get("sha256"), found.size, "" if found.path is not None else url or "-"
    )
    return LockedWheel(
        name=package.name,
        version=str(package.version or parse_wheel_filename(filename)[1]),
        filename=filename,
        sha256=sha256,
        size=found.size,
        url=url,
        path=None if found.path is None else reading.local(found.path, filename),
    )


def _from_record(reading: _Reading, record: Record) -> LockedWheel:
    reading.require_file(record.filename, _FILENAME, record.sha256, record.size or None, record.url or "-")
    return LockedWheel(
        name=record.name,
        version=record.version,
        filename=record.filename,
        sha256=record.sha256,
        size=record.size or None,
        url=record.url,
    )


def _built(reading: _Reading, package: Package, found: PackageSdist) -> LockedWheel:
    """The recorded wheel of a package that was built here; raises `InputError` when there is none."""
    what = f"{package.name} {package.version or ''}".rstrip()
    said = (package.tool or {}).get("tidewaiter")
    if said is None or package.name not in reading.buildable:
        raise reading.no_wheel(what, "there is only a source distribution")
    try:
        record = msgspec.convert(said, BuiltRecord)
    except msgspec.ValidationError as error:
        raise reading.unusable(f"tool.tidewaiter of {what} is malformed: {error}") from error
    filename, version = _name_of(found), str(package.version or "")
    reading.require_file(record.wheel, _FILENAME, record.sha256, record.size, "")
    sdist = LockedWheel(
        name=package.name,
        version=version,
        filename=filename,
        sha256=reading.require_file(filename, _SDIST, found.hashes.get("sha256"), found.size, found.url or "-"),
        size=found.size,
        url=found.url,
    )
    return LockedWheel(
        name=package.name,
        version=version,
        filename=record.wheel,
        sha256=record.sha256,
        size=record.size,
        built=Built(sdist, tuple(_from_record(reading, one) for one in record.requires)),
    )


def _select(reading: _Reading, document: Pylock) -> Iterator[LockedWheel]:
    """Exactly one wheel per package whose marker holds in the image, the best by its tags."""
    tags: Sequence[Tag] = wheel_target.target_tags(reading.target)
    try:
        for package, found in document.select(environment=wheel_target.environment(reading.target), tags=tags):
            what = f"{package.name} {package.version or ''}".rstrip()
            if isinstance(found, PackageWheel):
                yield _locked(reading, package, found)
            elif isinstance(found, (PackageArchive, PackageSdist)):
                if isinstance(found, PackageSdist):
                    wheel = _built(reading, package, found)
                else:
                    wheel = _locked(reading, package, found)
                if not parse_wheel_filename(wheel.filename)[3] & set(tags):
                    raise reading.no_wheel(what, f"{wheel.filename} is for something else")
                yield wheel
            else:
                raise reading.no_wheel(what, "there is only a source folder or repository")
    except (PylockSelectError, PylockValidationError, InvalidWheelFilename) as error:
        raise InputError(
            f"{reading.path} does not fit {reading.target}: {error}",
            next_step="Choose releases that have wheels for it, then lock again.",
            code="no_wheel",
        ) from error


def _decode(reading: _Reading, data: bytes) -> Pylock:
    path, refresh = reading.path, reading.refresh
    if len(data) > limits.LOCK_FILE_BYTES:
        raise LimitError(f"{path} is over {limits.LOCK_FILE_BYTES} bytes", next_step=refresh)
    try:
        document = Pylock.from_dict(tomllib.loads(data.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}", next_step=refresh) from error
    except (PylockValidationError, ValueError) as error:
        raise InputError(f"{path} is not a PEP 751 lock: {error}", next_step=refresh) from error
    if len(document.packages) > limits.PYTHON_PACKAGES:
        raise LimitError(f"{path} lists {len(document.packages)} packages", next_step="Split the image.")
    return document


def select(data: bytes, path: Path, target: Target) -> tuple[LockedWheel, ...]:
    """The wheels of a lock that belongs to no project, sorted by name; `path` is for messages. As `parse`."""
    reading = _Reading(path, target, "Resolve again.")
    return tuple(sorted(_select(reading, _decode(reading, data)), key=lambda wheel: wheel.name))


def parse(data: bytes, project: Project, target: Target) -> PythonLock:
    """The lock in `data`, when it was made from the project as it is now.

    Raises:
        StaleLockError: requirements, Python version, platform or sources changed since, or are not recorded.
        InputError: not a PEP 751 lock, or a package has no wheel that fits.
        LimitError: too large, or too many packages.
    """
    buildable = frozenset(map(canonicalize_name, project.python.build))
    reading = _Reading(project.python_lock_for(target.architecture), target, _refresh(project, target), buildable)
    document = _decode(reading, data)
    said = (document.tool or {}).get("tidewaiter")
    if said is None:
        raise StaleLockError(
            f"{reading.path} does not say what it was made from (no table [tool.tidewaiter])", next_step=reading.refresh
        )
    try:
        origin = msgspec.convert(said, Origin)
    except msgspec.ValidationError as error:
        raise StaleLockError(
            f"{reading.path}: [tool.tidewaiter] is malformed: {error}", next_step=reading.refresh
        ) from error
    now = origin_of(project, target, origin.uv)
    changed = [
        f"{label} changed" + ("" if label.endswith("s") else f" from {before} to {after}")
        for label, before, after in (
            ("the requirements", origin.requirements_sha256, now.requirements_sha256),
            ("[python] version", origin.python, now.python),
            ("the platform", origin.platform, now.platform),
            ("the indexes or build requirements", origin.sources_sha256, now.sources_sha256),
        )
        if before != after
    ]
    if changed:
        raise StaleLockError(f"{reading.path} is stale: {', '.join(changed)}", next_step=reading.refresh)
    wheels = sorted(_select(reading, document), key=lambda wheel: wheel.name)
    requires = tuple(_from_record(reading, one) for one in origin.package_requires)
    return PythonLock(reading.path, origin, tuple(wheels), project.python.indexes, requires, target.architecture)


def read(project: Project, target: Target | None = None) -> PythonLock:
    """The project's lock for `target`; raises `NotFoundError` when there is none, otherwise as `parse`."""
    target = target or target_of(project)
    path = project.python_lock_for(target.architecture)
    try:
        data = requirements.read_bounded(path, limits.LOCK_FILE_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist", next_step=_refresh(project, target)) from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", next_step="Mend the file's kind or permissions."
        ) from error
    return parse(data, project, target)


def says_bytecode(path: Path) -> bool:
    """What the lock at `path` says of bytecode, be it stale or not; True when it says nothing."""
    try:
        said = tomllib.loads(requirements.read_bounded(path, limits.LOCK_FILE_BYTES).decode())["tool"]["tidewaiter"]
        return said.get("bytecode") is not False
    except (OSError, LimitError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return True  # whoever reads the lock for its wheels says what is wrong with it


def record_bytecode(lock: PythonLock, bytecode: bool) -> PythonLock:  # noqa: FBT001  # reads as what is recorded
    """`lock` with this word on bytecode, written to its file.

    Raises:
        InputError: the file does not end with the table `[tool.tidewaiter]` as it was written.
        StorageError: it could not be written.
    """
    head, found, _ = (data := lock.path.read_bytes()).rpartition(table(lock.origin).encode())
    if not found or not data.endswith(found):
        raise InputError(
            f"{lock.path} does not end with [tool.tidewaiter] as it was written",
            next_step="Lock again, then repeat the command.",
        )
    origin = msgspec.structs.replace(lock.origin, bytecode=bytecode)
    durable.write_atomically(lock.path, head + table(origin).encode())
    return msgspec.structs.replace(lock, origin=origin)


def digest(lock: PythonLock) -> Digest:
    """Digest of what the lock installs: names, versions, file names and hashes; not where a mirror keeps them."""
    wheels = [(wheel.name, wheel.version, wheel.filename, wheel.sha256) for wheel in lock.wheels]
    without = [] if lock.origin.bytecode else ["no-bytecode"]
    return digest_of(msgspec.json.encode([lock.origin.python, lock.origin.platform, wheels, *without]))
