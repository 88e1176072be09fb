"""The whole way: commit, locks, build, inspect, match, decide, sign, clear. Any failure stops it.

Nothing is tagged as cleared before the verdict of the project's environment allows it and the signature stands.
"""

from functools import partial

import msgspec

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.assembly import options
from tidewaiter.assembly.build import Build
from tidewaiter.assembly.options import Options
from tidewaiter.catalog.records import ScanRecord
from tidewaiter.core import clock
from tidewaiter.core.errors import DeniedError, NotFoundError, UndeterminedError
from tidewaiter.core.project import Project
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines import building, deciding, images, looking, resting, trusting
from tidewaiter.pipelines.images import NamedImage, StoredReference
from tidewaiter.pipelines.resting import Resting
from tidewaiter.pipelines.trusting import SigningKey
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import explain
from tidewaiter.policy.explain import Difference
from tidewaiter.policy.verdict import Verdict


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """A finished way: everything that was found out and written."""

    build: Build
    facts: ImageFacts
    base: Resting | None
    scan: ScanResult
    verdict: Verdict
    beyond: Difference
    """What production would demand beyond the project's environment; empty for production itself."""
    signature: Descriptor


def record(workshop: Workshop, facts: ImageFacts, scan: ScanResult, repository: str) -> None:
    """Keep facts, SBOM documents and findings of an image of the store."""
    workshop.catalog.record_facts(facts, repository=repository)
    looking.attach_sboms(workshop, facts)
    workshop.catalog.record_scan(ScanRecord(digest=facts.digest, result=scan, scanned_at=clock.now()))


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


def clear(workshop: Workshop, project: Project, signer: SigningKey, wanted: Options = options.DEFAULT) -> Cleared:
    """Take `project` the whole way, built as `wanted`, for the environment that it names.

    Raises:
        DeniedError: policy denies it; the verdict is recorded, nothing is signed or tagged as cleared.
        UndeterminedError: something could not be found out; nothing is cleared either.
        InputError: the project or a lock is wrong.
    """
    note = workshop.progress.note
    note("1/5 build")
    made = building.build(workshop, project, wanted)
    named = images.open_stored(workshop, StoredReference(name=made.name, tag=made.tag, digest=made.image.digest))
    note("2/5 inspect")
    facts = looking.inspect(workshop, named)
    base = resting.under(workshop, named.image)
    note("3/5 match with advisories")
    scan = looking.scan(workshop, facts)
    record(workshop, facts, scan, made.name)
    note("4/5 decide")
    attached = deciding.attached(workshop, facts, signing=True)
    ask = partial(deciding.question, facts, scan, base=base, attached=attached)
    with deciding.engine(workshop.settings) as rules:
        decide = partial(deciding.verdict, rules, facts, scan, waivers=workshop.catalog.waivers())
        verdict = decide(ask(environment=project.file.image.environment))
        beyond = explain.difference(verdict, decide(ask(environment="production")))
    for tag in workshop.catalog.record_verdict(msgspec.to_builtins(verdict)):
        workshop.store.untag(tag)
    if not verdict.allowed:
        for line in explain.lines(verdict):
            note(line)
        raise refuse(verdict, made.reference)
    note("5/5 sign and clear")
    signature = vouch(workshop, made.name, made.tag, made.image, verdict=verdict, signer=signer)
    return Cleared(build=made, facts=facts, base=base, scan=scan, verdict=verdict, beyond=beyond, signature=signature)


def vouch(
    workshop: Workshop, name: str, tag: str, image: Descriptor, *, verdict: Verdict, signer: SigningKey
) -> Descriptor:
    """Sign the image of the store and let its tag be cleared by `verdict`; the signature manifest's descriptor.

    Raises:
        DeniedError: a later verdict for that environment denies the image.
        UndeterminedError: the verdict is not recorded, or is too old.
    """
    signature = trusting.sign(workshop, name, image.digest, signer)
    workshop.catalog.set_tag(name, tag, image.digest, cleared_for=verdict.environment)
    building.list_in_store(workshop, name, tag, image)
    return signature


def remember(workshop: Workshop, named: NamedImage, facts: ImageFacts, scan: ScanResult, verdict: Verdict) -> None:
    """Record a decision about an image that the catalog knows; one that it does not know leaves no trace.

    A denial takes back the tags that an earlier verdict for the same environment cleared.
    """
    if not workshop.keeps:
        return
    try:
        workshop.catalog.image(facts.digest)
    except NotFoundError:
        return
    record(workshop, facts, scan, named.name)
    for tag in workshop.catalog.record_verdict(msgspec.to_builtins(verdict)):
        workshop.store.untag(tag)
