"""Step: facts and findings to a verdict."""

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path

import msgspec

from tidewaiter import __version__
from tidewaiter.advisories.finding import ScanResult
from tidewaiter.catalog.decisions import Decisions
from tidewaiter.catalog.questions import Attached
from tidewaiter.core import clock
from tidewaiter.core.errors import NotFoundError
from tidewaiter.core.project import Environment
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import Reference
from tidewaiter.pipelines.resting import Resting
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import layers, opa, signatures
from tidewaiter.policy.adapt import LOCAL_BUILDER, NOTHING_KNOWN, build_input, document
from tidewaiter.policy.classes import ClassEngine
from tidewaiter.policy.engine import EmbeddedEngine, Engine, PooledEngine, WaitingEngine
from tidewaiter.policy.input import (
    NO_BASE,
    NOT_ANALYSED,
    AnalysisInput,
    AttachedInput,
    BaseInput,
    PolicyInput,
    shipped_schema,
)
from tidewaiter.policy.opa import OpaEngine
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.verdict import Verdict, decide
from tidewaiter.policy.waivers import Waiver
from tidewaiter.signing import keyring, predicates


def policy_of(settings: Settings) -> Pack:
    """The pack that ships with those of the settings on top, each signed where keys for that are set.

    Raises:
        InputError: a pack is malformed, or would loosen what lies below it.
        NotVerifiedError: a pack is not signed by a trusted key.
    """
    return layers.effective(settings.policy, signatures.trust(settings.policy_keys))


@contextmanager
def engine(settings: Settings, packs: Sequence[Path] | None = None, *, at_once: bool = False) -> Iterator[ClassEngine]:
    """The engine that the settings name, with the pack that ships and those of the settings (or `packs`) on top.

    It is started for what the catalog of the home does not know (else `at_once`), which learns the answers when the
    block ends. The pack is checked when it is started; then evaluating raises `InputError`, or `UndeterminedError`
    when it does not start.

    Raises:
        InputError: a pack is malformed, or would loosen what lies below it.
        NotVerifiedError: a pack of the settings is not signed by a trusted key, or one of `packs` wrongly.
        MissingToolError: there is no OPA.
    """
    if packs is None:
        pack = policy_of(settings)
    else:
        pack = layers.effective(packs, signatures.trust(settings.policy_keys, required=False))
    start: Callable[[], PooledEngine]
    if settings.policy_engine == "opa":
        program = opa.find(settings.opa)
        start, name = partial(OpaEngine, pack, program), opa.name(program)
    else:
        start, name = partial(EmbeddedEngine, pack), f"embedded {metadata.version('gordon-to-regorus')}"
    # The same Rego may mean something else to another release, or where the input has other fields.
    name = f"tidewaiter {__version__}, {digests.of(shipped_schema())}, {name}"
    with (
        WaitingEngine(pack, start) as waiting,
        Decisions(settings.catalog) as decisions,
        ClassEngine(waiting, decisions, name=name) as opened,
    ):
        if at_once:
            waiting.start()
        yield opened


def attached(workshop: Workshop, facts: ImageFacts, *, signing: bool, building: bool = False) -> AttachedInput:
    """What the catalog knows to be attached to an image, and what follows an allow.

    Only what was signed here, by a key that was not revoked since, is known to be so.

    Args:
        workshop: holds the catalog.
        facts: of the image.
        signing: whether the caller signs the image and what is in it when it is allowed.
        building: whether the caller attests how it was built, too.
    """
    try:
        known = workshop.catalog.image(facts.digest)
    except NotFoundError:
        return NOTHING_KNOWN
    said = Attached(
        [(one.predicate_type, one.key_fingerprint, one.created) for one in known.attestations],
        [(one.key_fingerprint, one.created) for one in known.signatures],
    )
    return attached_by(workshop, said, revoked(workshop), clock.now(), signing=signing, building=building)


def revoked(workshop: Workshop) -> frozenset[str]:
    """Fingerprints of keys whose signatures do not count; also that of what nobody here signed."""
    ring = keyring.home(workshop.settings.home.keys)
    return frozenset({key.public.fingerprint for key in ring if key.revoked_at is not None} | {""})


def attached_by(
    workshop: Workshop,
    known: Attached,
    revoked: Collection[str],
    now: dt.datetime,
    *,
    signing: bool = False,
    building: bool = False,
) -> AttachedInput:
    """As `attached`, of what is known already."""
    attested = [(kind, created) for kind, key, created in known.attestations if key not in revoked]
    sboms = [created for kind, created in attested if kind in {predicates.SPDX, predicates.CYCLONEDX}]
    provenance = [created for kind, created in attested if kind == predicates.PROVENANCE]
    signatures = [created for key, created in known.signatures if key not in revoked]
    return AttachedInput(
        # Whoever records a verdict about a known image attaches both documents of its packages.
        sbom=document([] if signing else sboms, now, otherwise="follows" if workshop.keeps else "unknown"),
        provenance=document([] if building else provenance, now, otherwise="follows" if building else "absent"),
        signature=document([] if signing else signatures, now, otherwise="follows" if signing else "absent"),
    )


def base_input(found: Resting | None) -> BaseInput:
    """What rules are told of the base."""
    if found is None or not found.layers:
        return NO_BASE
    return BaseInput(
        name=found.name,
        digest=found.digest,
        approved=found.state == "approved",
        expired=found.state == "expired",
        retired=found.state == "retired",
        outdated=bool(found.newer),
        owner=found.owner,
        expires_at=found.expires_at,
        reason=found.reason,
    )


def question(
    facts: ImageFacts,
    scan: ScanResult,
    *,
    base: Resting | None,
    environment: Environment,
    attached: AttachedInput,
    named: Reference | None = None,
    builder: str = LOCAL_BUILDER,
    registered_builders: Iterable[str] = (),
    analysis: AnalysisInput = NOT_ANALYSED,
) -> PolicyInput:
    """What rules are asked about an image that stands on `base`. Without a server every image counts as built locally.

    `named` is how the user named it, where that is a file: the facts have names without their transport. A server says
    the `builder` whose provenance it verified, and which ones it knows. `analysis` is what was found in its sources.
    """
    return build_input(
        facts,
        scan,
        reference=named or references.parse(facts.reference),
        environment=environment,
        now=clock.now(),
        base=base_input(base),
        attached=attached,
        builder=builder,
        registered_builders=registered_builders,
        analysis=analysis,
    )


def findings_digest(scan: ScanResult) -> Digest:
    """Names what a scan found, and what it could not judge."""
    return digests.of(msgspec.json.encode((scan.findings, scan.suppressed, scan.not_checked), order="sorted"))


def verdict(
    rules: Engine, facts: ImageFacts, scan: ScanResult, asked: PolicyInput, *, waivers: Iterable[Waiver]
) -> Verdict:
    """The answer to `asked` about the image with these facts; `waivers` are all that are known.

    What cannot be evaluated counts against the image.
    """
    evidence = {
        "facts": digests.of(msgspec.json.encode(facts, order="sorted")),
        "findings": findings_digest(scan),
        "components": facts.component_set,
    }
    return decide(asked, rules, evidence=evidence, waivers=waivers)
