"""From what is wanted to every blob of the store that it needs."""

import contextlib

from tidewaiter.catalog.keeping import Kept
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError, UndeterminedError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Index, Manifest

_BASE = "org.opencontainers.image.base.digest"
_DOCUMENTS = documents.MANIFEST_TYPES | documents.INDEX_TYPES


def needed(store: Layout, kept: Kept) -> set[Digest]:
    """Digests of all blobs that the catalog's wishes and `index.json` need, whether they are there or not.

    The manifest of the base that an image says it stands on counts too: a later rebase reads it.

    Raises:
        UndeterminedError: a wanted manifest is damaged, so that nobody knows what it needs.
    """
    found: set[Digest] = set(kept.blobs)
    waiting = [*kept.manifests, *(entry.digest for entry in store.index())]
    seen: set[Digest] = set()
    bases: set[Digest] = set()
    while waiting or bases:
        certain = bool(waiting)
        digest = waiting.pop() if certain else bases.pop()
        if digest in seen:
            continue
        seen.add(digest)
        document = _document(store, digest, certain=certain)
        if document is None:
            continue
        if isinstance(document, Index):
            waiting += [child.digest for child in document.manifests if child.media_type in _DOCUMENTS]
            found.update(child.digest for child in document.manifests)
        else:
            found.update(blob.digest for blob in (document.config, *document.layers))
        base = (document.annotations or {}).get(_BASE)
        if base is not None:
            with contextlib.suppress(InputError):  # an image may say anything of its base
                bases.add(digests.parse(base))
    return found | seen


def absent(store: Layout, kept: Kept) -> list[Digest]:
    """What the catalog wishes, or an image of it names, and the store does not have; sorted.

    Of an index some platforms are enough: a manifest that it names may be elsewhere. A damaged manifest names nothing.
    """
    waiting = list(kept.manifests)
    seen: set[Digest] = set()
    wanted: set[Digest] = {*kept.manifests, *kept.blobs}
    while waiting:
        digest = waiting.pop()
        if digest in seen:
            continue
        seen.add(digest)
        document = _document(store, digest, certain=False)
        if isinstance(document, Index):
            waiting += [child.digest for child in document.manifests if store.has(child.digest)]
        elif document is not None:
            # What is to be fetched from its own address is in no store.
            wanted.update(blob.digest for blob in (document.config, *document.layers) if not blob.urls)
    return sorted(digest for digest in wanted if not store.has(digest))


def _document(store: Layout, digest: Digest, *, certain: bool) -> Manifest | Index | None:
    """The manifest, or None when it is gone; one that is only said to be one (`certain` is false) may be anything."""
    try:
        return documents.decode_manifest(store.read(digest, limit=limits.MANIFEST_BYTES))
    except NotFoundError:
        return None  # of an index not every platform need be here; an image without its manifest is lost already
    except InputError as error:
        if not certain:
            return None
        raise UndeterminedError(
            f"it cannot be said which blobs of the store are needed: {error.message}",
            next_step=error.next_step,
            code="store_unreadable",
        ) from error
