"""`pylock.toml` (PEP 751): one wheel for each package, read under limits, never newer or older than its requirements.

The table `[tool.tidewaiter]` says what the lock was made from; a build compares it and does not resolve again. There
is one lock for each architecture. A package whose wheel was built from its source distribution says so in its own
`tool.tidewaiter`, with the wheel's hash and everything that it was built with.
"""

import hashlib
import re
import tomllib
from pathlib import Path

import msgspec

from tidewaiter.assembly import remembered, requirements
from tidewaiter.assembly.wheel_target import GLIBC, Target
from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError, StaleLockError
from tidewaiter.core.project import IndexSection, Project
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.digest import of as digest_of

_SEPARATORS = r"[-_.]+"
_CREDENTIALS = r"(?<=://)[^/@\s]+@"


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


def normalised(name: str) -> str:
    """A package's name as locks and indexes compare it (PEP 503)."""
    return re.sub(_SEPARATORS, "-", name).lower()


def without_credentials(text: str) -> str:
    """`text` without the user and password of the addresses in it."""
    return re.sub(_CREDENTIALS, "***@", text)


def _refresh(project: Project, target: Target) -> str:
    option = "" if target.architecture == "amd64" else f" --platform linux/{target.architecture}"
    return f"Run `tidewaiter lock {project.directory}{option}` and commit the result."


# What the lock is made from


def _sources(project: Project) -> str:
    section = project.python
    requires = requirements.of_package(project)
    if not section.indexes and not section.build and requires is None:
        return ""
    indexes = sorted((one.name, one.url.rstrip("/"), sorted(map(normalised, one.packages))) for one in section.indexes)
    said = msgspec.json.encode([indexes, sorted(map(normalised, section.build)), requires])
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


def _require_fresh(project: Project, target: Target, origin: Origin) -> None:
    """Raise `StaleLockError` when the project is another one than the lock was made from."""
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
        path = project.python_lock_for(target.architecture)
        raise StaleLockError(f"{path} is stale: {', '.join(changed)}", next_step=_refresh(project, target))


def parse(data: bytes, project: Project, target: Target) -> PythonLock:
    """The lock in `data`, when it was made from the project as it is now.

    Raises:
        StaleLockError: requirements, Python version, platform or sources changed since, or are not recorded.
        InputError: not a PEP 751 lock, or a package has no wheel that fits.
        LimitError: too large, or too many packages.
    """
    from tidewaiter.assembly import pylock

    path, refresh = project.python_lock_for(target.architecture), _refresh(project, target)
    reading = pylock.Reading(path, target, refresh, frozenset(map(normalised, project.python.build)))
    document = pylock.decode(reading, data)
    said = (document.tool or {}).get("tidewaiter")
    if said is None:
        raise StaleLockError(
            f"{path} does not say what it was made from (no table [tool.tidewaiter])", next_step=refresh
        )
    try:
        origin = msgspec.convert(said, Origin)
    except msgspec.ValidationError as error:
        raise StaleLockError(f"{path}: [tool.tidewaiter] is malformed: {error}", next_step=refresh) from error
    _require_fresh(project, target, origin)
    return PythonLock(
        path=path,
        origin=origin,
        wheels=tuple(sorted(pylock.wheels_of(reading, document), key=lambda wheel: wheel.name)),
        indexes=project.python.indexes,
        package_requires=tuple(pylock.from_record(reading, one) for one in origin.package_requires),
        architecture=target.architecture,
    )


class _Remembered(msgspec.Struct, frozen=True):
    """What a lock was read as."""

    origin: Origin
    wheels: tuple[LockedWheel, ...]
    package_requires: tuple[LockedWheel, ...]


def _recall(path: Path, project: Project, target: Target) -> PythonLock | None:
    """The lock as it was read before; raises `StaleLockError`."""
    known = remembered.recall(path, _Remembered)
    if known is None:
        return None
    _require_fresh(project, target, known.origin)
    return PythonLock(
        path=project.python_lock_for(target.architecture),
        origin=known.origin,
        wheels=known.wheels,
        indexes=project.python.indexes,
        package_requires=known.package_requires,
        architecture=target.architecture,
    )


def _remember(path: Path, lock: PythonLock) -> None:
    if any(wheel.path for wheel in lock.wheels):
        return  # where a file lies depends on the project's folder
    remembered.remember(path, _Remembered(lock.origin, lock.wheels, lock.package_requires))


def read(project: Project, target: Target | None = None, *, known: Path | None = None) -> PythonLock:
    """The project's lock for `target`; raises `NotFoundError` when there is none, otherwise as `parse`.

    In the folder `known` stands what locks were read as: choosing among their wheels takes longer than to look.
    """
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
    if known is None:
        return parse(data, project, target)
    # Everything that the reading depends on, but what is compared each time.
    place = known / f"{remembered.name(target, sorted(map(normalised, project.python.build)), digest_of(data))}.json"
    found = _recall(place, project, target)
    if found is None:
        found = parse(data, project, target)
        _remember(place, found)
    return found


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
