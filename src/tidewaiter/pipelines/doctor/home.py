"""The home: settings, who may read it, its databases, its cache."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from tidewaiter.advisories.database import Database
from tidewaiter.catalog import copies, figures, placed
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.pipelines import bounding, deciding
from tidewaiter.pipelines.doctor import database
from tidewaiter.pipelines.doctor.check import (
    Check,
    Examination,
    of_error,
    ok,
    open_to_others,
    problem,
    unknown,
    warning,
)
from tidewaiter.policy.environments import Environments, said_by

_WAL_BYTES = 1 << 30
_RESTORE = "Restore the home from a backup: `tidewaiter backup restore FILE --force`."


def variables(_: Examination) -> Iterator[Check]:
    """Variables that look like settings and are none."""
    unknown = all_settings.unknown_variables()
    for name in unknown:
        yield warning(
            "settings.variables", f"{name} is no setting", f"Unset {name}; docs/reference/settings.md lists all."
        )
    if not unknown:
        yield ok("settings.variables", "every variable named TIDEWAITER_… is a setting")


def files(given: Examination) -> Iterator[Check]:
    """Files that settings name."""
    settings = given.settings
    named = {"ca_file": (settings.ca_file,), "trusted_builders": settings.trusted_builders}
    named |= {"token_file": (settings.token_file,), "server_key": settings.server_key}
    named |= {"policy": settings.policy, "policy_keys": settings.policy_keys}
    missing = [(name, path) for name, paths in named.items() for path in paths if path and not path.exists()]
    for name, path in missing:
        yield problem("settings.files", f"{name} names {path}, which is not there", f"Correct the setting {name}.")
    if not missing:
        yield ok("settings.files", "the files that settings name are there")


def policy(given: Examination) -> Iterator[Check]:
    """Whether the rules can be read, and are signed where that is asked for."""
    name = "settings.policy"
    try:
        pack = deciding.policy_of(given.settings)
    except TidewaiterError as error:
        yield of_error(name, error)
    else:
        layers = ", ".join(pack.layers) or pack.name
        yield ok(name, f"{len(pack.rules)} rules of {layers}")


def environments(given: Examination) -> Iterator[Check]:
    """Whether the patterns of environments decide what they are meant to."""
    name, said = "settings.environments", said_by(given.settings)
    shadowed = said.shadowed()
    for one in shadowed:
        yield warning(
            name,
            f"{one.pattern} decides nothing for {one.environment}: {one.by} is {one.stricter}, which is stricter",
            "Narrow the stricter pattern in settings.toml, or remove the other.",
        )
    unused = _unused(given, said)
    for kind, pattern in unused:
        yield warning(name, f"no {kind} is known that fits {pattern}", "Check how it is spelt in settings.toml.")
    if not (shadowed or unused):
        told = f"{len(said.tables)} tables" if said.tables else "no tables"
        yield ok(name, f"{told}; anything else: {said.default or 'what its project says'}")


def access(given: Examination) -> Iterator[Check]:
    """Whether the server knows who asks when a proxy stands before it, and how browsers call it."""
    name, said = "settings.access", given.settings.access
    if said.public_url and not said.trusted_proxies:
        yield warning(
            name,
            f"{said.public_url} is a proxy's address, and no proxy is trusted: its clients count as one, so that who "
            "guesses passwords or asks too often makes all others wait",
            "Name the proxy's address in trusted_proxies (TIDEWAITER_TRUSTED_PROXIES).",
        )
    elif said.oidc_issuer and not said.public_url:
        yield warning(
            name,
            f"people log in at {said.oidc_issuer}, and public_url is not set: only a server on this machine starts so",
            "Set public_url (TIDEWAITER_PUBLIC_URL) to the address that browsers use.",
        )
    else:
        yield ok(name, said.public_url or "clients speak to this server itself")


def _unused(given: Examination, said: Environments) -> list[tuple[str, str]]:
    """Patterns that fit nothing that the catalog knows; none when it knows nothing of that kind."""
    if not said.tables or not database.is_usable(given.settings):
        return []
    with Catalog.open(given.settings) as opened, opened.database.reading() as connection:
        repositories, namespaces = placed.repositories(connection), placed.namespaces(connection)
    return [
        *(("repository", one) for one in said.unused_by_repositories(repositories) if repositories),
        *(("namespace", one) for one in said.unused_by_namespaces(namespaces) if namespaces),
    ]


def advisory_days(given: Examination) -> int:
    """How old advisories may be, as the rules that are in force say; raises what reading them raises."""
    data = json.loads(deciding.policy_of(given.settings).data)
    return min(int(root["parameters"]["advisory_age_days"]) for root in data.values() if _has_age(root))


def _has_age(root: object) -> bool:
    return isinstance(root, dict) and "advisory_age_days" in root.get("parameters", {})


def permissions(given: Examination) -> Iterator[Check]:
    """Who may read and write the home."""
    home = given.home.path
    status = home.stat()
    yield _owner(given)
    name = "home.permissions"
    if status.st_mode & 0o022:
        yield problem(name, f"others may write in {home}: they can change what is decided", f"chmod 700 {home}")
    elif status.st_mode & 0o077:
        yield warning(name, f"others may look into {home}", f"chmod 700 {home}")
    else:
        yield ok(name, f"{home} is for its owner only")
    private = [given.home.settings_file, *_private_files(given.home.keys), *_private_files(given.home.certificates)]
    wrong = [path for path in private if path.is_file() and open_to_others(path) and path.suffix == ".key"]
    for path in wrong:
        yield problem("home.private_files", f"others may read the private key {path}", f"chmod 600 {path}")
    if not wrong:
        yield ok("home.private_files", "private keys are for their owner only")


def _owner(given: Examination) -> Check:
    """Whether everything is of one user, and that is this one: what root writes, nobody else can write later."""
    home, me = given.home, os.geteuid()
    for path in (home.path, home.catalog, home.advisories, home.store, home.keys, home.cache, home.path / "audit"):
        if path.exists() and path.stat().st_uid != me:
            return problem(
                "home.owner",
                f"{path} belongs to user {path.stat().st_uid}, and this is user {me}",
                f"Run tidewaiter as the owner of the home, or give it all to one user: chown -R USER {home.path}",
            )
    return ok("home.owner", f"all of it belongs to user {me}")


def _private_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.key")) if folder.is_dir() else []


# Databases


def catalog(given: Examination) -> Iterator[Check]:
    """Whether the catalog is whole and of this release."""
    if given.settings.database_url is not None:
        yield from database.server(given.settings.database_url)
        return
    path = given.home.catalog
    if not path.exists():
        stored = any((given.home.store / "blobs").glob("*/*")) if given.home.store.is_dir() else False
        if stored:
            yield problem("catalog.file", f"{path} is missing, and the store has images", _RESTORE)
        else:
            yield ok("catalog.file", "nothing was recorded yet")
        return
    try:
        with given.progress.task("Reading the catalog"):
            copies.require_whole(path)
        yield ok("catalog.integrity", "every page of the catalog hangs together")
        yield database.schema(copies.revision(path))
        yield _journal(path)
    except TidewaiterError as error:
        yield problem("catalog.integrity", error.message, error.next_step)


def _journal(path: Path) -> Check:
    name = "catalog.journal"
    mode = copies.journal_mode(path)
    if mode != "wal":
        return warning(
            name,
            f"the catalog's journal is {mode}: readers wait for writers",
            f"Stop every command, then: sqlite3 {path} 'PRAGMA journal_mode = WAL'",
        )
    log = path.with_name(path.name + "-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > _WAL_BYTES:
        return warning(
            name,
            f"{log} has {size / 1e9:.1f} GB: a reader has kept a view of the catalog open for long",
            "Restart `tidewaiter serve`, and end commands that hang.",
        )
    return ok(name, "the catalog keeps a write-ahead log")


def audit(given: Examination) -> Iterator[Check]:
    """Whether the audit log can go on. `audit verify` finds out whether it was changed."""
    if not database.is_usable(given.settings):
        return  # what is wrong with it was said
    places = audit_log.places(given.settings)
    name = "audit.log"
    verify = "Run `tidewaiter audit verify`."
    with audit_log.reading(given.settings.catalog) as log:
        state = audit_log.state(log)
        waiting = figures.pending(log)
    if state is None:
        yield ok(name, "nothing was logged yet" if not waiting else f"{waiting} changes wait for the first entry")
        return
    if not places.key.exists() and given.settings.database_url is not None:
        yield ok(name, f"{state.size} entries; {waiting} changes wait for the home that has the log's key")
        return
    if not places.key.exists():
        yield problem(
            name,
            f"the private key of the audit log, {places.key}, is missing: {waiting} changes wait and more will",
            "Put it back from where it is kept; `tidewaiter backup create --with-keys` keeps it too.",
        )
        return
    written = audit_log.written_checkpoint(places)
    if written is None:
        yield problem(name, f"{places.checkpoint} is missing", verify)
        return
    try:
        signed = audit_log.opened(written, audit_log.public_key(places))
    except TidewaiterError as error:
        yield problem(name, f"{places.checkpoint} does not hold: {error.message}", verify)
        return
    if signed.size > state.size:
        yield problem(
            name,
            f"{signed.size} entries were signed, and the catalog has {state.size}: it is an older copy",
            f"{verify} Then restore the newest backup.",
        )
    else:
        yield ok(name, f"{state.size} entries, {waiting} changes wait")


def advisories(given: Examination) -> Iterator[Check]:
    """Whether the database of advisories is whole."""
    path = given.home.advisories
    name = "advisories.integrity"
    if not path.exists():
        yield ok(name, "no advisories were fetched yet")
        return
    if not os.access(path, os.W_OK):
        yield unknown(name, f"{path} cannot be written, as it must be to be read", "Run this as the owner of the home.")
        return
    try:
        with given.progress.task("Reading the advisories"):
            copies.require_whole(path)
        with Database(path) as opened:
            opened.coverage()
    except TidewaiterError as error:
        remedy = f"Move {path} away and run `tidewaiter advisories update`."
        yield problem(name, error.message, remedy)
    else:
        yield ok(name, "the database of advisories is as it was imported")


def cache(given: Examination) -> Iterator[Check]:
    """Whether the cache is within its bound, as far as it was measured."""
    measured, bound = bounding.measured(given.settings), given.settings.cache_bytes
    name = "cache.bound"
    if measured is None:
        yield ok(name, "the cache was not measured yet; `tidewaiter cache status` does")
    elif measured > bound:
        message = f"the cache has about {measured / 1e9:.1f} GB, its bound is {bound / 1e9:.1f} GB"
        yield warning(name, message, "Run `tidewaiter cache prune`.")
    else:
        yield ok(name, f"about {measured / 1e9:.1f} GB of {bound / 1e9:.1f} GB")
