"""Step: facts and findings to a verdict."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.core import clock
from tidewaiter.core.errors import NotFoundError
from tidewaiter.core.project import Environment
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import Reference
from tidewaiter.pipelines.resting import Resting
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import layers, opa
from tidewaiter.policy.adapt import LOCAL_BUILDER, NOTHING_KNOWN, build_input, document
from tidewaiter.policy.engine import EmbeddedEngine, Engine, PooledEngine
from tidewaiter.policy.input import NO_BASE, AttachedInput, BaseInput, PolicyInput
from tidewaiter.policy.opa import OpaEngine
from tidewaiter.policy.verdict import Verdict, decide
from tidewaiter.policy.waivers import Waiver


@contextmanager
def engine(settings: Settings, packs: Sequence[Path] | None = None) -> Iterator[PooledEngine]:
    """The engine that the settings name, with the pack that ships and those of the settings (or `packs`) on top.

    Raises:
        InputError: a pack is malformed, or would loosen what lies below it.
        UndeterminedError: the engine does not start.
    """
    pack = layers.effective(settings.policy if packs is None else packs)
    foreign = settings.policy_engine == "opa"
    with OpaEngine(pack, opa.find(settings.opa)) if foreign else EmbeddedEngine(pack) as opened:
        yield opened


def attached(workshop: Workshop, facts: ImageFacts, *, signing: bool) -> AttachedInput:
    """What the catalog knows to be attached to an image, and what follows an allow.

    Args:
        workshop: holds the catalog.
        facts: of the image.
        signing: whether the caller signs the image when it is allowed.
    """
    try:
        known = workshop.catalog.image(facts.digest)
    except NotFoundError:
        return NOTHING_KNOWN
    now = clock.now()
    provenance = [item.created for item in known.attachments if item.kind == "provenance"]
    signatures = [] if signing else [item.created for item in known.signatures]
    return AttachedInput(
        # Whoever records a verdict about a known image attaches both documents of its packages.
        sbom=document([], now, otherwise="follows" if workshop.keeps else "unknown"),
        provenance=document(provenance, now, otherwise="absent"),
        signature=document(signatures, now, otherwise="follows" if signing else "absent"),
    )


def _base(found: Resting | None) -> BaseInput:
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
) -> PolicyInput:
    """What rules are asked about an image that stands on `base`. Without a server every image counts as built locally.

    `named` is how the user named it, where that is a file: the facts have names without their transport.
    """
    return build_input(
        facts,
        scan,
        reference=named or references.parse(facts.reference),
        environment=environment,
        now=clock.now(),
        base=_base(base),
        attached=attached,
        builder=LOCAL_BUILDER,
    )


def verdict(
    rules: Engine, facts: ImageFacts, scan: ScanResult, asked: PolicyInput, *, waivers: Iterable[Waiver]
) -> Verdict:
    """The answer to `asked` about the image with these facts; `waivers` are all that are known.

    What cannot be evaluated counts against the image.
    """
    evidence = {
        "facts": digests.of(msgspec.json.encode(facts, order="sorted")),
        "findings": digests.of(msgspec.json.encode((scan.findings, scan.suppressed, scan.not_checked), order="sorted")),
        "components": facts.component_set,
    }
    return decide(asked, rules, evidence=evidence, waivers=waivers)
