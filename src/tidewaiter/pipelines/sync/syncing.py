"""Taking whole registries, layouts, archives and the store into the catalog, as often as one likes.

1. Of each repository the tags are listed, and of each tag the digest is asked for.
2. What is not known of these digests is read (`sync_taking`), several at a time, and written down in batches. Whoever
   is killed leaves whole batches; the next sync goes on with what they do not hold.
3. Tags that are no longer there are recorded as gone. The images stay.
4. Package versions that were never matched are matched with the advisories of this home.

A second sync of what has not changed asks for lists of tags, for digests, for what refers to them, and for nothing
else.
"""

import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import msgspec

from tidewaiter.catalog.synced import Batch, Child, MovedTag, SeenTag, TakenManifest, check_name, check_place
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NotFoundError, StorageError, TidewaiterError
from tidewaiter.core.progress import Task
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import ATTACHED
from tidewaiter.oci.manifest import Platform
from tidewaiter.oci.reference import check_tag
from tidewaiter.pipelines import rematching
from tidewaiter.pipelines.sync import sources as sync_sources
from tidewaiter.pipelines.sync.sources import Offers, Place, Target
from tidewaiter.pipelines.sync.taking import Claims, Problem, Taken, Taker, VanishedError, Wanted
from tidewaiter.pipelines.workshop import Workshop

_T = TypeVar("_T")
_R = TypeVar("_R")
_MOVED = 1000
"""Moved tags of one place that are listed."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What of a place is taken in."""

    tags: tuple[str, ...] = ()
    """Patterns, as of a shell; empty: all tags."""
    platforms: tuple[Platform, ...] = ()
    """Empty: all."""
    newest: int = 0
    """Of each repository so many images are inspected, those made last; 0: all. The others are seen."""
    jobs: int = 4
    """Requests, and images that are read, at the same time."""


class SyncedPlace(msgspec.Struct, kw_only=True):
    """What came of one place."""

    place: str
    repositories: int = 0
    tags: int = 0
    """Tags that were looked at."""
    images: int = 0
    """Images that their repository was not known to have."""
    inspected: int = 0
    """Images that were read."""
    artifacts: int = 0
    """Signatures, charts and whatever else is no image, seen for the first time."""
    moved: list[MovedTag] = []
    """Tags that mean something else than before, or are gone; some of `moved_total`."""
    moved_total: int = 0
    problems: list[Problem] = []
    """What could not be taken in; some of `problems_total`."""
    problems_total: int = 0
    stopped: str = ""
    """Why the rest was not looked at; empty when all was."""
    next_step: str = ""

    @property
    def whole(self) -> bool:
        """Whether everything that was asked for is in the catalog now, or was found to be malformed before."""
        return not self.stopped and not self.problems_total


def sync(workshop: Workshop, places: Sequence[str], options: Options) -> tuple[SyncedPlace, ...]:
    """Take in the places one after the other; what went wrong with one stands in its answer, and the others follow.

    Raises:
        InputError: a place or an option is malformed; nothing was done.
        StorageError: the disk or the catalog refused; what was taken in before is kept.
    """
    if not 1 <= options.jobs <= limits.SYNC_JOBS:
        raise InputError(f"{options.jobs} jobs", next_step=f"Take from 1 to {limits.SYNC_JOBS}.", code="usage")
    if options.newest < 0:
        raise InputError(f"{options.newest} newest images", next_step="Take 1 or more; 0 means all.", code="usage")
    opened = [sync_sources.parse(workshop, text) for text in places]
    if len(opened) == 1:
        done = [_Sync(workshop, opened[0], options).run(alone=True)]
    else:
        done = [_Sync(workshop, place, options).run() for place in opened]
    _match(workshop)
    return tuple(done)


def _match(workshop: Workshop) -> None:
    """Step 4: findings of what is new, when there are advisories."""
    from tidewaiter.advisories.database import Database

    try:
        with Database(workshop.settings.home.advisories) as database:
            if not database.coverage():
                workshop.progress.note("no advisories are known here: `tidewaiter advisories update` fetches them")
                return
            rematching.rematch(workshop.catalog, database, workshop.progress)
        workshop.catalog.sync_matched()
    except StorageError as error:
        workshop.progress.note(f"warning: the images are taken in, but not matched: {error.message}")


def _some(values: Iterable[_T], count: int) -> Iterator[list[_T]]:
    left = iter(values)
    while some := list(islice(left, count)):
        yield some


class _Sync:
    """One place."""

    def __init__(self, workshop: Workshop, place: Place, options: Options) -> None:
        self._workshop = workshop
        self._place = place
        self._options = options
        self._claims = Claims()
        self._nameless: set[str] = set()
        """Tags of the repository that it lists, and that name nothing."""
        self.done = SyncedPlace(place=place.name)

    def run(self, *, alone: bool = False) -> SyncedPlace:
        """Take in the place; raises `StorageError`, and when it is `alone` what is wrong with its name."""
        pool = ThreadPoolExecutor(self._options.jobs, thread_name_prefix="sync")
        try:
            for offers in self._place.repositories(self._refused):
                self._repository(pool, offers)
        except StorageError:
            raise
        except TidewaiterError as error:
            if alone and isinstance(error, InputError) and not self.done.tags:
                raise
            self.done.stopped = error.message
            self.done.next_step = f"{error.next_step} The same command then goes on; what was taken in is kept."
        except BaseException:
            # Threads that wait for a silent registry must not keep a user who pressed ctrl-C.
            self._workshop.client.interrupt()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return self.done

    def _refused(self, message: str) -> None:
        self._problem(Problem(self._place.name, message))

    def _problem(self, problem: Problem) -> None:
        self.done.problems_total += 1
        if len(self.done.problems) < limits.SYNC_PROBLEMS:
            self.done.problems.append(problem)

    def _each(
        self, pool: ThreadPoolExecutor, function: Callable[[_T], _R], values: Iterable[_T]
    ) -> Iterator[tuple[_T, _R]]:
        """Each value with what the function makes of it, as they are done; few more wait than there are jobs."""
        left = iter(values)
        running: dict[Future[_R], _T] = {}
        try:
            while True:
                for value in islice(left, 2 * self._options.jobs - len(running)):
                    running[pool.submit(function, value)] = value
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()

    # One repository

    def _repository(self, pool: ThreadPoolExecutor, offers: Offers) -> None:
        taker = Taker(self._workshop, offers, Wanted(self._options.platforms, not self._options.newest), self._claims)
        try:
            check_place(offers.name)
            targets = list(offers.targets())
        except VanishedError:
            raise
        except TidewaiterError as error:
            if self._place.single:
                raise
            if not isinstance(error, NotFoundError):
                self._problem(taker.problem(error, Target("", None), None))
                return
            targets = []  # as registries go on to list a repository whose last tag was deleted
        wanted = [one for one in targets if self._accepts(offers, one)]
        # Signatures name their images, which are then known.
        wanted.sort(key=lambda one: ATTACHED.fullmatch(one.tag) is not None)
        self.done.repositories += 1
        self._nameless.clear()
        writer = _Writer(self._workshop, offers, self.done)
        seen: list[tuple[Target, Digest]] = []
        with self._workshop.progress.task(f"Syncing {offers.name}", total=len(wanted)) as task:
            try:
                for some in _some(wanted, limits.SYNC_TAGS):
                    seen += self._targets(pool, taker, writer, some, task)
                    # Later tags may name the same: what was read is known then.
                    writer.flush()
            finally:
                writer.flush()
        if self._options.newest:
            self._newest(pool, taker, writer, seen)
        self._gone(offers, writer, {one.tag for one in targets} - self._nameless)

    def _accepts(self, offers: Offers, target: Target) -> bool:
        patterns = self._options.tags
        if patterns and not any(fnmatch.fnmatchcase(target.tag, pattern) for pattern in patterns):
            return False
        try:
            check_name(target.tag)
            if target.digest is None:
                check_tag(target.tag)
        except InputError as error:
            self._problem(Problem(offers.name, error.message))
            return False
        return True

    def _targets(
        self, pool: ThreadPoolExecutor, taker: Taker, writer: "_Writer", targets: Sequence[Target], task: Task
    ) -> list[tuple[Target, Digest]]:
        """Take in some targets; those that could be looked at, with their digests."""
        at = clock.now()
        found: list[tuple[Target, Digest]] = []
        for target, digest in self._each(pool, taker.look, targets):
            self.done.tags += 1
            if isinstance(digest, Problem):
                self._problem(digest)
            if digest is None or isinstance(digest, Problem):
                task.advance()
            else:
                found.append((target, digest))
            if digest is None:
                self._nameless.add(target.tag)
        # Many tags may mean one image.
        first = {digest: target for target, digest in sorted(found, reverse=True)}
        tags: dict[Digest, list[str]] = {}
        for target, digest in found:
            tags.setdefault(digest, []).append(target.tag)
        for _, taken in self._each(pool, lambda digest: taker.take(first[digest], digest), list(first)):
            names = tags[taken.digest] if taken.named else []
            writer.add(taken, [SeenTag(name, taken.digest, at) for name in names if name])
            for problem in taken.problems:
                self._problem(problem)
            task.advance(len(tags[taken.digest]))
        return found

    def _newest(
        self, pool: ThreadPoolExecutor, taker: Taker, writer: "_Writer", seen: Sequence[tuple[Target, Digest]]
    ) -> None:
        """Inspect the images of the repository that were made last."""
        named = {digest: target for target, digest in reversed(seen)}
        made = self._workshop.catalog.sync_created(list(named))
        chosen = sorted(made, key=lambda digest: (made[digest], digest), reverse=True)[: self._options.newest]
        reading = taker._replace(wanted=taker.wanted._replace(inspect=True))
        with self._workshop.progress.task(f"Inspecting the newest of {taker.offers.name}", total=len(chosen)) as task:
            for _, taken in self._each(pool, lambda one: reading.take(named[one], one), chosen):
                writer.add(taken, [])
                for problem in taken.problems:
                    self._problem(problem)
                task.advance()
            writer.flush()

    def _gone(self, offers: Offers, writer: "_Writer", there: set[str]) -> None:
        """Step 3."""
        if not offers.complete:
            return
        known = self._workshop.catalog.sync_tags(offers.name)
        patterns = self._options.tags
        gone = [
            name
            for name in known
            if name not in there and (not patterns or any(fnmatch.fnmatchcase(name, one) for one in patterns))
        ]
        if gone:
            writer.write(Batch(gone=gone))


class _Writer:
    """Writes down what came of a repository, many images in a transaction."""

    def __init__(self, workshop: Workshop, offers: Offers, done: SyncedPlace) -> None:
        self._workshop = workshop
        self._offers = offers
        self._done = done
        self._manifests: list[TakenManifest] = []
        self._tags: list[SeenTag] = []
        self._images: dict[Digest, None] = {}
        self._referring: dict[Digest, tuple[Child, ...]] = {}
        self._since = time.monotonic()

    def add(self, taken: Taken, tags: Sequence[SeenTag]) -> None:
        """Keep what came of one target, and write what waits when that is enough."""
        self._manifests += taken.manifests
        self._tags += tags
        self._images.update(dict.fromkeys(taken.images))
        self._referring.update(taken.referring)
        late = time.monotonic() - self._since > limits.SYNC_BATCH_SECONDS
        if late or len(self._manifests) >= limits.SYNC_BATCH or len(self._tags) >= limits.SYNC_TAGS:
            self.flush()

    def flush(self) -> None:
        """Write what waits; raises `StorageError`."""
        batch = Batch(
            manifests=self._manifests,
            tags=() if self._offers.stored else self._tags,
            images=list(self._images),
            referring=list(self._referring.items()),
        )
        tags = self._tags
        self._manifests, self._tags, self._images, self._referring = [], [], {}, {}
        self._since = time.monotonic()
        if not (batch.manifests or tags or batch.images):
            return
        self.write(batch)
        if self._offers.stored:
            for tag in tags:
                self._workshop.catalog.restore_tag(self._offers.name, tag.name, tag.digest)

    def write(self, batch: Batch) -> None:
        """Write a batch."""
        written = self._workshop.catalog.record_sync(self._offers.name, batch)
        done = self._done
        done.images += written.images
        done.inspected += sum(one.facts is not None for one in batch.manifests)
        done.artifacts += sum(one.kind == "artifact" for one in batch.manifests)
        done.artifacts += len({one.digest for _, some in batch.referring for one in some})
        done.moved_total += len(written.moved)
        done.moved += written.moved[: max(0, _MOVED - len(done.moved))]
