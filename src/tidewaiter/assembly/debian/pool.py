"""Getting `.deb` files by SHA-256: from the cache, the archive, then the snapshots of what the archive dropped."""

import datetime as dt
import hashlib
import secrets
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from tidewaiter.assembly.base_lock import BaseLock, LockedPackage
from tidewaiter.core import clock, durable, leases, limits
from tidewaiter.core.errors import IntegrityError, LimitError, NetworkError, NotFoundError, TidewaiterError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.transport.client import Client

_UPDATE = (
    "Check the network; if the archive has dropped this version, run `tidewaiter base update PROJECT` to lock the "
    "current one."
)


class _HashingFile:
    """A sink that writes to a file and hashes on the way."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise durable.storage_error(error, self._name) from error
        self.hash.update(data)
        self.size += len(data)


def _intact(path: Path, package: LockedPackage) -> bool:
    """Whether the file is there with the locked size and SHA-256."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size != package.size:
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == package.sha256
    except FileNotFoundError:
        return False


def addresses(package: LockedPackage, lock: BaseLock, settings: Settings) -> tuple[str, ...]:
    """Where the package is looked up, in order."""
    suite = lock.suite(package)
    path = urllib.parse.quote(package.path, safe="/+~:")
    found = [f"{settings.debian_mirror}/{suite.archive}/{path}"]
    if lock.snapshot.startswith("http"):
        found.append(f"{lock.snapshot.rstrip('/')}/{suite.archive}/{path}")
    if settings.debian_snapshot and lock.snapshot and not lock.snapshot.startswith("http"):
        found.append(f"{settings.debian_snapshot}/{suite.archive}/{lock.snapshot}/{path}")
    elif settings.debian_snapshot:
        moment = clock.parse_rfc3339(suite.date)
        # A snapshot is taken some hours after the archive changed, and named by its own time.
        times = (moment, moment + dt.timedelta(days=1))
        found += [f"{settings.debian_snapshot}/{suite.archive}/{when:%Y%m%dT%H%M%SZ}/{path}" for when in times]
    return tuple(found)


def _download(url: str, package: LockedPackage, target: Path, client: Client, advance: Callable[[int], None]) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            sink = _HashingFile(file, str(target))
            client.download(url, sink, limit=package.size, advance=advance)
        if sink.size != package.size or sink.hash.hexdigest() != package.sha256:
            raise IntegrityError(
                f"{url} is not the locked {package.name} {package.version}: it has SHA-256 {sink.hash.hexdigest()} "
                f"instead of {package.sha256}",
                next_step="Try another archive in TIDEWAITER_DEBIAN_MIRROR; this one is damaged or tampered with.",
            )
        temporary.replace(target)
    except OSError as error:
        raise durable.storage_error(error, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _fetch(
    package: LockedPackage, urls: Sequence[str], target: Path, client: Client, advance: Callable[[int], None]
) -> None:
    failures: list[TidewaiterError] = []
    for url in urls:
        try:
            _download(url, package, target, client, advance)
        except (NotFoundError, NetworkError, IntegrityError, LimitError) as error:
            failures.append(error)
        else:
            return
    reasons = "; ".join(error.message for error in failures)
    message = f"{package.name} {package.version} (SHA-256 {package.sha256}) could not be fetched: {reasons}"
    if any(isinstance(error, (IntegrityError, LimitError)) for error in failures):
        raise IntegrityError(message, next_step=_UPDATE) from failures[0]
    if all(isinstance(error, NotFoundError) for error in failures):
        raise NotFoundError(message, next_step=_UPDATE, code="package_gone") from failures[0]
    raise NetworkError(message, next_step=_UPDATE) from failures[0]


def obtain(
    packages: Sequence[LockedPackage], lock: BaseLock, settings: Settings, client: Client, progress: Progress
) -> list[Path]:
    """Files of `packages`, in their order, each with its locked SHA-256; damaged cached ones are fetched again.

    Raises:
        NotFoundError: no archive has a package any more; names the command that updates the lock.
        IntegrityError: what an archive serves is not the locked package.
        NetworkError: no archive could be asked.
        StorageError: the disk refused.
    """

    def one(package: LockedPackage) -> Path:
        target = settings.home.cache / "debs" / f"{package.sha256}.deb"
        leases.claim(target)
        if _intact(target, package):
            task.advance(package.size)
            return target
        if target.exists():
            progress.note(f"the cached {package.name} {package.version} is damaged and is fetched again")
            target.unlink(missing_ok=True)
        _fetch(package, addresses(package, lock, settings), target, client, task.advance)
        return target

    total = sum(package.size for package in packages)
    with (
        progress.task("Debian packages", total=total, unit="bytes") as task,
        ThreadPoolExecutor(limits.TRANSFERS) as pool,
    ):
        running = [pool.submit(one, package) for package in packages]
        try:
            return [future.result() for future in running]
        except BaseException:
            for future in running:
                future.cancel()
            raise
