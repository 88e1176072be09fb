"""`base.lock`: exactly which Debian packages a project's base is made of.

A small TOML file that is committed with the project. It says from which recipe it was made; when the recipe has
changed since, it is stale, and a build says so instead of guessing.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.assembly import remembered
from tidewaiter.assembly.recipe import SYSTEM, Recipe
from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError, StaleLockError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest, WireDigest
from tidewaiter.oci.layer import check_path
from tidewaiter.sbom.versions import dpkg

if TYPE_CHECKING:
    from tidewaiter.transport.client import Client

FORMAT = 1
_FIRST = "amd64"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:~/_-]*")
_SNAPSHOT = r"|\d{8}T\d{6}Z|https?://[^\s?#]+"
_SHA256 = r"[0-9a-f]{64}"
_UPDATE = "Run `tidewaiter base update PROJECT` to write it anew, and commit it."


class LockedSuite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A suite as it was when the lock was made."""

    name: str
    archive: str
    date: str
    """Date of the signed release file, RFC 3339: the time under which snapshots are looked up."""


class LockedPackage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One package, by the SHA-256 of its `.deb`."""

    name: str
    version: str
    architecture: str
    group: str
    suite: str
    path: str
    """Path below the suite's archive."""
    size: int
    sha256: str

    @property
    def purl(self) -> str:
        """Package URL."""
        return f"pkg:deb/debian/{self.name}@{self.version}?arch={self.architecture}"


class BaseLock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole lock."""

    format: int
    recipe: str
    recipe_digest: WireDigest
    architecture: str = ""
    """Of the packages; empty in locks that an older tidewaiter wrote, which means amd64."""
    snapshot: str = ""
    """As the recipe says."""
    system: tuple[str, ...] = ()
    """Packages that the project asks for beside the recipe's, sorted."""
    suites: tuple[LockedSuite, ...]
    packages: tuple[LockedPackage, ...]

    @property
    def digest(self) -> Digest:
        """SHA-256 of the lock as `write` writes it."""
        return digests.of(_encode(self))

    def suite(self, package: LockedPackage) -> LockedSuite:
        """The suite that a package of this lock comes from."""
        return next(suite for suite in self.suites if suite.name == package.suite)

    def group(self, name: str) -> tuple[LockedPackage, ...]:
        """Packages of one group, by name."""
        return tuple(package for package in self.packages if package.group == name)

    @property
    def platform(self) -> str:
        """Architecture that the packages are for."""
        return self.architecture or _FIRST

    @property
    def alone(self) -> "BaseLock":
        """The lock of the base without what the project adds."""
        kept = tuple(package for package in self.packages if package.group != SYSTEM)
        return msgspec.structs.replace(self, system=(), packages=kept)


def resolve(
    recipe: Recipe,
    client: "Client",
    settings: Settings,
    progress: Progress,
    *,
    architecture: str | None = None,
    system: Sequence[str] = (),
    key_folder: Path | None = None,
) -> BaseLock:
    """A lock of the newest packages that the recipe's suites offer now, from `settings.debian_mirror`.

    A recipe with a snapshot is resolved there instead. `architecture` is Debian's name, by default the recipe's;
    `system` are packages that a project adds, which make a group of their own and change no other.

    Raises:
        NotVerifiedError: a release file is not signed by the recipe's keys, or has expired.
        IntegrityError: a package index is not the one that was signed.
        InputError: packages do not exist or cannot be satisfied.
        NotFoundError: the recipe's snapshot is gone.
        NetworkError, MissingToolError: the archive could not be asked.
    """
    architecture = architecture or recipe.architecture
    from tidewaiter.assembly.debian import archive
    from tidewaiter.assembly.debian import resolve as resolver

    mirror = archive.mirror_of(recipe.snapshot, mirror=settings.debian_mirror, snapshots=settings.debian_snapshot)
    wanted = tuple(sorted(set(system)))
    universe = resolver.Universe(architecture)
    suites = []
    for suite in recipe.suites:
        release = archive.fetch_release(suite, client, mirror, key_folder=key_folder)
        universe.add(suite, archive.fetch_index(release, architecture, client, mirror, progress))
        suites.append(LockedSuite(name=suite.name, archive=suite.archive, date=clock.rfc3339(release.date)))
    packages = [
        LockedPackage(
            name=one.package.name,
            version=one.package.version,
            architecture=one.package.architecture,
            group=one.group,
            suite=one.package.suite.name,
            path=one.package.path,
            size=one.package.size,
            sha256=one.package.sha256,
        )
        for one in resolver.closure(recipe, universe, wanted)
    ]
    return BaseLock(
        format=FORMAT,
        recipe=recipe.name,
        recipe_digest=recipe.digest,
        architecture=architecture,
        snapshot=recipe.snapshot,
        system=wanted,
        suites=tuple(suites),
        packages=tuple(packages),
    )


def require_fresh(lock: BaseLock, recipe: Recipe, system: Sequence[str] = (), architecture: str | None = None) -> None:
    """Check that `lock` was made from this recipe, for these added packages; raises `StaleLockError`.

    `architecture` None takes any.
    """
    if lock.recipe != recipe.name:
        raise StaleLockError(
            f"base.lock was made from the recipe {lock.recipe!r}, but the project uses {recipe.name!r}",
            next_step=_UPDATE,
        )
    if lock.recipe_digest != recipe.digest:
        raise StaleLockError(
            f"base.lock was made from another form of the recipe {recipe.name!r} than this tidewaiter has",
            next_step=_UPDATE,
        )
    if lock.system != tuple(sorted(set(system))):
        raise StaleLockError(
            f"base.lock was made for [system] packages = [{', '.join(lock.system)}], "
            f"but the project asks for [{', '.join(sorted(set(system)))}]",
            next_step=_UPDATE,
        )
    if architecture is not None and lock.platform != architecture:
        raise StaleLockError(f"the lock is for {lock.platform}, but {architecture} is built", next_step=_UPDATE)
    for group in recipe.layers(lock.system):
        # A package that an earlier group needed too lies there.
        if group.name == SYSTEM:
            missing = set(group.packages) - {package.name for package in lock.packages}
            if missing:
                raise StaleLockError(f"base.lock lacks {', '.join(sorted(missing))}", next_step=_UPDATE)
            continue
        missing = set(group.packages) - {package.name for package in lock.group(group.name)}
        if missing:
            raise StaleLockError(f"base.lock lacks {', '.join(sorted(missing))}", next_step=_UPDATE)


# The file


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode()  # every JSON string is a TOML basic string


def _encode(lock: BaseLock) -> bytes:
    lines = [
        "# Written by `tidewaiter base update`; commit it, do not edit it.",
        f"format = {lock.format}",
        f"recipe = {_text(lock.recipe)}",
        f"recipe_digest = {_text(lock.recipe_digest)}",
    ]
    lines += [f"{name} = {_text(value)}" for name in ("architecture", "snapshot") if (value := getattr(lock, name))]
    if lock.system:
        lines.append(f"system = [{', '.join(map(_text, lock.system))}]")
    for suite in lock.suites:
        lines += ["", "[[suites]]"]
        lines += [f"{field} = {_text(getattr(suite, field))}" for field in ("name", "archive", "date")]
    for package in sorted(lock.packages, key=lambda one: one.name):
        lines += ["", "[[packages]]"]
        for field in package.__struct_fields__:
            value = getattr(package, field)
            lines.append(f"{field} = {value if isinstance(value, int) else _text(value)}")
    return ("\n".join(lines) + "\n").encode()


def write(path: Path, lock: BaseLock) -> None:
    """Write the lock to `path`, atomically; the same lock gives the same bytes.

    Raises:
        StorageError: the disk refused.
    """
    durable.write_atomically(path, _encode(lock))


def read(path: Path, *, known: Path | None = None) -> BaseLock:
    """The lock in `path`. In the folder `known` stands what locks were read as.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is not a lock, or a value in it is not what it should be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limits.LOCK_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path}: there is no such file",
            next_step="Run `tidewaiter base update PROJECT` to write it, and commit it.",
            code="no_base_lock",
        ) from error
    if len(data) > limits.LOCK_FILE_BYTES:
        raise LimitError(f"{path} is over {limits.LOCK_FILE_BYTES} bytes", next_step=_UPDATE)
    if known is None:
        return _parse(path, data)
    place = known / f"{remembered.name('base', digests.of(data))}.json"
    found = remembered.recall(place, BaseLock)
    if found is None:
        found = _parse(path, data)
        remembered.remember(place, found)
    return found


def _parse(path: Path, data: bytes) -> BaseLock:
    try:
        lock = msgspec.convert(tomllib.loads(data.decode()), BaseLock)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}", next_step=_UPDATE, code="bad_base_lock") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number too long, nested too deep
        raise InputError(f"{path} is not TOML: {error}", next_step=_UPDATE, code="bad_base_lock") from error
    _check(lock, path)
    return lock


def _refuse(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}", next_step=_UPDATE, code="bad_base_lock")


def _check(lock: BaseLock, path: Path) -> None:
    if lock.format != FORMAT:
        raise _refuse(path, f"its format is {lock.format}, this tidewaiter reads {FORMAT}")
    if not all(map(_NAME.fullmatch, (lock.platform, *lock.system))) or not re.fullmatch(_SNAPSHOT, lock.snapshot):
        raise _refuse(path, "its architecture, snapshot or system packages are malformed")
    for suite in lock.suites:
        try:
            clock.parse_rfc3339(suite.date)
        except ValueError as error:
            raise _refuse(path, f"the date of suite {suite.name!r}: {error}") from error
        if not _WORD.fullmatch(suite.archive) or not _WORD.fullmatch(suite.name):
            raise _refuse(path, f"the suite {suite.name!r} is malformed")
    known = {suite.name for suite in lock.suites}
    seen: set[str] = set()
    for package in lock.packages:
        if package.name in seen:
            raise _refuse(path, f"the package {package.name!r} comes twice")
        seen.add(package.name)
        _check_package(package, path)
        if package.suite not in known:
            raise _refuse(path, f"{package.name} is of the suite {package.suite!r}, which the lock does not list")


def _check_package(package: LockedPackage, path: Path) -> None:
    dpkg.key(package.version)
    check_path(package.path, source=str(path))
    words = (package.architecture, package.group, package.path)
    if not _NAME.fullmatch(package.name) or not all(map(_WORD.fullmatch, words)):
        raise _refuse(path, f"the package {package.name!r} is malformed")
    if not re.fullmatch(_SHA256, package.sha256) or not 0 < package.size <= limits.DEB_BYTES:
        raise _refuse(path, f"the SHA-256 or size of {package.name} is malformed")
