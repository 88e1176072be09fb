"""What lies beside an image in a repository behind the gate, and who is found to vouch for the image by it.

1. Bundles that refer to the image, and what cosign's tags of it name, as far as the repository shows them.
2. Keys of the server's home are trusted, as their marks say; a registered builder is the holder of one that is not of
   this machine.
3. The builder of an image is the one whose provenance holds, as step 7 of the chain wants it.
"""

import datetime as dt
from typing import Literal

import msgspec

from tidewaiter.catalog.gate import GateCatalog
from tidewaiter.core import clock, limits
from tidewaiter.core.environments import Environment
from tidewaiter.core.errors import NotVerifiedError, UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.distribution import attached
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.adapt import LOCAL_BUILDER, document
from tidewaiter.policy.input import AttachedInput
from tidewaiter.signing import cosign, keyring, trust, verify
from tidewaiter.signing.gathered import Gathered


class Vouched(msgspec.Struct, frozen=True, kw_only=True):
    """What rules are told."""

    builder: str
    """Of the newest provenance that holds; `local` without any."""
    registered: frozenset[str]
    """Builders that the server knows."""
    attached: AttachedInput


def gather(gate: GateCatalog, store: Layout, repository: str, image: Digest) -> Gathered:
    """Step 1: everything beside the image, believed by nobody yet. Raises `StorageError`."""
    most = limits.GATHERED_REFERRERS + 1
    referring = gate.referrers(repository, image, artifact_type=None, after="", limit=most)
    tagged = {suffix: gate.manifest(repository, attached.tag(image, suffix)) for suffix in attached.UNITED}
    named = {
        suffix: Descriptor(media_type=shown.media_type, digest=shown.digest, size=shown.size)
        for suffix, shown in tagged.items()
        if shown is not None
    }
    referrers = [
        Descriptor(
            media_type=one.media_type,
            digest=one.digest,
            size=one.size,
            artifact_type=one.artifact_type or None,
            annotations=one.annotations or None,
        )
        for one in referring
    ]
    return cosign.gather(store, image, sig=named.get("sig"), att=named.get("att"), referrers=referrers)


def vouched(
    settings: Settings, gathered: Gathered, image: Digest, *, repository: str, environment: Environment
) -> Vouched:
    """Steps 2 and 3. Raises what reading the home's keys raises."""
    ring = keyring.home(settings.home.keys)
    now = clock.now()
    demanded = trust.for_environment(environment, ring)
    built = verify.provenances(gathered, image, demanded, at=now, repository=repository)
    registered = frozenset(key.builder for key in ring if key.revoked_at is None) - {LOCAL_BUILDER}
    newest = max(
        (one for one in built if one.key.builder in registered), key=lambda one: one.signed_at or now, default=None
    )
    signed: list[dt.datetime] = []
    try:
        holds = verify.signature(gathered, image, ring, at=now, repository=repository, environment=environment)
        signed.append(holds.signed_at or now)
    except (NotVerifiedError, UndeterminedError):
        pass  # none, or none that can be told: the rules hear so
    otherwise: Literal["unknown", "absent"] = "unknown" if gathered.unread else "absent"
    return Vouched(
        builder=newest.key.builder if newest else LOCAL_BUILDER,
        registered=registered,
        attached=AttachedInput(
            sbom=document([], now, otherwise="follows"),  # the gate makes both documents itself, from the bytes
            provenance=document([one.signed_at or now for one in built], now, otherwise=otherwise),
            signature=document(signed, now, otherwise=otherwise),
        ),
    )


def behind_gate(workshop: Workshop, repository: str, image: Digest, environment: Environment) -> Vouched | None:
    """As `vouched`, of an image that was pushed to the server's own registry; None of any other."""
    gate = GateCatalog(workshop.catalog.database)
    if gate.any_manifest(repository, image) is None:
        return None
    beside = gather(gate, workshop.store, repository, image)
    return vouched(workshop.settings, beside, image, repository=repository, environment=environment)
