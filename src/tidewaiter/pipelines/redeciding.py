"""Step: verdicts that rest on findings of before are decided anew, at the cost of the classes that they belong to.

1. The catalog knows which component sets hold a package version whose findings changed (`outdated_set`).
2. Each of them is matched once; every image and environment that was decided before is asked about again, unless its
   verdict rests on these very findings and this policy. Rules are asked once for all images that are alike to them.
3. The verdicts of many sets are one transaction and one entry of the audit log, while those of the next are decided,
   and what the ones after that are decided from is read. A denial takes back what was cleared.
4. Denied images leave the store's index, and what was attested of them is withdrawn.
5. Only then the sets are settled: whoever is killed before leaves the rest to the next time.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import NamedTuple

import msgspec

from tidewaiter.advisories.database import Database
from tidewaiter.advisories.matcher import Matcher
from tidewaiter.catalog.questions import Attached, Gathered, Outdated, Question
from tidewaiter.core import clock
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines import asking, deciding, resting, trusting
from tidewaiter.pipelines.asking import Shared, Standing
from tidewaiter.pipelines.attachments import attesting
from tidewaiter.pipelines.uncollected import uncollected
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.classes import ClassEngine
from tidewaiter.policy.input import NO_BASE, BaseInput, PolicyInput
from tidewaiter.policy.verdict import Decider, Verdict, check_environment
from tidewaiter.sbom.component import Component
from tidewaiter.signing import predicates
from tidewaiter.signing.vsa import Vsa

_SETS = 100
"""Component sets of one transaction: other writers wait for it."""
_LASTING = ("components", "facts")
"""Evidence that does not change with advisories: it is of the image's bytes."""


class Redecided(msgspec.Struct, frozen=True, kw_only=True):
    """What changed advisories meant for verdicts."""

    component_sets: int
    """With changed findings."""
    verdicts: int
    """That were decided anew."""
    denied: int
    """Of them: allowed before."""
    allowed: int
    """Of them: denied before."""
    withdrawn: tuple[str, ...]
    """Tags (`NAME:TAG`) that are no longer cleared."""
    without: int
    """Verdicts that cannot be decided anew, since an older release gave them: `check` does it."""


class _Now(msgspec.Struct, frozen=True):
    """What all questions of one moment have in common."""

    workshop: Workshop
    at: dt.datetime
    stated: str
    revoked: frozenset[str]
    bases: dict[Standing, BaseInput]

    def base(self, standing: Standing | None) -> BaseInput:
        if standing is None:
            return NO_BASE
        if standing not in self.bases:
            found = resting.said(
                self.workshop,
                standing.name,
                digests.parse(standing.digest),
                layers=standing.layers,
                platform=standing.platform,
            )
            self.bases[standing] = deciding.base_input(found)
        return self.bases[standing]


def redecide(workshop: Workshop, database: Database) -> Redecided:
    """Decide anew what rests on findings that changed; nothing to do is done in a moment.

    Raises:
        StorageError: the catalog or the advisories cannot be read or written.
        InputError: the policy of the settings is malformed.
        UndeterminedError: the engine does not start.
    """
    # 1.
    sets = workshop.catalog.outdated_sets()
    found = Redecided(component_sets=len(sets), verdicts=0, denied=0, allowed=0, withdrawn=(), without=0)
    if not sets:
        return found
    with (
        database.reading(),
        deciding.engine(workshop.settings) as rules,
        workshop.progress.task("Deciding verdicts anew", total=len(sets)) as task,
    ):
        work = _Work(workshop, Matcher(database), rules, database.revision())
        lots = [sets[start : start + _SETS] for start in range(0, len(sets), _SETS)]
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            before: Future[Redecided] | None = None
            read = reader.submit(work.read, lots[0])
            for number, some in enumerate(lots, 1):
                given = read.result()
                if number < len(lots):
                    # Sets share no image: what is written of some says nothing about others.
                    read = reader.submit(work.read, lots[number])
                with uncollected():
                    decided = work.decide(some, given)
                if before is not None:
                    found = _sum(found, before.result())
                before = writer.submit(work.write, decided)
                task.advance(len(some))
            if before is not None:
                found = _sum(found, before.result())
    return found


def _sum(one: Redecided, other: Redecided) -> Redecided:
    """Of both, about the sets of the first."""
    return Redecided(
        component_sets=one.component_sets,
        verdicts=one.verdicts + other.verdicts,
        denied=one.denied + other.denied,
        allowed=one.allowed + other.allowed,
        withdrawn=(*one.withdrawn, *other.withdrawn),
        without=one.without + other.without,
    )


def _is_for(environments: Collection[str], said: Vsa) -> bool:
    return said.environment in environments


class _Asked(NamedTuple):
    """A verdict that is decided anew."""

    before: Question
    document: PolicyInput
    evidence: Mapping[str, Digest]


class _Read(NamedTuple):
    """What verdicts about some sets are decided from."""

    known: Gathered
    kept: Mapping[int, Shared]
    """What images of a class have in common, by its row number."""
    components: Mapping[int, Sequence[Component]]
    """What is matched of each set, by its row number."""


class _Decided(NamedTuple):
    """Verdicts about some sets, in the order of what was said before."""

    sets: Sequence[Outdated]
    known: Gathered
    before: Sequence[Question]
    verdicts: Sequence[Verdict]


class _Work:
    def __init__(self, workshop: Workshop, matcher: Matcher, rules: ClassEngine, revision: str) -> None:
        self._workshop = workshop
        self._matcher = matcher
        self._rules = rules
        self._revision = revision
        self._decider = Decider(rules, workshop.catalog.waivers())

    def read(self, sets: Sequence[Outdated]) -> _Read:
        """What the verdicts about these sets are decided from; by a thread that decides nothing."""
        known = self._workshop.catalog.outdated_questions({one.number for one in sets})
        kept = {number: asking.shared(data) for number, data in known.shared.items()}
        return _Read(known, kept, self._components(known, kept))

    def decide(self, sets: Sequence[Outdated], given: _Read) -> _Decided:
        """The verdicts about these sets with the findings of now."""
        # 2.
        asked = list(self._asked(given))
        self._rules.prepare([one.document for one in asked])
        verdicts = [self._decider.decide(one.document, evidence=one.evidence) for one in asked]
        return _Decided(sets, given.known, [one.before for one in asked], verdicts)

    def write(self, decided: _Decided) -> Redecided:
        """Record them; by a thread that decides nothing."""
        catalog, verdicts = self._workshop.catalog, decided.verdicts
        # 3.
        withdrawn = catalog.record_verdicts(verdicts, verdicts[0].advisories_revision) if verdicts else ()
        # 4. Of those that are denied already, too: whoever denied them may have been killed before this.
        answers = {(one.artifact, one.environment): one.answer for one in decided.known.questions}
        for before, verdict in zip(decided.before, verdicts, strict=True):
            answers[before.artifact, before.environment] = verdict.verdict
        self._withdraw(decided.known, {key for key, answer in answers.items() if answer == "deny"})
        # 5.
        catalog.settle_sets(decided.sets)
        pairs = [(before.answer, verdict.verdict) for before, verdict in zip(decided.before, verdicts, strict=True)]
        return Redecided(
            component_sets=len(decided.sets),
            verdicts=len(verdicts),
            denied=pairs.count(("allow", "deny")),
            allowed=pairs.count(("deny", "allow")),
            withdrawn=withdrawn,
            without=decided.known.without,
        )

    def _asked(self, given: _Read) -> Iterator[_Asked]:
        """Questions whose verdicts do not rest on findings and policy of now."""
        known, kept = given.known, given.kept
        at = clock.now()
        now = _Now(self._workshop, at, clock.rfc3339(at), deciding.revoked(self._workshop), {})
        bare = Attached((), ())
        of_nothing = deciding.attached_by(self._workshop, bare, now.revoked, at)
        for members, of_set in groupby(known.questions, key=lambda one: one.members):
            scan = self._matcher.match(given.components[members])
            for (shared, name), alike in groupby(of_set, key=lambda one: (one.shared, one.environment)):
                joined = asking.joined(kept[shared], scan)
                findings = deciding.findings_digest(joined)
                base = now.base(kept[shared].base)
                document: PolicyInput | None = None
                attached = of_nothing
                for one in alike:
                    if (one.evidence.get("findings"), one.policy_revision) == (findings, self._rules.pack.revision):
                        continue
                    image = asking.own(one.own)
                    document = document or asking.again(
                        kept[shared],
                        image,
                        joined,
                        environment=check_environment(name),
                        now=at,
                        stated=now.stated,
                        base=base,
                    )
                    said = known.attached[one.artifact]
                    there = of_nothing if said == bare else deciding.attached_by(self._workshop, said, now.revoked, at)
                    # What images of a class share is the same object in all of them.
                    attached = attached if attached == there else there
                    yield _Asked(
                        one,
                        msgspec.structs.replace(document, image=image, attached=attached),
                        {
                            **{key: Digest(value) for key, value in one.evidence.items() if key in _LASTING},
                            "findings": findings,
                        },
                    )

    def _components(self, known: Gathered, kept: Mapping[int, Shared]) -> Mapping[int, Sequence[Component]]:
        """What is matched of each set: all of it where others said something, which is not kept as a finding."""
        sets = {one.members for one in known.questions}
        others = {one.members for one in known.questions if kept[one.shared].heard or kept[one.shared].suppressed}
        catalog = self._workshop.catalog
        return {**catalog.components_of(others), **catalog.components_of(sets - others, self._revision)}

    def _withdraw(self, known: Gathered, denied: Collection[tuple[int, str]]) -> None:
        """Take what is denied out of the store's index, and withdraw what was attested of it."""
        images = {one.digest: one.artifact for one in known.questions if (one.artifact, one.environment) in denied}
        environments: dict[int, set[str]] = defaultdict(set)
        for number, environment in denied:
            environments[number].add(environment)
        for repository, tag, digest in self._workshop.catalog.taken_back(images):
            self._workshop.store.untag(f"{repository}:{tag}")
            number = images[digest]
            if any(kind == predicates.VERDICT for kind, _, _ in known.attached[number].attestations):
                attesting.withdraw(
                    self._workshop,
                    repository,
                    digest,
                    partial(_is_for, environments[number]),
                    lambda: trusting.signers_of_home(self._workshop),
                )
