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


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


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


class ProgramInput(_Value, frozen=True):
    """A program in the image that policy cares about."""

    path: str
    kind: ProgramKind


class PackagesInput(_Value, frozen=True):
    """Versions of every package by name, so that a rule looks a name up instead of reading the whole list."""

    python: dict[str, tuple[str, ...]]
    """Names normalised as PEP 503 says."""
    deb: dict[str, tuple[str, ...]]
    """Binary packages."""


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


class PolicyInput(_Value, frozen=True):
    """The whole of `input`."""

    now: str
    """RFC 3339, UTC."""
    environment: Environment
    image: ImageInput
    programs: tuple[ProgramInput, ...]
    packages: PackagesInput
    findings: tuple[FindingInput, ...]
    not_checked: tuple[NotCheckedInput, ...]
    advisories: AdvisoriesInput
    settings: SettingsInput

    def without_times(self) -> "PolicyInput":
        """The same document with everything blanked that only the passing of time changes."""
        feeds = tuple(msgspec.structs.replace(feed, age_days=0) for feed in self.advisories.feeds)
        return msgspec.structs.replace(self, now="", advisories=msgspec.structs.replace(self.advisories, feeds=feeds))


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
