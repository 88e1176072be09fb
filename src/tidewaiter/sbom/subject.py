"""What an SBOM is about: an image, as far as a document says something about it."""

import re
import uuid

import msgspec
from packageurl import PackageURL

from tidewaiter.core.clock import parse_rfc3339, rfc3339

_FRACTION = re.compile(r"\.\d+(?=Z|[+-]\d\d:\d\d$)")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)")
EPOCH = "1970-01-01T00:00:00Z"


class SubjectLayer(msgspec.Struct, frozen=True):
    """A layer of the image: digest of its blob, and of what is in it."""

    digest: str
    diff_id: str


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One image. Everything in a document follows from it and from the components: no clock, no random number."""

    name: str
    """How the user named it, without transport."""
    digest: str
    """`sha256:…` of the manifest."""
    created: str = ""
    """RFC 3339, from the image config; empty or malformed counts as 1970."""
    os: str = "linux"
    architecture: str = ""
    distribution: str = ""
    """`ID` of os-release, for example `debian`; empty when the image has none."""
    distribution_version: str = ""
    distribution_name: str = ""
    layers: tuple[SubjectLayer, ...] = ()
    """Base first."""
    unread: tuple[str, ...] = ()
    """Metadata in the image that could not be read whole: packages may be missing from the document."""


def timestamp(subject: Subject) -> str:
    """Creation time of the image in whole seconds, in UTC as both formats want it; 1970 when there is none."""
    text = _FRACTION.sub("", subject.created.strip())
    if not _MOMENT.fullmatch(text):
        return EPOCH
    try:
        moment = parse_rfc3339(text)
    except (ValueError, OverflowError):
        return EPOCH
    return rfc3339(moment) if moment.year >= 1970 else EPOCH  # Go's tools write the year 1 for "not set"


def identity(subject: Subject, document: str) -> uuid.UUID:
    """A UUID that is the same for the same image and kind of document (RFC 4122, version 5)."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:tidewaiter:{document}:{subject.name}@{subject.digest}")


def purl(subject: Subject) -> str:
    """Package URL of the image (purl type `oci`): last part of the repository, digest, where it was found."""
    name = subject.name.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    short = repository.rstrip("/").rpartition("/")[2].lower() or "image"
    qualifiers = {"arch": subject.architecture, "tag": tag}
    if "." in repository.partition("/")[0] or ":" in repository.partition("/")[0]:
        qualifiers["repository_url"] = repository
    return PackageURL("oci", None, short, subject.digest, qualifiers).to_string()
