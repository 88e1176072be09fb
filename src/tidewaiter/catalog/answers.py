"""What the catalog answers: values for pages, for JSON and for the pipeline. Times are UTC, sizes bytes."""

import datetime as dt
from typing import Literal

import msgspec

from tidewaiter.advisories.finding import NotChecked
from tidewaiter.advisories.severity import Level
from tidewaiter.catalog.records import CiRun, LayerKind, Material, VerdictDocument, Visibility

BaseState = Literal["approved", "expired", "retired", "known"]
"""Of a base: `expired` was approved until a day that is past, `known` was neither approved nor retired."""


class TagAnswer(msgspec.Struct, frozen=True):
    """What a tag says, since when; `cleared` tags have an allow verdict behind them."""

    name: str
    visibility: Visibility
    set_at: dt.datetime


class SyncedTag(msgspec.Struct, frozen=True):
    """A tag of the registry, layout or archive in which an image lies, and since when it is seen to mean that image.

    It says nothing else of the image, and is no tag of the store.
    """

    name: str
    set_at: dt.datetime
    visibility: Literal["synced"] = "synced"


class VerdictSummary(msgspec.Struct, frozen=True):
    """The newest verdict of an image in one environment; a deny stands also after `valid_until`."""

    environment: str
    verdict: str
    decided_at: dt.datetime
    valid_until: dt.datetime


class ScanSummary(msgspec.Struct, frozen=True):
    """How an image's newest scan came out."""

    revision: str
    as_of: dt.datetime | None
    scanned_at: dt.datetime
    counts: dict[Level, int]
    """Findings by severity, worst first, without zeros."""
    not_checked: int


class ImageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One image in one repository, as a list shows it."""

    name: str
    digest: str
    tags: tuple[TagAnswer, ...]
    size: int
    """Compressed bytes of all layers."""
    signed_by: tuple[str, ...]
    """Builder marks of the keys that signed it."""
    environment: str = ""
    """The environment that its project asks for, else that of its newest verdict."""
    verdict: VerdictSummary | None = None
    """None when it was never decided in that environment."""
    scan: ScanSummary | None = None
    built: dt.datetime | None = None
    commit: str = ""
    dirty: bool = False
    synced: tuple[SyncedTag, ...] = ()
    """Tags where it lies, when `name` is such a place: HOST/REPO, oci:PATH, oci-archive:FILE or docker-archive:FILE."""


class ImageList(msgspec.Struct, frozen=True):
    """One page of images, most recently changed first."""

    items: tuple[ImageSummary, ...]
    total: int
    """Images that match, on all pages."""
    page: int
    pages: int


class LayerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of an image, base first."""

    digest: str
    diff_id: str
    size: int
    unpacked_size: int
    files: int
    kind: LayerKind
    title: str
    contents: tuple[str, ...]
    images: int
    """Images that share it, this one included."""


class ComponentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A package of an image."""

    purl: str
    kind: str
    ecosystem: str
    name: str
    version: str
    licenses: tuple[str, ...]
    location: str
    layer: str
    """Diff ID of the layer that holds it; empty when none is known."""
    findings: int


class FindingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A package of an image that an advisory touches."""

    advisory: str
    aliases: tuple[str, ...]
    purl: str
    name: str
    version: str
    severity: Level
    score: float | None
    vector: str
    fixed_in: tuple[str, ...]
    found_as: str
    published: dt.datetime | None
    modified: dt.datetime | None


class BuildAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How an image was made."""

    source: str
    commit: str
    dirty: bool
    branch: str
    pipeline_run: str
    ci: CiRun | None
    """None outside of CI, or when nothing of it was kept."""
    builder: str
    environment: str
    purpose: str
    base_name: str
    base_lock: str
    python_lock: str
    materials: tuple[Material, ...]
    reused_layers: int
    built_layers: int
    started: dt.datetime
    finished: dt.datetime
    seconds: float


class SignatureAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A signature of an image."""

    key_fingerprint: str
    builder: str
    format: str
    manifest_digest: str
    created: dt.datetime


class AttestationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An attestation of an image, in one format."""

    predicate_type: str
    format: str
    manifest_digest: str
    blob_digest: str
    size: int
    key_fingerprint: str
    """Empty when it came from elsewhere, and nobody has verified it."""
    builder: str
    created: dt.datetime


class AttachmentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An SBOM document of an image; its bytes are the blob in the store."""

    kind: str
    media_type: str
    blob_digest: str
    size: int
    created: dt.datetime


class ConfigAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of an image that are neither layers nor packages; empty when it was not inspected."""

    os: str = ""
    architecture: str = ""
    user: str = ""
    runs_as_root: bool | None = None
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    exposed_ports: tuple[str, ...] = ()
    working_dir: str = ""
    operating_system: str = ""
    programs: tuple[str, ...] = ()
    unpacked_size: int = 0


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of one image."""

    summary: ImageSummary
    media_type: str
    created: dt.datetime | None
    inspected: bool
    config: ConfigAnswer
    verdicts: tuple[VerdictDocument, ...]
    """The newest of each environment, that of the project first."""
    findings: tuple[FindingAnswer, ...]
    """Worst first."""
    not_checked: tuple[NotChecked, ...]
    components: tuple[ComponentAnswer, ...]
    layers: tuple[LayerAnswer, ...]
    builds: tuple[BuildAnswer, ...]
    """Newest first, at most 20."""
    signatures: tuple[SignatureAnswer, ...]
    attachments: tuple[AttachmentAnswer, ...]
    attestations: tuple[AttestationAnswer, ...]
    """Newest first, without signatures."""


class BaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A base that is known: built here, or approved or retired by digest."""

    name: str
    digest: str
    """Of the manifest of the base alone."""
    state: BaseState
    owner: str = ""
    approved_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    retired_at: dt.datetime | None = None
    reason: str = ""
    """Why it was retired."""
    images: int = 0
    """Images of the catalog that rest on it."""


class BaseUse(msgspec.Struct, frozen=True, kw_only=True):
    """An image in a repository whose first layers are those of a base."""

    name: str
    digest: str
    tags: tuple[str, ...]
    base: str
    """Digest of the base."""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """An image that contains a component, or a component that an advisory touches."""

    name: str
    digest: str
    tags: tuple[str, ...]
    purl: str
    advisory: str = ""
    severity: str = ""
    fixed_in: tuple[str, ...] = ()


class AdvisoryAge(msgspec.Struct, frozen=True):
    """Which advisories the newest scan used; `as_of` None when their age is not known."""

    revision: str
    as_of: dt.datetime | None
    scanned_at: dt.datetime
