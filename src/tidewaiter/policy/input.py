"""The document that rules read: `input` in Rego, fully described by `schema/policy-input.schema.json`.

Every field is always there, so that a rule never meets an undefined value in a well-formed document. The time is
part of the document: rules have no clock.
"""

import importlib.resources
from typing import Annotated, Literal

import msgspec

from tidewaiter.core.project import Environment
from tidewaiter.inspection.facts import ProgramKind
from tidewaiter.oci.digest import Digest
from tidewaiter.sbom.component import Kind

Severity = Literal["critical", "high", "medium", "low", "none", "unknown"]
# ECMA regular expressions, which JSON schema uses, have no `\\Z`; our own values are parsed digests anyway.
SchemaDigest = Annotated[Digest, msgspec.Meta(pattern="^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What JSON says. Nothing in it leads back to it, so no garbage collector has to follow it."""


class ImageInput(_Value, frozen=True):
    """The image itself: how it is named, how it runs, and who built it."""

    reference: str
    """As the user named it, without the transport."""
    name: str
    """Repository without the registry's host; empty when the image was named by a file."""
    tag: str
    """Empty when it was named without one."""
    pinned: bool
    """True when it was named by digest."""
    digest: SchemaDigest
    user: str
    runs_as_root: bool
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    labels: dict[str, str]
    annotations: dict[str, str]
    created: str
    """RFC 3339, or empty."""
    dirty: bool
    """True when the build's inputs differed from the commit it names."""
    builder: str
    """Who built it, as far as it is proven; `local` for everything that is not."""


class BaseInput(_Value, frozen=True):
    """The base that the image stands on, by its first layers; all empty and false when it stands on no known one."""

    name: str
    digest: Annotated[str, msgspec.Meta(pattern="^(?:|sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$")]
    """Of the manifest of the base alone."""
    approved: bool
    """Somebody approved it, its end is not reached, and it is not retired."""
    expired: bool
    """It was approved until a moment that is past."""
    retired: bool
    outdated: bool
    """A base of the same name and platform was approved later."""
    owner: str
    """Who answers for it."""
    expires_at: str
    """RFC 3339; empty without an end."""
    reason: str
    """Why it was retired."""


NO_BASE = BaseInput(
    name="",
    digest="",
    approved=False,
    expired=False,
    retired=False,
    outdated=False,
    owner="",
    expires_at="",
    reason="",
)


class ProgramInput(_Value, frozen=True):
    """A program in the image that policy cares about."""

    path: str
    kind: ProgramKind


class ExposedInput(_Value, frozen=True):
    """Files of one kind that help an attacker: they give rights away, or hold a secret."""

    kind: Literal["secret", "set_gid", "set_uid", "world_writable"]
    count: Count
    examples: tuple[str, ...]
    """Paths; of a secret also the line and the rule that knew it, never the secret."""


class DocumentInput(_Value, frozen=True):
    """Something that is attached to the image: whether, and since when."""

    state: Literal["absent", "follows", "present", "unknown"]
    """`follows`: whoever asks attaches it right after an allow. `unknown`: nobody looked, or could not."""
    created: str
    """RFC 3339 of the newest; empty when there is none."""
    age_days: Count
    """Whole days from `created` to `now`; 0 when `created` is empty."""

    def without_times(self) -> "DocumentInput":
        """Whether it is there, or will be as soon as the image is allowed."""
        return DocumentInput(state="present" if self.state == "follows" else self.state, created="", age_days=0)


class AttachedInput(_Value, frozen=True):
    """What is attached to the image, as far as the catalog knows it."""

    sbom: DocumentInput
    provenance: DocumentInput
    """A signed statement of how it was built, by a builder whose key is known."""
    signature: DocumentInput


class FrameworkInput(_Value, frozen=True):
    """What the image combines for TensorFlow, and what is known of the combination; all empty without any of it."""

    tensorflow: str
    python: str
    cuda: str
    cudnn: str
    serving: str
    """Version of TensorFlow Serving's model server."""
    least_driver: str
    """Oldest Linux driver that the CUDA runs on; empty without CUDA, or when it is not known."""
    tested: Literal["no", "unknown", "yes"]
    """Whether the TensorFlow project tested the combination."""
    tested_reason: str
    nearest_tested: str
    """The nearest tested combination in words."""
    conflicts: tuple[str, ...]
    """Why TensorFlow cannot use the CUDA or cuDNN that is there."""


class PackagesInput(_Value, frozen=True):
    """Versions of every package by name, so that a rule looks a name up instead of reading the whole list."""

    python: dict[str, tuple[str, ...]]
    """Names normalised as PEP 503 says."""
    deb: dict[str, tuple[str, ...]]
    """Binary packages."""
    licenses: dict[str, tuple[str, ...]]
    """Names of packages of all kinds by licence: an SPDX expression, or the text as found."""


class FindingInput(_Value, frozen=True):
    """One advisory that reaches one package version."""

    advisory: str
    aliases: tuple[str, ...]
    purl: str
    kind: Kind
    name: str
    version: str
    severity: Severity
    fixed_in: tuple[str, ...]
    """Versions that carry the fix; empty when there is none."""
    upgrade_to: str
    """Lowest version that is free of all findings of this package that have a fix; empty when there is none."""
    waived_by: str
    """Id of the waiver that covers it; empty for all that rules have to look at."""
    kev: bool | None
    """Whether CISA's catalogue of exploited vulnerabilities lists it; null when that is not known."""
    epss: Share | None
    """EPSS's probability that it is exploited within 30 days; null when it is not known."""
    epss_percentile: Share | None
    """Share of all CVEs that are no more probable; null when it is not known."""


class SuppressedInput(_Value, frozen=True):
    """A finding that is not among `findings`, since a VEX document that the user named says it does not count."""

    advisory: str
    aliases: tuple[str, ...]
    purl: str
    name: str
    version: str
    severity: Severity
    status: Literal["not_affected", "fixed"]
    justification: str
    """Label of OpenVEX; empty when the statement gives its reason in words only."""
    document: SchemaDigest
    """Of the VEX document."""


class NotCheckedInput(_Value, frozen=True):
    """Packages of one ecosystem that no advisory data covers."""

    ecosystem: str
    reason: str
    count: Count
    examples: tuple[str, ...]


class FeedInput(_Value, frozen=True):
    """Advisory data of one ecosystem that this image's packages were matched with."""

    ecosystem: str
    as_of: str
    """RFC 3339, or empty when it is not known."""
    age_days: Count
    """Whole days from `as_of` to `now`; 0 when `as_of` is empty."""


class AdvisoriesInput(_Value, frozen=True):
    """The advisory data that findings come from."""

    revision: str
    feeds: tuple[FeedInput, ...]


class SettingsInput(_Value, frozen=True):
    """What the server's settings say; never what the image says."""

    registered_builders: tuple[str, ...]


class AnalysedInput(_Value, frozen=True):
    """Findings of one kind and severity in the sources; those that somebody wants left as they are do not count."""

    kind: Literal["lint", "secrets", "confusion", "dependencies"]
    severity: Literal["critical", "high", "medium", "low", "info"]
    count: Count


class AnalysisInput(_Value, frozen=True):
    """What the analysis of the sources found before the image was built; it is known where the image was built."""

    ran: bool
    """False: nobody knows what is in the sources; the rest is empty then."""
    findings: tuple[AnalysedInput, ...]
    not_checked: tuple[str, ...]
    """What could not be looked at, and why; at most twenty of them."""


NOT_ANALYSED = AnalysisInput(ran=False, findings=(), not_checked=())


class PolicyInput(_Value, frozen=True):
    """The whole of `input`."""

    now: str
    """RFC 3339, UTC."""
    environment: Environment
    image: ImageInput
    base: BaseInput
    programs: tuple[ProgramInput, ...]
    exposed: tuple[ExposedInput, ...]
    attached: AttachedInput
    framework: FrameworkInput
    packages: PackagesInput
    findings: tuple[FindingInput, ...]
    not_checked: tuple[NotCheckedInput, ...]
    advisories: AdvisoriesInput
    settings: SettingsInput
    suppressed: tuple[SuppressedInput, ...] = ()
    analysis: AnalysisInput = NOT_ANALYSED

    def without_times(self) -> "PolicyInput":
        """The same document with everything blanked that only the passing of time changes.

        What follows an allow is there a moment later, so it is told as present. Only fields of `TIMED` change.
        """
        feeds = tuple(msgspec.structs.replace(feed, age_days=0) for feed in self.advisories.feeds)
        attached = AttachedInput(
            **{name: getattr(self.attached, name).without_times() for name in AttachedInput.__struct_fields__}
        )
        advisories = msgspec.structs.replace(self.advisories, feeds=feeds)
        return msgspec.structs.replace(self, now="", attached=attached, advisories=advisories)


TIMED = frozenset({"now", "attached", "advisories"})
"""Fields of the input in which `without_times` blanks something."""


def json_schema() -> dict[str, object]:
    """JSON schema (draft 2020-12) of `PolicyInput`, every object closed; the shipped file holds exactly this."""
    schema = msgspec.json.schema(PolicyInput)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policy input",
        **schema,
    }


def shipped_schema() -> bytes:
    """The schema file that packs are checked against."""
    return (importlib.resources.files(__package__) / "schema" / "policy-input.schema.json").read_bytes()
