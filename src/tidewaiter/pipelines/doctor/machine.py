"""The machine: programs that commands start, its disk, its clock."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec

from tidewaiter.assembly import dockerfile_tools, runners
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import reading as audit_reading
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import MissingToolError, TidewaiterError
from tidewaiter.core.settings import Home, Settings
from tidewaiter.oci import reference as references
from tidewaiter.pipelines import connecting
from tidewaiter.pipelines.doctor.check import Check, Examination, of_error, ok, problem, unknown, warning
from tidewaiter.policy import opa

_SLOW_SECONDS = 1.0
_FEW_INODES = 1000


# Tools


def tools(given: Examination) -> Iterator[Check]:
    """Programs that commands start; only one that a setting demands is a problem: a server needs no builder."""
    settings = given.settings
    yield _git()
    yield _signature_checker()
    name = "tools.runner"
    try:
        yield ok(name, f"{runners.choose(settings.runner)} runs images (`exec`)")
    except MissingToolError as error:
        make = warning if settings.runner == "auto" else problem
        yield make(name, f"`exec`: {error.message}", error.next_step)
    yield _sandbox()
    yield _builder(given)
    if settings.policy_engine == "opa":
        yield _opa(settings.opa)


def _builder(given: Examination) -> Check:
    name, settings = "tools.builder", given.settings
    place = _writable_folder(given.home) if os.access(given.home.path, os.W_OK) else None
    # buildah makes its storage where it is asked about it.
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=place, ignore_cleanup_errors=True) as folder:
        elsewhere = msgspec.structs.replace(settings, home=Home(Path(folder)))
        try:
            return ok(name, f"{dockerfile_tools.choose(elsewhere)} builds Dockerfiles")
        except MissingToolError as error:
            make = warning if settings.builder == "auto" else problem
            return make(name, f"projects with a Dockerfile: {error.message}", error.next_step)


def _git() -> Check:
    works, said = dockerfile_tools.asked("git", "--version")
    if works:
        return ok("tools.git", said)
    return warning("tools.git", f"git {said}: no image can be built", "Install git (Debian: apt-get install git).")


def _signature_checker() -> Check:
    name = "tools.gpgv"
    if shutil.which("gpgv") is not None:
        return ok(name, "gpgv checks signatures of Debian's archive")
    if find_spec("pysequoia") is not None:
        return ok(name, "pysequoia checks signatures of Debian's archive")
    return warning(
        name,
        "nothing here checks signatures of Debian's archive: `base update` does not work",
        "Install gpgv (Debian: apt-get install gpgv), or `pip install tidewaiter[pgp]`.",
    )


def _sandbox() -> Check:
    name = "tools.bwrap"
    works, said = dockerfile_tools.asked("bwrap", "--unshare-all", "--ro-bind", "/", "/", "true")
    if works:
        return ok(name, "bubblewrap isolates builds of wheels and the base's interpreter")
    return warning(
        name,
        f"bwrap {said}: wheels are not built from source, and bytecode is made with less isolation",
        "Install bubblewrap (Debian: apt-get install bubblewrap), and allow user namespaces where they are turned off.",
    )


def _opa(program: str) -> Check:
    name = "tools.opa"
    try:
        found = opa.find(program)
    except MissingToolError as error:
        return problem(name, f"nothing can be decided: {error.message}", error.next_step)
    works, said = dockerfile_tools.asked(str(found), "version")
    if works:
        return ok(name, f"{found}: {said.splitlines()[0] if said else 'answers'}")
    return problem(name, f"{found} {said}", "Install Open Policy Agent 1.0 or later, or use the embedded engine.")


# Disk


def disk(given: Examination) -> Iterator[Check]:
    """Room, and whether the file system does what files are kept safe with."""
    home = given.home
    found = os.statvfs(home.path)
    free = found.f_bavail * found.f_frsize
    yield _space(free, given.settings.cache_bytes)
    name = "disk.inodes"
    if found.f_files and found.f_favail < _FEW_INODES:
        message = f"{found.f_favail} more files can be made on the disk of {home.path}"
        yield problem(name, message, "Remove small files, for example by `tidewaiter cache prune --keep 0`.")
    else:
        yield ok(name, f"{found.f_favail} more files can be made" if found.f_files else "files need no inodes here")
    try:
        with tempfile.TemporaryDirectory(prefix="doctor-", dir=_writable_folder(home)) as folder:
            yield from _file_system(Path(folder))
    except OSError as error:
        yield problem(
            "disk.writable",
            f"nothing can be written in {home.path}: {error.strerror}",
            "Check who owns the home, and whether its disk is full or mounted read-only.",
        )


def _writable_folder(home: Home) -> Path:
    """Where something may be written for a moment; what a killed check leaves there goes with the next command."""
    work = home.cache / "work"
    return work if work.is_dir() else home.path


def _space(free: int, wanted: int) -> Check:
    name = "disk.space"
    remedy = "Free space, for example by `tidewaiter cache prune`, or move the home to another disk."
    if free < limits.READY_FREE_BYTES:
        return problem(name, f"{free / 1e6:.0f} MB are free: the server says that it cannot work", remedy)
    if free < limits.FREE_BYTES_TO_BUILD:
        return warning(name, f"{free / 1e9:.1f} GB are free: a build may not fit", remedy)
    return ok(name, f"{free / 1e9:.1f} GB are free; the cache may grow to {wanted / 1e9:.1f} GB")


def _file_system(folder: Path) -> Iterator[Check]:
    name, path = "disk.durable", folder / "File"
    began = time.monotonic()
    with path.open("wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    path.replace(folder / "Renamed")
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    seconds = time.monotonic() - began
    if seconds > _SLOW_SECONDS:
        message = f"bringing one file to the disk took {seconds:.1f} s: recording anything will be slow"
        yield warning(name, message, "Move the home to a local disk, or look for what keeps this one busy.")
    else:
        yield ok(name, f"files are locked, synced and renamed ({seconds * 1000:.0f} ms)")
    name = "disk.case"
    if (folder / "RENAMED").exists():
        yield problem(
            name,
            "the file system takes RENAMED and Renamed for one name: files of an image may replace each other",
            "Move the home to a file system that keeps them apart.",
        )
    else:
        yield ok(name, "the file system keeps upper and lower case apart")


# Clock


def time_of_day(given: Examination) -> Iterator[Check]:
    """Whether the clock can be right: nothing that was done here is in the future, and the registry agrees."""
    skew = timedelta(seconds=limits.CLOCK_SKEW_SECONDS)
    now = clock.now()
    seen = list(_moments(given.settings))
    late = [(moment, what) for moment, what in seen if moment > now + skew]
    name = "clock.past"
    if late:
        moment, what = max(late)
        yield problem(
            name,
            f"it is {clock.rfc3339(now)} here, and {what} is of {clock.rfc3339(moment)}: the clock is behind, or jumped"
            " back",
            "Set the clock (`timedatectl set-ntp true`); until then keys and verdicts seem to be not yet in force.",
        )
    else:
        yield ok(name, f"it is {clock.rfc3339(now)}, and nothing here is of the future")
    if given.settings.shared_layers:
        yield _registry_clock(given, skew)


def _moments(settings: Settings) -> Iterator[tuple[datetime, str]]:
    """Moments that are over, and what they are of."""
    home = settings.home
    for path in (home.catalog, home.path / "catalog.db-wal", home.advisories, home.path / "audit" / "checkpoint"):
        if path.exists():
            yield clock.from_epoch(int(path.stat().st_mtime)), str(path)
    if settings.database_url is None and not home.catalog.exists():
        return
    try:
        with audit_log.reading(settings.catalog) as log:
            for position, entry in audit_reading.listed(log, rows=1):
                yield clock.parse_rfc3339(entry.time), f"entry {position} of the audit log"
    except TidewaiterError:
        return  # what is wrong with the catalog is said where that is looked at


def _registry_clock(given: Examination, skew: timedelta) -> Check:
    name = "clock.registry"
    try:
        reference = references.parse_registry(given.settings.shared_layers)
        with connecting.client(given.settings) as client:
            registry = connecting.connect(client, given.settings, reference).registry
            answer = registry.call("GET", "/v2/", scope="")
    except TidewaiterError as error:
        return of_error(name, error)
    now = clock.now()
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
        apart = abs(theirs - now)
    except (TypeError, ValueError):
        return unknown(name, f"{reference.host} does not say what time it is", "Compare the clocks by hand.")
    if apart > skew:
        return problem(
            name,
            f"it is {clock.rfc3339(now)} here and {clock.rfc3339(theirs)} at {reference.host}",
            "Set the clock that is wrong (`timedatectl set-ntp true`).",
        )
    return ok(name, f"{reference.host} and this machine are {apart.total_seconds():.0f} s apart")
