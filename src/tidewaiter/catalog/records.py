"""What steps of the pipeline hand to the catalog, beside the values of lower rooms. Times are UTC, sizes bytes."""

import datetime as dt
from typing import Literal

import msgspec

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.advisories.severity import Level
from tidewaiter.oci.digest import Digest

SEVERITIES: tuple[Level, ...] = ("critical", "high", "medium", "low", "unknown", "none")
"""Worst first; an unknown severity may be anything, so it stands before none."""

Visibility = Literal["built", "pulled", "cleared"]
"""What a tag says of its image: built here, fetched from elsewhere, or cleared by a verdict."""
SbomKind = Literal["cyclonedx", "spdx"]
LayerKind = Literal["base", "python", "app", "model", ""]
"""Empty when the image was inspected but not built here."""


class BuiltLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of a build, base first: what it is and what is in it, for example `numpy 2.1.0`."""

    digest: Digest
    diff_id: Digest
    size: int
    kind: LayerKind
    unpacked_size: int = 0
    title: str = ""
    contents: tuple[str, ...] = ()


class Material(msgspec.Struct, frozen=True):
    """One input of a build: what it is called, and its digest."""

    name: str
    digest: str


class CiRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a CI said of the job that built an image: a claim of whoever wrote the job. Empty where it said nothing."""

    system: str = ""
    """`gitlab`, `github` or `jenkins`."""
    branch: str = ""
    """Where the change comes from: of a merge request its source branch."""
    tag: str = ""
    author: str = ""
    """Of the commit: name without mail address."""
    started_by: str = ""
    """Login of whoever started the run."""
    pipeline_url: str = ""
    job_url: str = ""
    project_url: str = ""
    change: str = ""
    """Number of the merge or pull request."""
    change_url: str = ""
    target: str = ""
    """Branch that the merge or pull request goes to."""
    runner: str = ""


class BuildRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One finished build of an image, and everything that its bytes depend on."""

    repository: str
    digest: Digest
    media_type: str
    layers: tuple[BuiltLayer, ...]
    environment: str
    """Policy environment that the project asks for."""
    purpose: str
    source: str
    """URL of the source repository, else the name of the project's folder."""
    commit: str
    """Full hex of the Git commit."""
    committed: dt.datetime | None = None
    """When the commit was made, as it says itself; None when that is not known."""
    dirty: bool
    builder: str
    """Who built it; `local` on a developer's machine."""
    started: dt.datetime
    finished: dt.datetime
    seconds: float
    created: dt.datetime | None = None
    """`created` of the image config."""
    branch: str = ""
    pipeline_run: str = ""
    ci: CiRun | None = None
    """None outside of CI."""
    base_name: str = ""
    base_lock: Digest | None = None
    base_digest: Digest | None = None
    """Manifest of the base alone."""
    base_layers: int = 0
    """How many of `layers`, the first ones, are those of the base."""
    python_lock: Digest | None = None
    materials: tuple[Material, ...] = ()
    reused_layers: int = 0
    built_layers: int = 0


class PullRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An image that was fetched from elsewhere and put into the store under a name."""

    repository: str
    tag: str
    digest: Digest
    media_type: str
    layers: tuple[BuiltLayer, ...]
    source: str
    """Reference that it was fetched by."""
    created: dt.datetime | None = None
    """`created` of the image config."""


class ScanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the matcher said of an image's components, and when."""

    digest: Digest
    """Image; its facts must be recorded before."""
    result: ScanResult
    scanned_at: dt.datetime


class RuleResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One violation or warning of a verdict."""

    rule: str = ""
    severity: str = ""
    message: str = ""
    evidence: object = None
    remedy: str = ""


class WaivedResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A violation that a waiver covers."""

    waiver: str = ""
    owner: str = ""
    reviewer: str = ""
    reason: str = ""
    expires_at: str = ""
    violation: RuleResult = RuleResult()


class RefusedWaiverResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A waiver that did not count, and why."""

    waiver: str = ""
    subject: str = ""
    message: str = ""


class Gap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Packages of one ecosystem that the verdict's scan could not check; `examples` are some of `count`."""

    ecosystem: str = ""
    reason: str = ""
    count: int = 0
    examples: tuple[str, ...] = ()


class VerdictDocument(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored verdict as a reader sees it.

    `policy.verdict.Verdict` makes them; this reads those of every version, so it asks only for what all have.
    """

    id: str
    artifact: str
    environment: str
    verdict: Literal["allow", "deny"]
    policy_revision: str
    advisories_revision: str
    decided_at: dt.datetime
    valid_until: dt.datetime
    evidence: dict[str, str] = {}
    violations: tuple[RuleResult, ...] = ()
    waived: tuple[WaivedResult, ...] = ()
    refused_waivers: tuple[RefusedWaiverResult, ...] = ()
    warnings: tuple[RuleResult, ...] = ()
    not_checked: tuple[Gap, ...] = ()


class SignatureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A signature that was made, or verified, for an image."""

    digest: Digest
    key_fingerprint: str
    builder: str
    """Mark of the key: `local`, or the builder that holds it."""
    manifest_digest: Digest
    """Manifest that carries the signature."""
    created: dt.datetime
    format: str = ""
    """`tag` (cosign's `.sig`) or `bundle`."""


class AttachmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An SBOM document that lies as a blob in the store."""

    digest: Digest
    """Image that it describes."""
    kind: SbomKind
    media_type: str
    blob_digest: Digest
    size: int
    created: dt.datetime


class AttestationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Something that lies in the store because it is attached to an image."""

    digest: Digest
    """The image."""
    format: Literal["tag", "bundle", "artifact"]
    """`artifact`: it refers to the image, or to what does, and vouches for nothing that is known here."""
    predicate_type: str
    """Of a signature `signing.predicates.SIGNATURE`; of an artifact its type. A claim of whoever made it."""
    manifest_digest: Digest
    """The manifest that holds it; in the format `tag` it may hold others, too."""
    blob_digest: Digest
    """The envelope, bundle or artifact; for a signature in the format `tag` SHA-256 of the signature itself."""
    size: int
    key_fingerprint: str = ""
    """Of the key that signed it here; empty when it came from elsewhere and was believed by nobody."""
    builder: str = ""
    created: dt.datetime
