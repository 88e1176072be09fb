"""What a pushed manifest is: an image that must be judged, an index, or something attached; and what it names.

An engine that runs containers is not asked how it reads a manifest, so doubt counts as "image": it is one unless its
config is of another, registered kind, or all it holds is documents of known attachments.
"""

from typing import Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Index, Manifest

Kind = Literal["image", "index", "attachment", "artifact"]

MEDIA_TYPES = documents.MANIFEST_TYPES | documents.INDEX_TYPES

# Docker takes a config of these types for that of an image, too.
_LIKE_IMAGES = documents.CONFIG_TYPES | {"application/octet-stream", "application/json", "text/html", ""}

_DOCUMENTS = frozenset(
    {
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.dsse.envelope.v1+json",
        "application/vnd.in-toto+json",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.cyclonedx+json",
        "application/spdx+json",
        "text/spdx+json",
    }
)
"""Layers of what is attached under the config of an image, as cosign and BuildKit do. All of them are JSON."""


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest, taken apart."""

    kind: Kind
    media_type: str
    artifact_type: str
    """Its own, else the media type of its config; empty for an index without one."""
    annotations: dict[str, str]
    """Of a referrer; those of other manifests are listed nowhere."""
    subject: Descriptor | None
    blobs: tuple[Digest, ...]
    """That the repository must have."""
    children: tuple[Descriptor, ...]
    """Manifests of an index."""
    attached: tuple[Descriptor, ...]
    """Layers of an attachment, which must be JSON."""

    @property
    def members(self) -> tuple[Digest, ...]:
        """Digests of all that it names."""
        return (*self.blobs, *(child.digest for child in self.children))


def parse(data: bytes, media_type: str) -> Pushed:
    """The manifest in `data`, pushed as `media_type`.

    Raises:
        InputError: it is malformed, of a kind that is not taken, or over the limits.
    """
    if media_type not in MEDIA_TYPES:
        raise InputError(
            f"{media_type[:200]!r} is not a media type of manifests",
            next_step="Push OCI or Docker (schema 2) manifests.",
        )
    document = documents.decode_manifest(data, media_type)
    if document.media_type is None and media_type not in {documents.MANIFEST, documents.INDEX}:
        raise InputError("the manifest does not say its media type", next_step="Push it again with a current tool.")
    if document.subject is not None:
        annotations = len(msgspec.json.encode(document.annotations or {}))
        if annotations > limits.GATE_ANNOTATIONS_BYTES:
            raise LimitError(
                f"the annotations of the referrer are {annotations} bytes, over {limits.GATE_ANNOTATIONS_BYTES}",
                next_step="Put long texts into a blob.",
            )
    if isinstance(document, Index):
        return _index(document, media_type)
    return _manifest(document, media_type)


def _bounded(count: int) -> None:
    if count > limits.GATE_MEMBERS:
        raise LimitError(f"the manifest names {count} things", next_step=f"At most {limits.GATE_MEMBERS} are taken.")


def _index(document: Index, media_type: str) -> Pushed:
    _bounded(len(document.manifests))
    return Pushed(
        kind="index",
        media_type=media_type,
        artifact_type=document.artifact_type or "",
        annotations=(document.annotations or {}) if document.subject else {},
        subject=document.subject,
        blobs=(),
        children=tuple(document.manifests),
        attached=(),
    )


def _manifest(document: Manifest, media_type: str) -> Pushed:
    _bounded(len(document.layers))
    kind = _kind(document)
    # What is fetched from its own address is pushed to no registry (image-spec, non-distributable layers).
    own = [document.config, *(layer for layer in document.layers if not layer.urls)]
    return Pushed(
        kind=kind,
        media_type=media_type,
        artifact_type=document.artifact_type or document.config.media_type,
        annotations=(document.annotations or {}) if document.subject else {},
        subject=document.subject,
        blobs=tuple(dict.fromkeys(one.digest for one in own)),
        children=(),
        attached=tuple(document.layers) if kind == "attachment" else (),
    )


def _kind(document: Manifest) -> Kind:
    if document.config.media_type not in _LIKE_IMAGES:
        return "artifact"
    if document.layers and all(layer.media_type in _DOCUMENTS for layer in document.layers):
        return "attachment"
    return "image"
