"""What lies in the home: advisories and their age, keys, images."""

import datetime as dt
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

from tidewaiter.advisories import mirror
from tidewaiter.advisories.advisory import family
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.finding import age_days
from tidewaiter.catalog import keeping
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, TidewaiterError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines.doctor import database as catalog_database
from tidewaiter.pipelines.doctor.check import Check, Examination, of_error, ok, problem, warning
from tidewaiter.pipelines.doctor.home import advisory_days
from tidewaiter.pipelines.reachable import absent
from tidewaiter.pipelines.trusting import VERDICT_KEY
from tidewaiter.signing import keyring, keys
from tidewaiter.signing.keyring import HomeKey
from tidewaiter.signing.trust import LOCAL

_UPDATE = "Run `tidewaiter advisories update`, every day; without a network `tidewaiter advisories import FILE`."
_SOON = dt.timedelta(days=30)
_LISTS = ("KEV", "EPSS")
_SAMPLE_BLOBS = 50
_SAMPLE_BYTES = 256 << 20
_CHUNK = 1 << 20
_SHOWN = 5
_TRIED = 20
"""Keys that are tried without a password; each takes a part of a second."""


# Advisories


def feeds(given: Examination) -> Iterator[Check]:
    """How old advisories are, by the bound of the rules in force."""
    if not given.home.advisories.exists():
        yield warning("feeds.age", "no advisories were fetched: only those that ship with this release count", _UPDATE)
        return
    bound = advisory_days(given)
    with Database(given.home.advisories) as database:
        covered = database.coverage().values()
        lists = database.exploited()
    ages: dict[str, int] = {}
    for one in covered:
        if one.as_of:
            name = family(one.ecosystem)
            days = age_days(one.as_of)
            ages[name] = max(ages.get(name, days), days)
    for name, days in sorted(ages.items()):
        yield _age(f"feeds.{name}", name, days, bound)
    for name, found in sorted(lists.items()):
        yield _age(f"feeds.{name}", name, age_days(found.as_of), bound)
    missing = [name for name in mirror.ECOSYSTEMS if name not in ages]
    if missing:
        yield warning("feeds.missing", f"packages of {', '.join(missing)} are not checked: there is no data", _UPDATE)
    absent = [name for name in _LISTS if name not in lists]
    if absent:
        yield warning(
            "feeds.exploited", f"there is no {' and no '.join(absent)}: what is exploited is unknown", _UPDATE
        )


def _age(check: str, name: str, days: int, bound: int) -> Check:
    if days > bound:
        return problem(
            check, f"{name} is {days} days old; after {bound} days nothing is allowed to production", _UPDATE
        )
    if days < 0:
        return warning(check, f"{name} is of the future", "Check the clock, then run `tidewaiter advisories update`.")
    if days * 2 > bound:
        return warning(check, f"{name} is {days} of {bound} days old", _UPDATE)
    return ok(check, f"{name} is {days} days old")


# Keys


def trust(given: Examination) -> Iterator[Check]:
    """Keys of the home and of the settings: in force, for how long, sealed."""
    now = clock.now()
    try:
        ring = keyring.read(given.home.keys)
    except InputError as error:
        yield problem("keys.folder", error.message, error.next_step)
        return
    private = [key for key in ring if key.has_private and not key.marks.retired]
    if not private:
        yield warning(
            "keys.folder",
            "no private key is in this home: nothing can be signed with one of its own",
            "Run `tidewaiter key generate`, or name a key that is kept elsewhere.",
        )
    for key in ring:
        yield _term(key, now)
    for key in private[:_TRIED]:
        yield from _sealed(given.home.keys, key)
    if private and all(key.marks.builder == LOCAL for key in private):
        yield warning(
            "keys.builder",
            f"every key is marked `{LOCAL}`: production refuses what it vouches for",
            "On a build server: `tidewaiter key generate NAME --builder NAME`.",
        )
    if given.settings.trusted_builders:
        yield _builders(given)


def _term(key: HomeKey, now: dt.datetime) -> Check:
    name = f"keys.{key.name}"
    state, until = key.trusted.state(now), key.marks.valid_until
    used = key.has_private and not key.marks.retired
    rotate = f"Run `tidewaiter key rotate {key.name}`."
    if used and state in {"revoked", "expired"}:
        return problem(name, f"the key {key.name} is {state}: nothing can be signed with it", rotate)
    if used and until is not None and until - now < _SOON:
        days = (until - now).days
        return warning(name, f"the key {key.name} signs for {days} more days", rotate)
    what = "verdicts" if key.name == VERDICT_KEY else "as " + key.marks.builder
    end = "" if until is None else f" until {clock.rfc3339(until)}"
    return ok(name, f"the key {key.name} ({what}) is {state.replace('_', ' ')}{end}")


def _sealed(folder: Path, key: HomeKey) -> Iterator[Check]:
    name = f"keys.{key.name}.password"
    try:
        keys.load_private(folder / f"{key.name}.key", b"")
    except InputError as error:
        if error.code == "wrong_password":
            yield ok(name, f"the private half of {key.name} has a password")
        else:
            yield problem(name, error.message, error.next_step)
    else:
        yield warning(
            name,
            f"the private half of {key.name} has no password: whoever reads the file signs with it",
            f"Set COSIGN_PASSWORD and run `tidewaiter key rotate {key.name}`, unless the file is kept safe otherwise.",
        )


def _builders(given: Examination) -> Check:
    name = "keys.trusted_builders"
    try:
        found = keyring.of_files(given.settings.trusted_builders)
    except TidewaiterError as error:
        return of_error(name, error)
    now = clock.now()
    wrong = [why for key in found if (why := key.not_in_force(now))]
    if wrong:
        return warning(name, "; ".join(wrong), "Ask the builder for its new public key.")
    return ok(name, f"{len(found)} builders are trusted to share layers")


# Images


def store(given: Examination) -> Iterator[Check]:
    """Whether what images need is there, and has the bytes that its name says: a sample, or all of it."""
    layout = Layout(given.home.store)
    if not (layout.path / "index.json").exists():
        yield ok("store.blobs", "no image was built or pulled yet")
        return
    try:
        listed = len(layout.index())
    except TidewaiterError as error:
        yield problem("store.index", error.message, "Restore the home from a backup, or build the images again.")
        return
    yield from _lost(given, layout, listed)
    blobs = list(layout.blobs())
    chosen = blobs if given.deep else _sample(layout, blobs)
    damaged = list(_damaged(given, layout, chosen))
    for digest in damaged[:_SHOWN]:
        yield problem(
            "store.blobs",
            f"the blob {digest} has other bytes than its name says",
            f"Remove {layout.blob_path(digest)} and pull or build its images again.",
        )
    if len(damaged) > _SHOWN:
        yield problem("store.blobs", f"{len(damaged) - _SHOWN} more blobs are damaged", "Restore a backup.")
    if not damaged:
        how = "all" if given.deep else f"a sample of {len(chosen)}, `--deep` reads all"
        yield ok("store.blobs", f"{len(blobs)} blobs, intact ({how})")


def _lost(given: Examination, layout: Layout, listed: int) -> Iterator[Check]:
    """What images of the catalog need and the store does not have."""
    if not catalog_database.is_usable(given.settings):
        return
    with audit_log.reading(given.settings.catalog) as connection:
        kept = keeping.kept(connection)
    lost = absent(layout, kept)
    for digest in lost[:_SHOWN]:
        yield problem(
            "store.images",
            f"an image or signature of the catalog needs {digest}, and the store does not have it",
            "Pull or build the image again, or restore a backup.",
        )
    if len(lost) > _SHOWN:
        yield problem("store.images", f"{len(lost) - _SHOWN} more are missing", "Restore a backup.")
    if not lost:
        message = f"{len(kept.manifests)} images and signatures are complete, {listed} are listed for other tools"
        yield ok("store.images", message)


def _sample(layout: Layout, blobs: list[Digest]) -> list[Digest]:
    """Some blobs, others each time, not more than can be read in a second or two."""
    found, size = [], 0
    for digest in random.sample(blobs, min(len(blobs), _SAMPLE_BLOBS)):
        try:
            more = layout.blob_path(digest).stat().st_size
        except FileNotFoundError:
            continue  # pruned meanwhile
        if size + more > _SAMPLE_BYTES:
            continue
        size += more
        found.append(digest)
    return found


def _damaged(given: Examination, layout: Layout, blobs: list[Digest]) -> Iterator[Digest]:
    with given.progress.task("Reading the store", total=len(blobs)) as task:
        for digest in blobs:
            found = hashlib.new(digests.algorithm(digest))
            try:
                with layout.open(digest) as file:
                    while piece := file.read(_CHUNK):
                        found.update(piece)
            except TidewaiterError:
                continue  # pruned meanwhile
            if found.hexdigest() != digests.hexadecimal(digest):
                yield digest
            task.advance()
