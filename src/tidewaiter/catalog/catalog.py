"""The catalog as the rest of the house sees it: one transaction a step, values in, values out."""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidewaiter.catalog import (
    affected,
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
    recording,
)
from tidewaiter.catalog.affected import Concerned
from tidewaiter.catalog.answers import AdvisoryAge, BaseAnswer, BaseUse, ImageList, ImageRecord, Use
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.findings import Matching, Package, Rematching
from tidewaiter.catalog.glance import BaseWord
from tidewaiter.catalog.keeping import Kept
from tidewaiter.catalog.listing import StandingTag
from tidewaiter.catalog.records import AttachmentRecord, BuildRecord, PullRecord, ScanRecord, SignatureRecord
from tidewaiter.core import clock, limits
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import parse_store

if TYPE_CHECKING:
    # The policy room loads its engine; a reader of the catalog has no need of it.
    from tidewaiter.policy.verdict import Verdict
    from tidewaiter.policy.waivers import Waiver


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
        database = Database(settings.home.catalog)
        try:
            migrate.upgrade(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

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
            built.write(connection, record, clock.now())

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

    def record_verdict(self, verdict: "Verdict | dict[str, Any]") -> tuple[str, ...]:
        """Record a verdict (or its JSON, decoded); the tags (`NAME:TAG`) that a denial takes back.

        Raises:
            InputError: the document is malformed.
            NotFoundError: its image is not recorded.
        """
        with self.database.writing() as connection:
            return clearing.verdict(connection, verdict, clock.now())

    def record_signature(self, record: SignatureRecord) -> None:
        """Record a signature. Raises `NotFoundError` when its image is not recorded."""
        with self.database.writing() as connection:
            recording.signature(connection, record, clock.now())

    def record_attachment(self, record: AttachmentRecord) -> None:
        """Record an SBOM document. Raises `NotFoundError` when its image is not recorded."""
        with self.database.writing() as connection:
            recording.attachment(connection, record)

    def set_tag(self, repository: str, tag: str, digest: Digest, *, cleared_for: str | None = None) -> None:
        """Let `repository:tag` mean the image: `built` or `pulled`, or `cleared` for the environment `cleared_for`.

        Raises:
            NotFoundError: the image is not recorded.
            DeniedError: its newest verdict for that environment is a denial.
            UndeterminedError: there is no verdict for that environment, or it is no longer valid.
        """
        with self.database.writing() as connection:
            clearing.set_tag(
                connection, repository=repository, name=tag, digest=digest, clear_for=cleared_for, at=clock.now()
            )

    def require_cleared(self, repository: str, digest: Digest, tag: str | None = None) -> None:
        """Raise unless the image may leave the store from `repository`, as `tag` when one is given.

        Raises:
            NotFoundError: the image is not recorded.
            DeniedError: it is not cleared.
            UndeterminedError: the verdict that cleared it is no longer valid.
        """
        with self.database.reading() as connection:
            clearing.require_cleared(connection, repository=repository, digest=digest, name=tag, at=clock.now())

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

        Raises:
            InputError: the name is malformed.
            NotFoundError: there is no such image.
        """
        with self.database.reading() as connection:
            if name.startswith(("sha256:", "sha512:")):
                return detail.image(connection, digests.parse(name))
            reference = parse_store(name)
            digest = reference.digest
            if digest is None:
                tag = reference.tag or "latest"
                digest = listing.tagged(connection, reference.name, tag)
            return detail.image(connection, digest, reference.name)

    def images_with(self, thing: str) -> tuple[Use, ...]:
        """Images that contain a package (a purl, with or without version) or what an advisory or alias touches."""
        with self.database.reading() as connection:
            return lineage.images_with(connection, thing)

    def standing_tags(self) -> tuple[StandingTag, ...]:
        """Every tag, and the environment that its image is meant for."""
        with self.database.reading() as connection:
            return listing.standing_tags(connection)

    def concerned_by_advisory(self, names: Collection[str]) -> Concerned:
        """What an advisory touches that is known under one of `names`."""
        with self.database.reading() as connection:
            return affected.by_advisory(connection, names)

    def concerned_by_purl(self, purl: str) -> Concerned:
        """The versions of a package (a purl, with or without version), and the images that have them."""
        with self.database.reading() as connection:
            return affected.by_purl(connection, purl)

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
