"""The catalog as the rest of the house sees it: one transaction a step, values in, values out."""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidewaiter.catalog import (
    attested,
    bases,
    built,
    clearing,
    detail,
    findings,
    glance,
    keeping,
    lineage,
    listing,
    migrate,
    questions,
    recording,
    synced,
    synced_writing,
)
from tidewaiter.catalog.answers import AdvisoryAge, BaseAnswer, BaseUse, ImageList, ImageRecord, Use
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.findings import Matching, Package, Rematching
from tidewaiter.catalog.glance import BaseWord
from tidewaiter.catalog.keeping import Kept
from tidewaiter.catalog.listing import StandingTag
from tidewaiter.catalog.questions import Asked
from tidewaiter.catalog.reach import affected
from tidewaiter.catalog.reach.affected import Concerned, Wanted
from tidewaiter.catalog.records import (
    AttachmentRecord,
    AttestationRecord,
    BuildRecord,
    PullRecord,
    ScanRecord,
    SignatureRecord,
)
from tidewaiter.core import clock, limits
from tidewaiter.core.environments import Environment
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

if TYPE_CHECKING:
    # The policy room loads its engine; a reader of the catalog has no need of it.
    from tidewaiter.catalog.browsing import Filter, ImagePage, TagMove, Whereabouts
    from tidewaiter.catalog.idempotency import Key
    from tidewaiter.catalog.resemblance import Resemblances
    from tidewaiter.policy.verdict import Verdict
    from tidewaiter.policy.waivers import Waiver
    from tidewaiter.sbom.component import Component


_MANY = 200
"""Images of one transaction: other writers wait for it."""


class Catalog:
    """An open catalog; made by `open`. Safe from any thread, and beside other processes.

    Every method raises `StorageError` when the database refuses.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The catalog of the home, made or brought to this program's schema when needed.

        Raises:
            StorageError: it cannot be opened, is damaged, or was written by a newer program.
        """
        database = Database(settings.catalog, actor=settings.identity)
        try:
            migrate.upgrade(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def acting(self, actor: str, key: "Key | None" = None) -> "Catalog":
        """This catalog, in somebody's name: the log says it, and what is changed marks the key (`idempotency`)."""
        from tidewaiter.catalog.acting import ActingDatabase

        return Catalog(ActingDatabase(self.database, actor, key))

    def close(self) -> None:
        """Close its connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def record_build(self, record: BuildRecord) -> None:
        """Record a finished build and its lineage."""
        with self.database.plainly(writing=True) as connection:
            built.write(connection, record, clock.now(), actor=self.database.actor)

    def record_pull(self, record: PullRecord) -> None:
        """Record an image that was fetched, and let its tag mean it: `pulled`, unless it was built here as well.

        A tag that is cleared for this very image stays so.
        """
        at = clock.now()
        with self.database.writing() as connection:
            recording.pull(connection, record, at)
            clearing.set_tag(
                connection, repository=record.repository, name=record.tag, digest=record.digest, clear_for=None, at=at
            )

    def record_facts(self, facts: ImageFacts, *, repository: str | None = None) -> None:
        """Record what inspection found in an image, and that it is in `repository`."""
        with self.database.writing() as connection:
            recording.facts(connection, [(facts, repository)], clock.now())

    def record_many(self, images: Iterable[tuple[ImageFacts, str | None]]) -> int:
        """As `record_facts` for each image and its repository, many in a transaction; how many there were."""
        remaining = iter(images)
        count = 0
        while some := list(islice(remaining, _MANY)):
            with self.database.writing() as connection:
                recording.facts(connection, some, clock.now())
            count += len(some)
        return count

    def record_scan(self, record: ScanRecord) -> None:
        """Record which components the advisories touch. Raises `NotFoundError` before `record_facts`."""
        with self.database.writing() as connection:
            members = recording.scan(connection, record, clock.now())
            if members is not None:
                findings.forget(connection, members, record.result.revision)

    @contextmanager
    def rematching(self) -> Iterator[Rematching]:
        """One transaction that works out findings of components anew."""
        with self.database.writing() as connection:
            yield Rematching(connection)

    def package_states(self) -> dict[Package, str]:
        """The state of the advisory data that the versions of each package were matched with last."""
        with self.database.reading() as connection:
            return findings.states(connection)

    def record_matching(self, revision: str, coverage: Mapping[str, str], at: dt.datetime) -> None:
        """Record that every component is matched with the advisories of `revision`, as old as `coverage` says."""
        with self.database.writing() as connection:
            findings.finish(connection, revision, coverage, at)

    def matching(self) -> Matching | None:
        """The advisories that every component was matched with last; None before the first time."""
        with self.database.reading() as connection:
            return findings.matching(connection)

    def reach(self, purls: Collection[str]) -> tuple[int, int]:
        """How many component sets hold one of these packages, and how many images have one of these sets."""
        with self.database.reading() as connection:
            return findings.reach(connection, purls)

    def record_verdict(self, verdict: "Verdict | dict[str, Any]", asked: Asked | None = None) -> tuple[str, ...]:
        """Record a verdict (or its JSON, decoded); the tags (`NAME:TAG`) that a denial takes back.

        With `asked`, what it was asked about, it can be decided anew when advisories change.

        Raises:
            InputError: the document is malformed.
            NotFoundError: its image is not recorded.
        """
        with self.database.writing() as connection:
            return clearing.verdict(connection, verdict, clock.now(), asked)

    def record_verdicts(
        self, verdicts: "Iterable[Verdict | dict[str, Any]]", why: str, asked: Sequence[Asked] = ()
    ) -> tuple[str, ...]:
        """As `record_verdict` for many that were decided at once, all or none: one entry of the audit log, about `why`.

        It holds the digest of their list.
        """
        with self.database.writing() as connection:
            return clearing.verdicts(connection, list(verdicts), why, clock.now(), asked)

    def outdated_sets(self) -> tuple[questions.Outdated, ...]:
        """Component sets whose findings changed since the verdicts about them were decided."""
        with self.database.reading() as connection:
            return questions.outdated(connection)

    def outdated_questions(self, sets: Collection[int]) -> questions.Gathered:
        """What verdicts about images with these component sets were asked about, and what is known now."""
        with self.database.reading() as connection:
            return questions.gather(connection, sets)

    def components_of(self, sets: Collection[int], revision: str = "") -> "dict[int, list[Component]]":
        """The components of each set; with a `revision` of the advisories only those that they say something of."""
        with self.database.reading() as connection:
            return questions.components(connection, sets, revision)

    def outdate_findings(self) -> None:
        """Whatever rests on any finding may be decided otherwise now: it became known how exploited they are."""
        with self.database.writing() as connection:
            questions.outdate_all(connection, clock.now())

    def settle_sets(self, sets: Sequence[questions.Outdated]) -> None:
        """The verdicts about these sets are those of now, unless their findings changed again."""
        with self.database.writing() as connection:
            questions.settled(connection, sets)

    def taken_back(self, digests: Collection[Digest]) -> tuple[tuple[str, str, Digest], ...]:
        """Repository, tag and image of the store's tags of these images that are not cleared."""
        with self.database.reading() as connection:
            return questions.taken_back(connection, digests)

    def log(self, action: str, subject: str, detail: dict[str, Any], *, actor: str = "") -> None:
        """Say in the audit log what was done outside of the catalog: a push, a key that was made or revoked."""
        with self.database.writing() as connection:
            audit.append(connection, action, subject, detail, at=clock.now(), actor=actor)

    def record_signature(self, record: SignatureRecord) -> None:
        """Record a signature. Raises `NotFoundError` when its image is not recorded."""
        with self.database.writing() as connection:
            recording.signature(connection, record, clock.now())

    def record_attestations(
        self, records: Sequence[AttestationRecord], signatures: Sequence[SignatureRecord] = ()
    ) -> None:
        """Record, all or nothing, what was attached to an image, and which of it are signatures that were made here.

        Raises:
            NotFoundError: the image is not recorded.
        """
        with self.database.writing() as connection:
            now = clock.now()
            for one in signatures:
                recording.signature(connection, one, now)
            attested.write(connection, records, now)

    def attestations(self, image: Digest) -> tuple[AttestationRecord, ...]:
        """What is attached to the image in the store, the oldest first; nothing when the image is not recorded."""
        with self.database.reading() as connection:
            return attested.read(connection, image)

    def record_attachment(self, record: AttachmentRecord) -> None:
        """Record an SBOM document. Raises `NotFoundError` when its image is not recorded."""
        with self.database.writing() as connection:
            recording.attachment(connection, record)

    def set_tag(
        self, repository: str, tag: str, digest: Digest, *, cleared_for: str | None = None, moves: bool = True
    ) -> None:
        """Let `repository:tag` mean the image: `built` or `pulled`, or `cleared` for the environment `cleared_for`.

        Raises:
            NotFoundError: the image is not recorded.
            RefusedError: it means another one, and is not to be moved.
            DeniedError: its newest verdict for that environment is a denial.
            UndeterminedError: there is no verdict for that environment, or it is no longer valid.
        """
        with self.database.writing() as connection:
            clearing.set_tag(
                connection,
                repository=repository,
                name=tag,
                digest=digest,
                clear_for=cleared_for,
                at=clock.now(),
                moves=moves,
            )

    def require_cleared(
        self, repository: str, digest: Digest, tag: str | None = None, *, least: Environment | None = None
    ) -> None:
        """Raise unless the image may leave the store from `repository`, as `tag` when one is given.

        Raises:
            NotFoundError: the image is not recorded.
            DeniedError: it is not cleared, or only for environments that are milder than `least`.
            UndeterminedError: the verdict that cleared it is no longer valid.
        """
        with self.database.reading() as connection:
            clearing.require_cleared(
                connection, repository=repository, digest=digest, name=tag, at=clock.now(), least=least
            )

    def denied(self, digest: Digest, environment: str) -> dt.datetime | None:
        """When the newest verdict about an image for an environment was given, if that is a no."""
        with self.database.reading() as connection:
            return clearing.denied(connection, digest, environment)

    def withdraw_tag(self, repository: str, tag: str) -> bool:
        """Make a cleared tag `built`, or `pulled`, again; False when it was not cleared."""
        with self.database.writing() as connection:
            return clearing.withdraw(connection, repository=repository, name=tag, at=clock.now())

    def resolve_tag(self, repository: str, tag: str) -> Digest | None:
        """Digest that the tag means, or None when there is no such tag."""
        with self.database.reading() as connection:
            found = listing.resolve_tag(connection, repository, tag)
        return None if found is None else digests.parse(found)

    def list_images(self, *, search: str = "", page: int = 1, rows: int = limits.PAGE_ROWS) -> ImageList:
        """A page of the images whose name, tag, digest or commit matches `search`, latest change first."""
        with self.database.reading() as connection:
            return listing.images(connection, search=search, page=page, rows=rows)

    def image(self, name: str) -> ImageRecord:
        """Everything about `DIGEST`, `NAME@DIGEST`, `NAME:TAG`, or `NAME` with the tag `latest`.

        What the store does not have is looked up where images lie that were synced: HOST/REPO:TAG and the like.

        Raises:
            InputError: the name is malformed.
            NotFoundError: there is no such image.
        """
        with self.database.reading() as connection:
            if name.startswith(("sha256:", "sha512:")):
                return detail.image(connection, digests.parse(name))
            place, digest = listing.named(connection, name)
            return detail.image(connection, digest, place)

    # What lies elsewhere

    def record_sync(self, place: str, batch: synced.Batch) -> synced.Written:
        """Record what was seen in the repository `place`, all or nothing; `InputError` for an impossible name."""
        with self.database.writing() as connection:
            return synced_writing.write(connection, place, batch, clock.now())

    def sync_statuses(self, wanted: Collection[Digest]) -> dict[Digest, synced.Status]:
        """What is known of those of these manifests that were ever seen."""
        with self.database.reading() as connection:
            return synced.statuses(connection, wanted)

    def sync_children(self, index: Digest) -> tuple[synced.Child, ...]:
        """What a recorded index lists."""
        with self.database.reading() as connection:
            return synced.children(connection, index)

    def sync_referrers(self, subject: Digest) -> frozenset[Digest]:
        """What is known to refer to a recorded manifest."""
        with self.database.reading() as connection:
            return synced.referrers(connection, subject)

    def sync_tags(self, place: str) -> dict[str, str]:
        """Tags of a repository elsewhere, and what they named when they were looked at last."""
        with self.database.reading() as connection:
            return synced.tags(connection, place)

    def sync_created(self, wanted: Collection[Digest]) -> dict[Digest, dt.datetime]:
        """When these images were made, as they say; an index is as new as the newest image that it lists."""
        with self.database.reading() as connection:
            return synced.created(connection, wanted)

    def sync_matched(self) -> int:
        """Say of component sets that nobody scanned that they are matched, where they are; how many there were."""
        with self.database.writing() as connection:
            return synced_writing.matched(connection)

    def browse(self, wanted: "Filter", *, cursor: str = "", rows: int = limits.PAGE_ROWS) -> "ImagePage":
        """The images that are wanted, latest change first; from the cursor of another page on, else `InputError`."""
        from tidewaiter.catalog import browsing

        with self.database.reading() as connection:
            return browsing.images(connection, wanted, cursor=cursor, rows=rows)

    def whereabouts(self, name: str) -> "Whereabouts":
        """Where the image lies that a digest, `NAME:TAG` or `NAME@DIGEST` means; raises as `image`."""
        from tidewaiter.catalog import browsing

        with self.database.reading() as connection:
            return browsing.whereabouts(connection, name)

    def not_inspected(self) -> int:
        """How many images in any repository have packages that nobody knows."""
        from tidewaiter.catalog import browsing

        with self.database.reading() as connection:
            return browsing.not_inspected(connection)

    def moved_tags(self, *, repository: str = "", rows: int = limits.PAGE_ROWS) -> "tuple[TagMove, ...]":
        """Tags that came to mean another image, in the store or elsewhere, the latest first."""
        from tidewaiter.catalog import browsing

        with self.database.reading() as connection:
            return browsing.moves(connection, repository=repository, rows=rows)

    def resemblances(self, *, threshold: float, rows: int = limits.PAGE_ROWS) -> "Resemblances":
        """Groups of component sets that are nearly the same."""
        from tidewaiter.catalog import resemblance

        with self.database.reading() as connection:
            return resemblance.groups(connection, threshold=threshold, rows=rows)

    def restore_tag(self, repository: str, tag: str, digest: Digest) -> bool:
        """Let `repository:tag` mean the image, not cleared, unless the tag means something; whether that was done."""
        at = clock.now()
        with self.database.writing() as connection:
            if listing.resolve_tag(connection, repository, tag) is not None:
                return False
            clearing.set_tag(connection, repository=repository, name=tag, digest=digest, clear_for=None, at=at)
            return True

    def images_with(self, thing: str) -> tuple[Use, ...]:
        """Images that contain a package (a purl, with or without version) or what an advisory or alias touches."""
        with self.database.reading() as connection:
            return lineage.images_with(connection, thing)

    def standing_tags(self) -> tuple[StandingTag, ...]:
        """Every tag, and the environment that its image is meant for."""
        with self.database.reading() as connection:
            return listing.standing_tags(connection)

    def concerned_by_advisory(
        self, names: Collection[str], wanted: Wanted = affected.ALL, at: dt.datetime | None = None
    ) -> Concerned:
        """What an advisory touches that is known under one of `names`, now or as it was known at `at`."""
        with self.database.reading() as connection:
            return affected.by_advisory(connection, names, wanted, at)

    def concerned_by_purl(self, purl: str, wanted: Wanted = affected.ALL, at: dt.datetime | None = None) -> Concerned:
        """The versions of a package (a purl, with or without version), and the images that have them."""
        with self.database.reading() as connection:
            return affected.by_purl(connection, purl, wanted, at)

    def approve_base(self, name: str, digest: Digest, *, owner: str, expires: dt.datetime | None) -> None:
        """Approve the base of that name and manifest digest, until `expires` when it is given."""
        with self.database.writing() as connection:
            bases.approve(connection, name, digest, owner=owner, expires=expires, at=clock.now())

    def retire_base(self, name: str, digest: Digest | None, *, reason: str) -> tuple[str, ...]:
        """Retire a base, or with None all of that name; their digests. Raises `NotFoundError` when none is known."""
        with self.database.writing() as connection:
            return bases.retire(connection, name, digest, reason=reason, at=clock.now())

    def bases(self) -> tuple[BaseAnswer, ...]:
        """Every base that was built on, approved or retired, by name."""
        with self.database.reading() as connection:
            return bases.bases(connection, clock.now())

    def images_on(self, wanted: Collection[str]) -> tuple[BaseUse, ...]:
        """Images whose first layers are those of one of the bases with these digests."""
        with self.database.reading() as connection:
            return bases.images_on(connection, wanted)

    def base_under(self, diff_ids: Sequence[Digest]) -> tuple[str, Digest, int] | None:
        """The known base with the most layers that are the first of `diff_ids`: name, digest, number of layers."""
        with self.database.plainly(writing=False) as connection:
            return glance.known_base_under(connection, diff_ids)

    def base_word(self, digest: Digest) -> BaseWord | None:
        """What was said of the base with that digest; None when nothing was."""
        with self.database.plainly(writing=False) as connection:
            return glance.said_of_base(connection, digest, clock.now())

    def request_waiver(self, waiver: "Waiver") -> None:
        """Keep a waiver that nobody has approved yet. Raises `RefusedError` when it is there."""
        from tidewaiter.catalog import waivers

        with self.database.writing() as connection:
            waivers.request(connection, waiver, waiver.requested_at)

    def approve_waiver(self, name: str, reviewer: str) -> "Waiver":
        """Approve the waiver of that id, and return it. Raises `NotFoundError`, or `RefusedError` with the reason."""
        from tidewaiter.catalog import waivers

        with self.database.writing() as connection:
            return waivers.approve(connection, name, reviewer, clock.now())

    def revoke_waiver(self, name: str, who: str, why: str) -> "tuple[Waiver, tuple[str, ...]]":
        """Revoke the waiver of that id; it, and the tags (`NAME:TAG`) that are no longer cleared.

        Raises `NotFoundError`, or `RefusedError` when it is revoked already.
        """
        from tidewaiter.catalog import waivers

        with self.database.writing() as connection:
            return waivers.revoke(connection, name, who, why, clock.now())

    def waiver(self, name: str) -> "Waiver":
        """The waiver of that id. Raises `NotFoundError`."""
        from tidewaiter.catalog import waivers

        with self.database.reading() as connection:
            return waivers.waiver(connection, name)

    def waivers(self) -> "tuple[Waiver, ...]":
        """Every waiver there ever was, the one that ends first first."""
        from tidewaiter.catalog import waivers

        with self.database.reading() as connection:
            return waivers.waivers(connection)

    def kept_digests(self) -> Kept:
        """What must stay in the store: tagged and signed images, their signatures and documents, approved bases."""
        with self.database.plainly(writing=False) as connection:
            return keeping.kept(connection)

    def advisory_age(self) -> AdvisoryAge | None:
        """Which advisories the newest scan used; None before the first scan."""
        with self.database.reading() as connection:
            return listing.advisory_age(connection)
