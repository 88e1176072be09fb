"""Following a mirror of OSV's bulk exports (https://google.github.io/osv.dev/data/#data-dumps).

A mirror holds for each ecosystem `all.zip`, every entry as `ID.json`, and `modified_id.csv`: when each entry changed.

1. The list is read first: what changes while the rest is fetched is in it next time.
2. Where this mirror was followed before, the entries that changed since are fetched one by one.
3. Whenever that does not fit together (an entry is gone or is not what the list says, too many changed, there is no
   list) the whole export is fetched, unless its ETag says that it is the one that is here.
4. What was fetched becomes the data in one transaction; a failure leaves what was there.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import quote

from tidewaiter.advisories import exploited, feed, fetching
from tidewaiter.advisories.advisory import Advisory, family
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.importing import ImportResult, import_feed, result
from tidewaiter.advisories.rows import Changes, Exploited, Mirrored, Row, rows_of
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import LimitError, NetworkError, NotFoundError, TidewaiterError
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.core.settings import Settings
from tidewaiter.transport.client import Client

ECOSYSTEMS = ("PyPI", "Debian", "Ubuntu", "Alpine", "npm", "Go", "crates.io", "Maven")
"""Those that are fetched unless others are named: whose packages tidewaiter finds in images and can compare."""

_FETCHERS = 8


class _List(NamedTuple):
    """When each entry changed, and the newest of these moments that is not in the future."""

    changed: Mapping[str, dt.datetime]
    newest: dt.datetime


class _Mirror(NamedTuple):
    """One ecosystem on a mirror."""

    client: Client
    ecosystem: str
    folder: str

    @property
    def export(self) -> str:
        return f"{self.folder}/all.zip"

    def list(self) -> _List | None:
        """The list of entries; None when there is none, or none that can be read."""
        try:
            data = self.client.get(f"{self.folder}/modified_id.csv", limit=limits.FEED_LIST_BYTES)
        except NotFoundError:
            return None
        now = clock.now()
        changed: dict[str, dt.datetime] = {}
        try:
            for line in data.decode("ascii").splitlines():
                moment, _, id_ = line.partition(",")
                changed[feed.checked_id(id_)] = clock.parse_rfc3339(moment)
        except ValueError:
            return None  # some page that a proxy made up: the export has checksums, it is asked instead
        past = [moment for moment in changed.values() if moment <= now]
        return _List(changed, max(past)) if past else None

    def tag(self) -> str:
        """ETag of the whole export; empty when the mirror does not say."""
        response = self.client.request("HEAD", self.export, limit=limits.ERROR_BODY_BYTES)
        return response.headers.get("etag", "") if response.status == 200 else ""

    def entries(self, ids: Iterable[str]) -> Iterator[Advisory]:
        """The entries, in the order of `ids`; raises `NotFoundError` for one that is not there."""
        pool = ThreadPoolExecutor(_FETCHERS)
        try:
            for id_, data in zip(ids, pool.map(self._entry, ids), strict=True):
                yield feed.parse(feed.Document(f"{self.folder}/{id_}.json", data))
        finally:
            pool.shutdown(cancel_futures=True)

    def _entry(self, id_: str) -> bytes:
        return self.client.get(f"{self.folder}/{quote(id_)}.json", limit=limits.ADVISORY_BYTES)


def update(
    database: Database,
    client: Client,
    settings: Settings,
    *,
    ecosystems: Iterable[str] = ECOSYSTEMS,
    force: bool = False,
    progress: Progress = SILENT,
) -> tuple[ImportResult, ...]:
    """Bring the advisories of `ecosystems` (without releases) to the state of the OSV mirror.

    One ecosystem that fails does not keep the others from being updated; the first failure is raised at the end, or
    at once when the mirror cannot be reached.

    Raises:
        UndeterminedError: the mirror could not be reached or has no such export; the old data is untouched.
        Errors as in `import_feed`.
    """
    results: list[ImportResult] = []
    failure: TidewaiterError | None = None
    for ecosystem in ecosystems:
        folder = f"{settings.osv_mirror}/{quote(ecosystem)}"
        try:
            results.append(_update_one(database, _Mirror(client, ecosystem, folder), settings, progress, force=force))
        except NetworkError:
            raise
        except TidewaiterError as error:
            failure = failure or error
            progress.note(f"{ecosystem}: {error.message}")
    if failure is not None:
        raise failure
    return tuple(results)


def update_exploited(
    database: Database,
    client: Client,
    settings: Settings,
    kinds: Iterable[exploited.Kind],
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> tuple[Exploited, ...]:
    """Fetch the lists of exploited vulnerabilities from where the settings say, if they do; raises as `update`."""
    addresses: dict[exploited.Kind, str] = {"KEV": settings.kev_feed, "EPSS": settings.epss_feed}
    results = []
    for kind in kinds:
        if not addresses[kind]:
            progress.note(f"{kind} is not fetched: TIDEWAITER_{kind}_FEED is empty")
            continue
        with fetching.fetched(client, settings, addresses[kind], title=kind, progress=progress) as path:
            results.append(
                exploited.import_list(database, path, kind, source=fetching.shown(addresses[kind]), force=force)
            )
    return tuple(results)


def _update_one(
    database: Database, mirror: _Mirror, settings: Settings, progress: Progress, *, force: bool
) -> ImportResult:
    listed = mirror.list()
    state = database.mirrored(mirror.ecosystem)
    if state is not None and state.url != mirror.folder:
        state = None
    if state is not None and state.listed and listed is not None:
        followed = _follow(database, mirror, listed, clock.parse_rfc3339(state.listed), progress, force=force)
        if followed is not None:
            return followed
    tag = mirror.tag()
    if state is not None and tag and state.tag == tag:
        return _unchanged(database, mirror)
    title = f"{mirror.ecosystem} advisories"
    with fetching.fetched(mirror.client, settings, mirror.export, title=title, progress=progress) as path:
        return import_feed(
            database,
            path,
            ecosystem=mirror.ecosystem,
            source=mirror.export,
            force=force,
            mirrored=Mirrored(mirror.folder, tag, listed.newest.isoformat() if listed else ""),
            progress=progress,
        )


def _follow(
    database: Database, mirror: _Mirror, listed: _List, since: dt.datetime, progress: Progress, *, force: bool
) -> ImportResult | None:
    """Take what changed since the moment `since`; None when the list and what is here do not fit together."""
    held = {id_ for id_, single in database.held(mirror.ecosystem).items() if not single}
    changed = [id_ for id_, moment in listed.changed.items() if moment > since or (moment == since and id_ not in held)]
    if held - listed.changed.keys() or len(changed) > limits.FEED_CHANGES:
        return None
    found: dict[str, Advisory] = {}
    try:
        with progress.task(f"Fetching changed {mirror.ecosystem} advisories", total=len(changed)) as task:
            for id_, advisory in zip(changed, mirror.entries(changed), strict=True):
                written = clock.parse_rfc3339(advisory.modified) if advisory.modified else None
                if advisory.id != id_ or written is None or written < listed.changed[id_].replace(microsecond=0):
                    return None
                found[id_] = advisory
                task.advance()
    except (NotFoundError, LimitError):
        return None
    return _take(database, mirror, listed, found, held, force=force)


def _take(
    database: Database,
    mirror: _Mirror,
    listed: _List,
    found: Mapping[str, Advisory],
    held: set[str],
    *,
    force: bool,
) -> ImportResult:
    rows: dict[str, Row] = {}
    for id_, advisory in found.items():
        row = None if advisory.withdrawn else rows_of(advisory).get(mirror.ecosystem)
        if row is not None:
            rows[id_] = row
    now = clock.rfc3339(clock.now())
    moments = (advisory.modified for advisory in found.values() if advisory.modified <= now)
    as_of = max((*moments, _as_of(database, mirror.ecosystem)))
    state = Mirrored(mirror.folder, "", listed.newest.isoformat())
    gone = found.keys() - rows.keys()
    changes = database.change(
        mirror.ecosystem, rows.values(), gone, source=mirror.export, as_of=as_of, force=force, mirrored=state
    )
    return result(
        changes,
        ecosystems=(mirror.ecosystem,),
        source=mirror.export,
        as_of=as_of,
        entries=len(held | rows.keys()) - len(held & gone),
        withdrawn=sum(bool(advisory.withdrawn) for advisory in found.values()),
        whole=False,
    )


def _as_of(database: Database, ecosystem: str) -> str:
    coverage = database.coverage().values()
    return max((item.as_of for item in coverage if family(item.ecosystem) == ecosystem), default="")


def _unchanged(database: Database, mirror: _Mirror) -> ImportResult:
    return result(
        Changes(0, 0, 0),
        ecosystems=(mirror.ecosystem,),
        source=mirror.export,
        as_of=_as_of(database, mirror.ecosystem),
        entries=sum(not single for single in database.held(mirror.ecosystem).values()),
        withdrawn=0,
        whole=False,
    )
