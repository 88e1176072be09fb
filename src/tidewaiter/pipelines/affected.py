"""What an advisory touches, or a package is in, down to workloads, models and owners: answered by what is stored.

"No image is affected" is said only of an advisory that is known here, after every version was matched with the
advisories of now. An advisory that nobody imported is "could not find out".
"""

import datetime as dt
import re

import msgspec

import tidewaiter
from tidewaiter.advisories.database import Database
from tidewaiter.catalog import as_of, findings
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.reach.affected import ALL, Concerned, Wanted, spellings
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.pipelines import placing, rematching
from tidewaiter.pipelines.uncollected import uncollected
from tidewaiter.policy.environments import NOTHING_SAID, Environments
from tidewaiter.sbom import purls

_ADVISORY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-:.][A-Za-z0-9]+)+")
_CHARACTERS = 128


def is_advisory(text: str) -> bool:
    """Whether `text` may be the name of an advisory."""
    return len(text) <= _CHARACTERS and _ADVISORY.fullmatch(text) is not None


def answer(
    catalog: Catalog,
    database: Database,
    thing: str,
    progress: Progress = SILENT,
    *,
    wanted: Wanted = ALL,
    as_of_day: str = "",
    said: Environments = NOTHING_SAID,
) -> Concerned:
    """What `thing` concerns: an advisory by its id or an alias, or a package by its package URL.

    With `as_of_day` as it was known at the end of that day, or at a moment; the advisories of now have no part in it.
    Workloads are told with the environments that `said` says.

    Raises:
        InputError: it is neither, or the day is none.
        UndeterminedError: no advisory of that name is known here.
        StorageError: the catalog or the advisories cannot be used.
    """
    at = as_of.moment(as_of_day, clock.now())
    if thing.startswith("pkg:"):
        named = purls.parse(thing)
        if named is None:
            raise InputError(
                f"{thing[:100]!r} is no package URL", next_step="Write pkg:TYPE/NAME or pkg:TYPE/NAME@VERSION."
            )
        if at is None:
            _match(catalog, database, progress)
        with uncollected():
            return _placed(catalog, catalog.concerned_by_purl(named.purl, wanted, at), said, at)
    if not is_advisory(thing):
        raise InputError(
            f"{thing[:100]!r} is neither an advisory nor a package URL",
            next_step="Name an advisory as CVE-…, GHSA-… or PYSEC-…, or a package as pkg:pypi/NAME@VERSION.",
        )
    if at is None:
        _match(catalog, database, progress)
    entries = {name for spelling in spellings(thing) for name in database.named(spelling)}
    with uncollected():
        found = catalog.concerned_by_advisory({thing, *entries}, wanted, at)
    if not (entries or found.versions):
        raise UndeterminedError(
            f"no advisory {thing} is known here, so it cannot be said what it touches",
            next_step="`tidewaiter advisories update` fetches what is new; `tidewaiter advisories status` shows which "
            "ecosystems have data.",
            code="advisory_unknown",
        )
    return _placed(catalog, found, said, at)


def _placed(catalog: Catalog, found: Concerned, said: Environments, at: dt.datetime | None) -> Concerned:
    if not found.workloads or said == NOTHING_SAID:
        return found
    return msgspec.structs.replace(found, workloads=placing.workloads(catalog, found.workloads, said, at))


def _match(catalog: Catalog, database: Database, progress: Progress) -> None:
    """Bring findings to the advisories of now, unless they are."""
    with catalog.database.reading() as connection:
        current = findings.is_current(connection, database.revision(), tidewaiter.__version__)
    if not current:
        rematching.rematch(catalog, database, progress)
