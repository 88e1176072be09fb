"""The gate's first answer takes no longer than the others: all that the catalog is asked and told was said once before.

An image that there is not is pushed, denied and allowed. None of it is kept but what rules answer, which is true.
"""

import datetime as dt

import msgspec

from tidewaiter.advisories.finding import Finding, ScanResult
from tidewaiter.catalog import judged as recording
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.gate import GateCatalog, Put
from tidewaiter.catalog.judged import Judged
from tidewaiter.catalog.records import AttachmentRecord, ScanRecord
from tidewaiter.catalog.rehearsal import rehearsal
from tidewaiter.core import clock
from tidewaiter.core.environments import Environment
from tidewaiter.inspection.facts import ImageFacts, LayerSummary
from tidewaiter.oci import digest as digests
from tidewaiter.oci.manifest import MANIFEST
from tidewaiter.pipelines import asking, deciding, looking
from tidewaiter.pipelines import vouched as vouching
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.adapt import NOTHING_KNOWN
from tidewaiter.policy.engine import Engine
from tidewaiter.sbom.component import Component

_REPOSITORY, _TAG, _ACTOR = "tidewaiter/rehearsal", "rehearsal", "gate"
_ENVIRONMENT: Environment = "research"
_DIGEST = digests.of(b"the image of a rehearsal")
# Two of each: several rows are another statement than one.
_BLOBS = (_DIGEST, digests.of(b"another layer of it"))
_COMPONENTS = tuple(
    Component(
        kind="python",
        name=f"rehearsal-{number}",
        version="1",
        purl=f"pkg:pypi/rehearsal-{number}@1",
        ecosystem="PyPI",
        licenses=("MIT",),
        location=f"rehearsal-{number}.dist-info/METADATA",
        layer=_DIGEST,
    )
    for number in range(2)
)
_FACTS = ImageFacts(
    reference=f"{_REPOSITORY}:{_TAG}",
    digest=_DIGEST,
    os="linux",
    architecture="amd64",
    user="1000",
    runs_as_root=False,
    entrypoint=(),
    cmd=(),
    env={},
    labels={},
    annotations={},
    exposed_ports=(),
    working_dir="",
    created="2026-01-01T00:00:00Z",
    operating_system=None,
    components=_COMPONENTS,
    programs=(),
    layers=tuple(LayerSummary(digest=one, diff_id=one, size=1, unpacked_size=1, files=1) for one in _BLOBS),
    size=2,
    unpacked_size=2,
)
_SCAN = ScanResult(
    findings=tuple(
        Finding(
            advisory=f"REHEARSAL-{one.name}",
            aliases=("REHEARSAL",),
            component_purl=one.purl,
            name=one.name,
            version=one.version,
            kind=one.kind,
            ecosystem=one.ecosystem,
            severity="low",
            score=None,
            vector="",
            fixed_in=("2",),
            found_as=one.name,
            published="",
            modified="",
        )
        for one in _COMPONENTS
    ),
    not_checked=(),
    coverage=(),
    revision=_DIGEST,
    oldest_as_of="",
)
_PUT = Put(
    repository=_REPOSITORY,
    digest=_DIGEST,
    media_type=MANIFEST,
    size=1,
    artifact_type="",
    annotations={},
    subject=None,
    blobs=_BLOBS,
    manifests=(),
    members=_BLOBS,
    tags=(_TAG,),
    pushed_by=_ACTOR,
)


def rehearse(workshop: Workshop, rules: Engine) -> None:
    """Say all of it, to both answers. Raises `StorageError`."""
    asked = deciding.question(_FACTS, _SCAN, base=None, environment=_ENVIRONMENT, attached=NOTHING_KNOWN)
    verdict = deciding.verdict(rules, _FACTS, _SCAN, asked, waivers=())
    kept = asking.asked(asked, _FACTS, _SCAN, None)
    at = clock.now()
    documents = tuple(
        AttachmentRecord(
            digest=_DIGEST,
            kind=kind,
            media_type=media_type,
            blob_digest=_DIGEST,
            size=len(looking.sbom(_FACTS, kind)),
            created=at,
        )
        for kind, media_type in looking.MEDIA_TYPES.items()
    )
    with rehearsal(workshop.catalog.database) as stage:
        gate = GateCatalog(stage)
        for one in _BLOBS:
            gate.add_blob(_REPOSITORY, one, 1)
        Catalog(stage).waivers()
        for allowed, when in ((False, at), (True, at + dt.timedelta(seconds=1))):
            gate.put(_PUT)
            vouching.gather(gate, workshop.store, _REPOSITORY, _DIGEST)
            said = msgspec.structs.replace(
                verdict,
                id=digests.of(str(allowed).encode()),
                verdict="allow" if allowed else "deny",
                decided_at=clock.rfc3339(when),
            )
            scan = ScanRecord(digest=_DIGEST, result=_SCAN, scanned_at=when)
            recording.record(
                stage,
                Judged(
                    repository=_REPOSITORY,
                    facts=_FACTS,
                    documents=documents,
                    scan=scan,
                    verdict=msgspec.to_builtins(said),
                    asked=kept,
                ),
            )
            gate.decided(
                _REPOSITORY,
                _DIGEST,
                allowed=allowed,
                environment=_ENVIRONMENT,
                answer="",
                by_verdict=True,
                actor=_ACTOR,
            )
