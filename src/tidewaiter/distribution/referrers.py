"""What refers to a manifest (distribution-spec 1.1, "Listing Referrers"), also in registries that do not know it.

Such a registry keeps an index of the referrers under a tag made of the subject's digest, and whoever pushes a referrer
maintains it (`rewriting`).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NetworkError
from tidewaiter.distribution import listing, refusals, rewriting
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Index
from tidewaiter.transport.client import Response

if TYPE_CHECKING:
    from tidewaiter.distribution.registry import RawManifest, Repository

_NO_API = frozenset({404, 405, 501})


class Referring(msgspec.Struct, frozen=True, rename="camel"):
    """What a manifest of any kind says about itself as a referrer."""

    media_type: str = ""
    artifact_type: str | None = None
    subject: Descriptor | None = None
    config: Descriptor | None = None
    annotations: dict[str, str] | None = None


def subject_of(data: bytes) -> Referring | None:
    """What the manifest `data` says, when it refers to a subject; None otherwise."""
    if b'"subject"' not in data:
        return None
    try:
        referring = msgspec.json.decode(data, type=Referring)
    except (ValueError, RecursionError):
        return None  # the registry will refuse it
    return referring if referring.subject is not None else None


def describe(data: bytes, media_type: str, digest: Digest, referring: Referring) -> Descriptor:
    """The entry of a referrer in a list of referrers, as a registry would write it."""
    artifact_type = referring.artifact_type or (referring.config.media_type if referring.config else None)
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=len(data),
        artifact_type=artifact_type,
        annotations=referring.annotations,
    )


def tag(subject: Digest) -> str:
    """The fallback tag: algorithm and digits, cut as the specification says."""
    return f"{digests.algorithm(subject)[:32]}-{digests.hexadecimal(subject)[:64]}"


def find(repository: "Repository", subject: Digest, artifact_type: str | None) -> tuple[Descriptor, ...]:
    """Descriptors of the manifests that refer to `subject`; errors as in `Repository.referrers`."""
    found = _from_api(repository, subject, artifact_type)
    if found is None:
        found = _from_tag(repository, subject)
    # A registry need not filter, and one that says it did is not believed.
    return tuple(entry for entry in found if artifact_type is None or entry.artifact_type == artifact_type)


def _from_api(repository: "Repository", subject: Digest, artifact_type: str | None) -> list[Descriptor] | None:
    """None when the registry does not know the API."""
    query = "?" + urlencode({"artifactType": artifact_type}) if artifact_type else ""
    path = f"/v2/{repository.name}/referrers/{subject}{query}"
    found: dict[Digest, Descriptor] = {}
    first = True
    while path:
        response = repository.get(path)
        if first and (response.status in _NO_API or "UNSUPPORTED" in refusals.codes(response)):
            return None
        if response.status != 200:
            raise refusals.refusal(repository.registry.host, response, f"referrers of {repository.name}@{subject}")
        page = _index(response)
        if page is None:
            raise NetworkError(
                f"{repository} answered no list of referrers ({refusals.asked(response)})",
                next_step=refusals.NOT_A_REGISTRY,
            )
        fresh = [entry for entry in page if entry.digest not in found]
        found.update({entry.digest: entry for entry in fresh})
        if len(found) > limits.INDEX_MANIFESTS:
            raise _too_many(repository, subject)
        path = (listing.following(response.headers, response.url) or "") if fresh else ""
        first = False
    return list(found.values())


def _index(response: Response) -> list[Descriptor] | None:
    try:
        document = documents.decode_manifest(response.body, documents.INDEX)
    except LimitError:
        raise
    except InputError:
        return None
    return document.manifests if isinstance(document, Index) else None


def _too_many(repository: "Repository", subject: Digest) -> LimitError:
    return LimitError(
        f"{repository}@{subject} has more than {limits.INDEX_MANIFESTS} referrers",
        next_step="Delete those that nobody needs.",
    )


def _from_tag(repository: "Repository", subject: Digest) -> list[Descriptor]:
    return _entries(repository, subject, rewriting.read(repository, tag(subject)))


def _entries(repository: "Repository", subject: Digest, raw: "RawManifest | None") -> list[Descriptor]:
    if raw is None:
        return []
    document = documents.decode_manifest(raw.data, raw.media_type)
    if not isinstance(document, Index):
        raise InputError(
            f"{repository}:{tag(subject)} is not a list of referrers",
            next_step="Remove that tag: the specification reserves it.",
        )
    return document.manifests


def add(repository: "Repository", subject: Digest, entries: Sequence[Descriptor]) -> None:
    """Put `entries` into the index under the fallback tag of `subject`; errors as in `rewriting.rewrite`."""

    def change(listed: list[Descriptor]) -> list[Descriptor]:
        fresh = {entry.digest for entry in entries}
        missing = [entry for entry in entries if entry not in listed]
        return [*(old for old in listed if old.digest not in fresh), *entries] if missing else listed

    _rewrite(repository, subject, change)


def remove(repository: "Repository", subject: Digest, entry: Descriptor) -> None:
    """Take `entry` out of the index under the fallback tag of `subject`."""
    _rewrite(repository, subject, lambda listed: [other for other in listed if other.digest != entry.digest])


def _rewrite(repository: "Repository", subject: Digest, change: Callable[[list[Descriptor]], list[Descriptor]]) -> None:
    def rewritten(found: "RawManifest | None") -> tuple[bytes, str] | None:
        listed = _entries(repository, subject, found)
        wanted = change(listed)
        if wanted == listed:
            return None
        if len(wanted) > limits.INDEX_MANIFESTS:
            raise _too_many(repository, subject)
        return documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=wanted)), documents.INDEX

    rewriting.rewrite(repository, tag(subject), rewritten)
