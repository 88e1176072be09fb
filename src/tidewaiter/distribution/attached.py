"""Cosign's tag scheme: what is attached to an image lies beside it under a tag made of its digest.

Such a tag names a manifest with one layer for each signature or attestation. Nobody who adds one may take away
another's, so that two of them are united, layer by layer, never one put in the place of the other.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError
from tidewaiter.distribution import rewriting
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, History, ImageConfig, Manifest, RootFS

if TYPE_CHECKING:
    from tidewaiter.distribution.registry import RawManifest, Repository

Suffix = Literal["sig", "att", "sbom"]
SUFFIXES: tuple[Suffix, ...] = ("sig", "att", "sbom")
UNITED: tuple[Suffix, ...] = ("sig", "att")
"""Of what one manifest holds several; an SBOM replaces the one before."""

Outdated = Callable[[], Collection[Digest]]
"""Says, when it comes to that, which blobs nobody needs to keep."""

SIGNATURE = "dev.cosignproject.cosign/signature"
"""Layer annotation: standard base64 of the signature in DER; empty for an attestation, which holds its own."""

_NO_TIME = "0001-01-01T00:00:00Z"  # what Go writes for no time; a manifest of this format carries none


def tag(image: Digest, suffix: Suffix) -> str:
    """`sha256-HEX.sig`, `.att` or `.sbom`: the tag beside the image `image`."""
    return f"{digests.algorithm(image)}-{digests.hexadecimal(image)}.{suffix}"


def find(repository: "Repository", image: Digest, suffix: Suffix) -> Descriptor | None:
    """Descriptor of what is attached to `image` in `repository`; None when the registry says that there is nothing.

    Raises:
        NetworkError: the registry could not be asked.
    """
    try:
        return repository.resolve(tag(image, suffix))
    except NotFoundError:
        return None


def compose(layers: Sequence[Descriptor]) -> tuple[bytes, bytes]:
    """Config and manifest, as cosign writes them, that hold `layers`."""
    config = documents.encode(
        ImageConfig(
            architecture="",
            os="",
            created=_NO_TIME,
            rootfs=RootFS(type="layers", diff_ids=[layer.digest for layer in layers]),
            history=[History(created=_NO_TIME) for _ in layers],
        )
    )
    manifest = Manifest(
        schema_version=2,
        media_type=documents.MANIFEST,
        config=Descriptor(media_type=documents.CONFIG, digest=digests.of(config), size=len(config)),
        layers=list(layers),
    )
    return config, documents.encode(manifest)


def decode(data: bytes, media_type: str) -> Manifest:
    """The manifest under such a tag; raises `InputError` when it is malformed, or an index."""
    document = documents.decode_manifest(data, media_type)
    if not isinstance(document, Manifest):
        raise InputError(
            f"{digests.of(data)} is an index, not signatures or attestations",
            next_step="Remove the tag that names it: cosign's tag scheme reserves it.",
        )
    return document


def _identity(layer: Descriptor) -> tuple[Digest, str]:
    """Several keys may have signed the same payload."""
    return layer.digest, (layer.annotations or {}).get(SIGNATURE, "")


def missing(layers: Sequence[Descriptor], there: Sequence[Descriptor]) -> list[Descriptor]:
    """Those of `layers` that are not `there`, each once."""
    known = {_identity(layer) for layer in there}
    return list({_identity(layer): layer for layer in layers if _identity(layer) not in known}.values())


class United(msgspec.Struct, frozen=True):
    """What a tag shall name so that nothing is lost."""

    data: bytes
    media_type: str
    config: bytes | None = None
    """A config that nobody has yet; None when the manifest is one that was there before."""
    added: tuple[Descriptor, ...] = ()
    """Layers that the tag's manifest did not hold."""

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor of the manifest."""
        return Descriptor(media_type=self.media_type, digest=digests.of(self.data), size=len(self.data))


def _fitting(
    known: Sequence[Descriptor], added: Sequence[Descriptor], what: str, outdated: Outdated
) -> list[Descriptor]:
    """All layers, or as many as there may be: what is outdated gives way, first what would be added."""
    excess = len(known) + len(added) - limits.SIGNATURE_LAYERS
    if excess <= 0:
        return [*known, *added]
    old = outdated()
    given_way = [_identity(layer) for layer in [*added, *known] if layer.digest in old][:excess]
    if len(given_way) < excess:
        raise LimitError(
            f"{what} would carry {len(known) + len(added)} signatures or attestations",
            next_step=f"At most {limits.SIGNATURE_LAYERS} are read and written: remove old ones from its tag.",
        )
    return [layer for layer in [*known, *added] if _identity(layer) not in given_way]


def unite(there: "RawManifest | None", ours: "RawManifest", what: str, outdated: Outdated = tuple) -> United | None:
    """The manifest `ours` together with the one that is `there`; None when that holds all of ours.

    Raises:
        InputError: one of them is malformed, or (LimitError) both together have more than `SIGNATURE_LAYERS` layers
            and too few of them are `outdated`.
    """
    layers = decode(ours.data, ours.media_type).layers
    if there is None:
        return United(ours.data, ours.media_type, added=tuple(layers))
    known = decode(there.data, there.media_type).layers
    added = missing(layers, known)
    if not added:
        return None
    if not missing(known, layers):
        return United(ours.data, ours.media_type, added=tuple(added))
    wanted = _fitting(known, added, what, outdated)
    added = missing(wanted, known)
    if not added:
        return None
    config, manifest = compose(wanted)
    return United(manifest, documents.MANIFEST, config, tuple(added))


def add(
    repository: "Repository",
    tag: str,
    ours: "RawManifest",
    send: Callable[[Descriptor], None],
    outdated: Outdated = tuple,
) -> int:
    """Let the tag name what it names together with the manifest `ours`; how many layers came in.

    Args:
        repository: has the tag.
        tag: of cosign's.
        ours: what is added.
        send: sees to it that the repository has a blob of `ours`.
        outdated: says what may give way when there are too many.

    Raises:
        NetworkError: the registry could not be asked, refused, or others change the tag all the time.
        InputError: what the tag names is malformed, or (LimitError) full.
    """
    came: set[tuple[Digest, str]] = set()

    def change(found: "RawManifest | None") -> tuple[bytes, str] | None:
        united = unite(found, ours, f"{repository}:{tag}", outdated)
        if united is None:
            return None
        for layer in united.added:
            send(layer)
        if united.config is None:
            send(decode(ours.data, ours.media_type).config)
        else:
            config = united.config
            blob = Descriptor(media_type=documents.CONFIG, digest=digests.of(config), size=len(config))
            if not repository.has_blob(blob.digest):
                repository.push_blob(blob, lambda: [config])
        came.update(map(_identity, united.added))
        return united.data, united.media_type

    rewriting.rewrite(repository, tag, change)
    return len(came)
