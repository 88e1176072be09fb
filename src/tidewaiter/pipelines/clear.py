"""The whole way: commit, locks, build, inspect, match, decide, sign, clear. Any failure stops it.

Each step is a function of its own, for runs that survive a crash between them (`durable`); `clear` is all of them.
Nothing is tagged as cleared before the verdict of the project's environment allows it, and signature, provenance, bills
of materials, findings and verdict are attached.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.assembly import options
from tidewaiter.assembly.build import Build
from tidewaiter.assembly.options import Options
from tidewaiter.catalog.questions import Asked
from tidewaiter.catalog.records import SbomKind, ScanRecord
from tidewaiter.core import clock
from tidewaiter.core.errors import DeniedError, NotFoundError, RefusedError, UndeterminedError
from tidewaiter.core.project import Project
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines import analysed, asking, building, deciding, images, looking, resting, trusting
from tidewaiter.pipelines.attachments import attaching, attesting, stating
from tidewaiter.pipelines.attachments.attaching import Stored
from tidewaiter.pipelines.attachments.attesting import Decision
from tidewaiter.pipelines.images import NamedImage, StoredReference
from tidewaiter.pipelines.resting import Resting
from tidewaiter.pipelines.trusting import Signers
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import environments, explain
from tidewaiter.policy.explain import Difference
from tidewaiter.policy.input import AnalysisInput
from tidewaiter.policy.verdict import Verdict
from tidewaiter.signing.statement import Statement


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """A finished way: everything that was found out and written."""

    build: Build
    facts: ImageFacts
    base: Resting | None
    scan: ScanResult
    verdict: Verdict
    beyond: Difference
    """What production would demand beyond the project's environment; empty for production itself."""
    attached: Stored
    """Signatures and attestations of the image."""
    attested: tuple[str, ...]
    """Predicate types of what was attested."""


def record(workshop: Workshop, facts: ImageFacts, scan: ScanResult, repository: str) -> dict[SbomKind, bytes]:
    """Keep facts, SBOM documents and findings of an image of the store; the documents by their kind."""
    workshop.catalog.record_facts(facts, repository=repository)
    documents = looking.attach_sboms(workshop, facts)
    workshop.catalog.record_scan(ScanRecord(digest=facts.digest, result=scan, scanned_at=clock.now()))
    return documents


def refuse(verdict: Verdict, reference: str) -> DeniedError | UndeterminedError:
    """The error for a verdict that does not allow: "no" and "could not find out" are told apart."""
    rules = ", ".join(item.rule for item in verdict.violations)
    if verdict.undetermined:
        return UndeterminedError(
            f"{reference}: {verdict.environment} could not be decided: {rules}",
            next_step="See what each rule says above; until it can be evaluated, the image stays out.",
            code="undetermined_verdict",
        )
    return DeniedError(
        f"{reference} is denied for {verdict.environment}: {rules}",
        next_step="Change what each rule names above, commit, and run the same command again.",
    )


class Inspected(msgspec.Struct, frozen=True):
    """What is in an image."""

    facts: ImageFacts
    named: NamedImage
    base: Resting | None


class Matched(msgspec.Struct, frozen=True):
    """What the advisories say of an image."""

    scan: ScanResult
    """With what other scanners found."""
    documents: dict[SbomKind, bytes]
    """Its bills of materials."""


class Decided(msgspec.Struct, frozen=True):
    """The answer of the project's environment, whatever it is."""

    decision: Decision
    beyond: Difference


def require(workshop: Workshop, project: Project, signers: Signers) -> None:
    """Make sure that nothing said in settings and keys keeps the project's image from being cleared.

    Raises:
        RefusedError: a key may not sign what this takes, or settings say that the image belongs to a stricter
            environment.
    """
    section = project.file.image
    environments.require(environments.said_by(workshop.settings), section.name, section.environment)
    attesting.require(signers, section.name, section.environment)


def inspected(workshop: Workshop, made: Build) -> Inspected:
    """Step: what is in the image, read from its bytes."""
    named = images.open_stored(workshop, StoredReference(name=made.name, tag=made.tag, digest=made.image.digest))
    return Inspected(looking.inspect(workshop, named), named, resting.under(workshop, named.image))


def matched(
    workshop: Workshop, made: Build, seen: Inspected, *, reports: Sequence[str] = (), vex: Sequence[str] = ()
) -> Matched:
    """Step: the findings of the image, recorded, with its bills of materials; `reports` and `vex` as in `clear`."""
    scan = looking.scan(workshop, seen.facts)
    documents = record(workshop, seen.facts, scan, made.name)
    if reports or vex:
        from tidewaiter.pipelines import scanners

        subject = looking.subject_of(seen.facts)
        scan = scanners.consult(workshop, scan, seen.facts, subject, image=seen.named.image, reports=reports, vex=vex)
    return Matched(scan, documents)


def decided(
    workshop: Workshop, made: Build, seen: Inspected, found: Matched, analysis: AnalysisInput | None = None
) -> Decided:
    """Step: the verdict of the project's environment, recorded; a denial takes back what was cleared before.

    `analysis` is what was found in the sources; None: what the catalog knows of it.
    """
    environment = made.project.file.image.environment
    facts, scan = seen.facts, found.scan
    attached = deciding.attached(workshop, facts, signing=True, building=True)
    analysis = analysis or analysed.known(workshop, facts.digest)
    ask = partial(deciding.question, facts, scan, base=seen.base, attached=attached, analysis=analysis)
    with deciding.engine(workshop.settings) as rules:
        waivers = tuple(workshop.catalog.waivers())
        decide = partial(deciding.verdict, rules, facts, scan, waivers=waivers)
        asked = ask(environment=environment)
        verdict = decide(asked)
        covered = stating.waived(scan, asked, rules.pack, waivers)
        beyond = explain.difference(verdict, decide(ask(environment="production")))
    kept = asking.asked(asked, facts, scan, seen.base)
    for tag in workshop.catalog.record_verdict(msgspec.to_builtins(verdict), kept):
        workshop.store.untag(tag)
    decision = Decision(name=made.name, facts=facts, scan=scan, waived=covered, verdict=verdict)
    return Decided(decision, beyond)


def require_allowed(workshop: Workshop, made: Build, decision: Decision, signers: Signers) -> None:
    """Return when the verdict allows the image; else say why, and let what is attached to it follow.

    Raises:
        DeniedError: policy denies it.
        UndeterminedError: something could not be found out.
    """
    if decision.verdict.allowed:
        return
    for line in explain.lines(decision.verdict):
        workshop.progress.note(line)
    attesting.follow(workshop, decision, lambda: signers)
    raise refuse(decision.verdict, made.reference)


def signed(workshop: Workshop, made: Build, found: Matched, decision: Decision, signers: Signers) -> "Vouched":
    """Step: the image is signed and cleared, with all that is known of it attached; raises as `vouch`."""
    builder, run = signers.builder.trusted.builder, workshop.settings.pipeline_run
    built = [
        *stating.contents(made.name, decision.facts.digest, found.documents),
        stating.built(made, builder=builder, pipeline_run=run),
    ]
    return vouch(workshop, made.tag, made.image, built, decision=decision, signers=signers)


def clear(
    workshop: Workshop,
    project: Project,
    signers: Signers,
    wanted: Options = options.DEFAULT,
    *,
    reports: Sequence[str] = (),
    vex: Sequence[str] = (),
) -> Cleared:
    """Take `project` the whole way, built as `wanted`, for the environment that it names.

    Args:
        workshop: holds catalog and store.
        project: what to build.
        signers: sign what is allowed.
        wanted: how to build it.
        reports: of other scanners, whose findings count too; see `scanners.consult`.
        vex: documents that say which findings do not count.

    Raises:
        DeniedError: policy denies it; the verdict is recorded, nothing is signed or tagged as cleared.
        UndeterminedError: something could not be found out; nothing is cleared either.
        RefusedError: a key may not sign what this takes, or settings say that the image belongs to a stricter
            environment.
        InputError: the project or a lock is wrong.
    """
    note = workshop.progress.note
    require(workshop, project, signers)
    note("1/5 build")
    made = building.build(workshop, project, wanted, builder=signers.builder.trusted.builder)
    note("2/5 inspect")
    seen = inspected(workshop, made)
    note("3/5 match with advisories")
    found = matched(workshop, made, seen, reports=reports, vex=vex)
    note("4/5 decide")
    answer = decided(workshop, made, seen, found)
    require_allowed(workshop, made, answer.decision, signers)
    note("5/5 sign and clear")
    vouched = signed(workshop, made, found, answer.decision, signers)
    return Cleared(
        build=made,
        facts=seen.facts,
        base=seen.base,
        scan=found.scan,
        verdict=answer.decision.verdict,
        beyond=answer.beyond,
        attached=vouched.attached,
        attested=vouched.attested,
    )


class Vouched(msgspec.Struct, frozen=True):
    """What clearing an image attached to it."""

    attached: Stored
    attested: tuple[str, ...]
    """Predicate types."""


def vouch(
    workshop: Workshop,
    tag: str,
    image: Descriptor,
    built: Sequence[Statement],
    *,
    decision: Decision,
    signers: Signers,
    moves: bool = True,
) -> Vouched:
    """Sign the image of the store, attach `built` and the decision, and let the tag be cleared by it.

    The tag comes to mean the image; unless it `moves`, it has to mean it already.

    Raises:
        DeniedError: a later verdict for that environment denies the image.
        RefusedError: a key may not sign this, or the image belongs to a stricter environment.
        UndeterminedError: the verdict is not recorded, or is too old.
    """
    name, environment = decision.name, decision.verdict.environment
    environments.require(environments.said_by(workshop.settings), name, environment)
    attesting.require(signers, name, environment, [one.predicate_type for one in built])
    there = attaching.gather_stored(workshop, image.digest)
    said = [(one, signers.builder) for one in built]
    try:
        said += attesting.decided(workshop, decision, attesting.decider(signers))
    except RefusedError as error:
        workshop.progress.note(f"the verdict is not attested: {error.message}")
    signed = trusting.signatures(name, image.digest, signers.builder, there=there, wanted=trusting.formats(workshop))
    attached = attesting.attest(workshop, image, said, signed=signed, there=there)
    try:
        workshop.catalog.set_tag(name, tag, image.digest, cleared_for=environment, moves=moves)
    except DeniedError:  # somebody decided otherwise meanwhile, perhaps before the verdict was attached here
        attesting.withdraw(workshop, name, image.digest, lambda one: one.environment == environment, lambda: signers)
        raise
    building.list_in_store(workshop, name, tag, image)
    return Vouched(attached, tuple(one.predicate_type for one, _ in said))


def remember(
    workshop: Workshop, named: NamedImage, own: ScanResult, decision: Decision, asked: Asked
) -> dict[SbomKind, bytes]:
    """Record a decision about an image that the catalog knows; one that it does not know leaves no trace.

    A denial takes back the tags that an earlier verdict for the same environment cleared.

    Args:
        workshop: holds catalog and store.
        named: the image.
        own: findings of ours, without those of other scanners.
        decision: the verdict, and what it rests on.
        asked: what is kept of the question (`asking.asked`).

    Returns the SBOM documents that were attached, by their kind.
    """
    if not workshop.keeps:
        return {}
    facts = decision.facts
    try:
        workshop.catalog.image(facts.digest)
    except NotFoundError:
        return {}
    documents = record(workshop, facts, own, named.name)
    for tag in workshop.catalog.record_verdict(msgspec.to_builtins(decision.verdict), asked):
        workshop.store.untag(tag)
    return documents
