"""What a target has besides what it was asked for, as told by the older image that it has under the tag.

A registry takes an image's manifest only when it has the config and the layers that this names; so where a tag names
an older build, what the new one has in common with it need not be asked for. The older manifest is read where the copy
comes from, by its digest, and never fetched.

- An index proves less: some registries take one whose images are missing. An image of an older index counts once the
  target says that it has that image, and it is asked for only where that saves requests.
- Layers that lie at addresses of their own prove nothing, because registries do not look for them.
- What is remembered of the registry (`blob_places`) would be no better proof: it does not know either when a registry's
  storage loses a blob, and a fresh machine remembers nothing. A registry that looks refuses the new manifest then, and
  the copy asks for everything once more. One that does not look at manifests is believed as it is when a tag names the
  very image that is copied; whoever deletes blobs by hand there must delete what names them, too.
"""

from collections.abc import Iterable

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.distribution.endpoints import Source
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Index, Manifest

_ELSEWHERE = (".nondistributable.", ".foreign.")
"""In the media types of layers that registries do not keep."""


class Older(msgspec.Struct, frozen=True):
    """What manifests under a target's tags name, as far as the source has them."""

    blobs: frozenset[Digest]
    """At the target: configs and layers of images."""
    images: dict[Digest, frozenset[Digest]]
    """Images of indexes, with configs and layers: at the target, if it has the image."""


def older(source: Source, named: Iterable[Digest]) -> Older:
    """What the manifests `named` say; those that the source lacks, or has damaged, say nothing."""
    blobs: set[Digest] = set()
    images: dict[Digest, frozenset[Digest]] = {}
    seen: set[Digest] = set()
    waiting = [(digest, 1) for digest in named]
    while waiting and len(seen) < limits.INDEX_MANIFESTS:
        digest, depth = waiting.pop()
        document = None if digest in seen else _read(source, digest)
        seen.add(digest)
        if isinstance(document, Manifest) and depth == 1:
            blobs |= _proven(document)
        elif isinstance(document, Manifest):
            images[digest] = _proven(document)
        elif document is not None and depth < limits.INDEX_DEPTH:
            types = documents.MANIFEST_TYPES | documents.INDEX_TYPES
            waiting += [(one.digest, depth + 1) for one in document.manifests if one.media_type in types]
    return Older(frozenset(blobs), images)


def _proven(manifest: Manifest) -> frozenset[Digest]:
    """The blobs that a registry must have to take this manifest."""
    blobs = (manifest.config, *manifest.layers)
    return frozenset(
        one.digest for one in blobs if not one.urls and not any(map(one.media_type.__contains__, _ELSEWHERE))
    )


def _read(source: Source, digest: Digest) -> Manifest | Index | None:
    try:
        return documents.decode_manifest(source.read(digest))
    except (TidewaiterError, OSError):
        return None  # it would have spared requests, no more
