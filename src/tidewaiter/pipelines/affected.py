"""Which package versions, layers and images an advisory touches, or a package is in: answered by what is stored.

"No image is affected" is said only of an advisory that is known here, after every version was matched with the
advisories of now. An advisory that nobody imported is "could not find out".
"""

import re

from tidewaiter.advisories.database import Database
from tidewaiter.catalog.affected import Concerned, spellings
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.pipelines import rematching
from tidewaiter.sbom import purls

_ADVISORY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-:.][A-Za-z0-9]+)+")
_CHARACTERS = 128


def is_advisory(text: str) -> bool:
    """Whether `text` may be the name of an advisory."""
    return len(text) <= _CHARACTERS and _ADVISORY.fullmatch(text) is not None


def answer(catalog: Catalog, database: Database, thing: str, progress: Progress = SILENT) -> Concerned:
    """What `thing` concerns: an advisory by its id or an alias, or a package by its package URL.

    Raises:
        InputError: it is neither.
        UndeterminedError: no advisory of that name is known here.
        StorageError: the catalog or the advisories cannot be used.
    """
    if thing.startswith("pkg:"):
        named = purls.parse(thing)
        if named is None:
            raise InputError(
                f"{thing[:100]!r} is no package URL", next_step="Write pkg:TYPE/NAME or pkg:TYPE/NAME@VERSION."
            )
        rematching.rematch(catalog, database, progress)
        return catalog.concerned_by_purl(named.purl)
    if not is_advisory(thing):
        raise InputError(
            f"{thing[:100]!r} is neither an advisory nor a package URL",
            next_step="Name an advisory as CVE-…, GHSA-… or PYSEC-…, or a package as pkg:pypi/NAME@VERSION.",
        )
    rematching.rematch(catalog, database, progress)
    entries = {name for spelling in spellings(thing) for name in database.named(spelling)}
    found = catalog.concerned_by_advisory({thing, *entries})
    if not (entries or found.versions):
        raise UndeterminedError(
            f"no advisory {thing} is known here, so it cannot be said what it touches",
            next_step="`tidewaiter advisories update` fetches what is new; `tidewaiter advisories status` shows which "
            "ecosystems have data.",
            code="advisory_unknown",
        )
    return found
