"""PEP 751: the one wheel of each package that fits the image, out of a document that is read under limits."""

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
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from tidewaiter.assembly import wheel_tags
from tidewaiter.assembly.python_lock import Built, BuiltRecord, LockedWheel, Record, without_credentials
from tidewaiter.assembly.wheel_target import Target
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError

_SHA256 = r"[0-9a-f]{64}"
_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]{1,300}\.whl")
_SDIST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]{1,300}\.(?:tar\.gz|zip)")


class Reading(msgspec.Struct, frozen=True):
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
        if not isinstance(sha256, str) or not re.fullmatch(_SHA256, sha256):
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


def _locked(reading: Reading, package: Package, found: PackageWheel | PackageArchive) -> LockedWheel:
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


def from_record(reading: Reading, record: Record) -> LockedWheel:
    """The wheel that `tool.tidewaiter` names; raises `InputError` when it cannot be fetched and verified."""
    reading.require_file(record.filename, _FILENAME, record.sha256, record.size or None, record.url or "-")
    return LockedWheel(
        name=record.name,
        version=record.version,
        filename=record.filename,
        sha256=record.sha256,
        size=record.size or None,
        url=record.url,
    )


def _built(reading: Reading, package: Package, found: PackageSdist) -> LockedWheel:
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
        built=Built(sdist, tuple(from_record(reading, one) for one in record.requires)),
    )


def wheels_of(reading: Reading, document: Pylock) -> Iterator[LockedWheel]:
    """Exactly one wheel per package whose marker holds in the image, the best by its tags.

    Raises:
        InputError: a package has no wheel that fits, or one that cannot be fetched and verified.
    """
    tags: Sequence[Tag] = wheel_tags.target_tags(reading.target)
    try:
        for package, found in document.select(environment=wheel_tags.environment(reading.target), tags=tags):
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


def decode(reading: Reading, data: bytes) -> Pylock:
    """The document in `data`; raises `InputError` when it is no PEP 751 lock, `LimitError` when it is too large."""
    path, refresh = reading.path, reading.refresh
    if len(data) > limits.LOCK_FILE_BYTES:
        raise LimitError(f"{path} is over {limits.LOCK_FILE_BYTES} bytes", next_step=refresh)
    try:
        said = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}", next_step=refresh) from error
    try:
        document = Pylock.from_dict(said)
    except (PylockValidationError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a PEP 751 lock: {error}", next_step=refresh) from error
    if len(document.packages) > limits.PYTHON_PACKAGES:
        raise LimitError(f"{path} lists {len(document.packages)} packages", next_step="Split the image.")
    return document


def select(data: bytes, path: Path, target: Target) -> tuple[LockedWheel, ...]:
    """The wheels of a lock that belongs to no project, sorted by name; `path` is for messages. As `parse`."""
    reading = Reading(path, target, "Resolve again.")
    return tuple(sorted(wheels_of(reading, decode(reading, data)), key=lambda wheel: wheel.name))
