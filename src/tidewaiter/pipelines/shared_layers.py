"""Layers that a registry already has are not made again: the shared map from what a layer is made of to the layer.

Each entry is an artifact under a tag made of the layer's key and the builder's key. It names the layer, so that the
registry keeps it, and holds an attestation: a statement about the layer, signed by the builder, whose predicate is
the whole key. An entry is used only after these steps:

1. Somebody is trusted: keys of this home, or those that the settings name.
2. The entry is an artifact of our kind, with one attestation and one layer.
3. The attestation is signed by the trusted key that was asked for, of our predicate type, about this layer alone.
4. What the predicate says the layer is made of is exactly what was asked for.
5. The layer's bytes have the digest and size of the descriptor and of the predicate.
6. Its unpacked tar has the diff ID and size of the predicate.

Whatever fails, the layer is made here, with a note that says why.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tidewaiter.assembly import layer_cache
from tidewaiter.assembly.layer_cache import Key, Vouched
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import (
    InputError,
    NetworkError,
    NotFoundError,
    NotVerifiedError,
    StorageError,
    TidewaiterError,
)
from tidewaiter.distribution.registry import Repository
from tidewaiter.distribution.transfer import Stop, in_parallel
from tidewaiter.oci import digest as digests
from tidewaiter.oci import layer
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest, WireDigest
from tidewaiter.oci.layer import LayerInfo
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.pipelines import connecting
from tidewaiter.signing import dsse, keyring, statement
from tidewaiter.signing.keys import PublicKey
from tidewaiter.signing.statement import Statement

if TYPE_CHECKING:
    from tidewaiter.pipelines.workshop import Workshop
    from tidewaiter.signing.key_sources import SigningKey

PREDICATE = "https://tidewaiter.dev/layer/v1"
ARTIFACT = "application/vnd.tidewaiter.layer.v1+json"
_EMPTY = b"{}"
_ZSTD = b"\x28\xb5\x2f\xfd"


class _Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What the predicate says of the layer beside its digest."""

    size: int
    diff_id: WireDigest
    unpacked_size: int


class _Predicate(msgspec.Struct, frozen=True, rename="camel"):
    made_of: dict[str, Any]
    layer: _Layer


def is_shared(key: Key) -> bool:
    """Whether layers of this kind are shared: wheels and Debian packages, not what is one project's own."""
    return key.get("kind") == "python" or key.get("maker") == "debian"


def tag(key: Key, builder: Digest) -> str:
    """Where a builder's entry for a key lies: builders do not overwrite each other's."""
    return f"layer-{layer_cache.name_of(key)}.{digests.hexadecimal(builder)[:32]}"


def encode(key: Key, info: LayerInfo, builder: str) -> bytes:
    """The statement that `info` is the layer of `key`."""
    said = _Layer(size=info.size, diff_id=info.diff_id, unpacked_size=info.tar_size)
    predicate = {"madeOf": dict(key), "layer": msgspec.to_builtins(said), "builder": builder}
    return statement.encode(Statement((statement.about("layer", info.digest),), PREDICATE, predicate))


def verify(envelope: bytes, trusted: Sequence[PublicKey], key: Key, blob: Descriptor) -> Vouched:
    """Who vouches for `blob` being the layer of `key`: steps 1, 3, 4 and what 5 says of the size.

    Raises:
        NotVerifiedError: nobody who is trusted does.
    """
    # 1 and 3. Signed, of our predicate type, about this layer.
    found = statement.verify(
        envelope, trusted, predicate_type=PREDICATE, subject=blob.digest, limit=limits.LAYER_STATEMENT_BYTES
    )
    if len(found.statement.subjects) != 1:
        raise _refused("it is about several things")
    try:
        said = msgspec.convert(found.statement.predicate, _Predicate)
    except msgspec.ValidationError as error:
        raise _refused(f"its predicate is malformed: {error}") from error
    # 4. Made of exactly what was asked for.
    if layer_cache.canonical(said.made_of) != layer_cache.canonical(key):
        raise _refused("it is about a layer that is made of something else")
    # 5. As long as the descriptor says.
    if said.layer.size != blob.size:
        raise _refused(f"it says {said.layer.size} bytes, the entry {blob.size}")
    info = LayerInfo(digest=blob.digest, size=blob.size, diff_id=said.layer.diff_id, tar_size=said.layer.unpacked_size)
    return Vouched(info=info, voucher=found.fingerprint)


def _refused(reason: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"the attestation of a shared layer does not hold: {reason}",
        next_step="Find out who writes to the repository of shared layers; the layer is made here instead.",
        code="attestation_invalid",
    )


class SharedLayers:
    """Looks layers up in the repository that the settings name; the registry is met when the first is asked for."""

    def __init__(self, workshop: "Workshop") -> None:
        self._workshop = workshop
        self._lock = threading.Lock()
        self._place: Repository | None = None
        self._trusted: list[PublicKey] | None = None
        self._off = False

    def __call__(self, key: Key) -> Vouched | None:
        """The layer of `key`, verified and put into the store; None when it must be made here."""
        if not is_shared(key) or self._off:
            return None
        try:
            self._open()
        except TidewaiterError as error:
            self._give_up(error)
            return None
        assert self._place is not None  # noqa: S101  # as `_open` has left it
        for builder in self._trusted or []:
            try:
                found = _look_up(self._place, self._workshop.store, key, builder)
                if found is not None:
                    return found
            except StorageError:
                raise  # the disk here, which making the layer would meet too
            except NetworkError as error:
                self._give_up(error)
                return None
            except TidewaiterError as error:
                self._workshop.progress.note(f"a shared layer is refused and made here: {error.message}")
        return None

    def _open(self) -> None:
        with self._lock:
            if self._place is None:
                self._trusted = trusted(self._workshop)
                self._place = repository(self._workshop)

    def _give_up(self, error: TidewaiterError) -> None:
        with self._lock:
            said, self._off = self._off, True
        if not said:
            self._workshop.progress.note(f"no shared layers are used: {error.message}")


def trusted(workshop: "Workshop") -> list[PublicKey]:
    """Keys whose layers are used: this home's own first, then those of the settings.

    Raises:
        NotFoundError, InputError: a key file is missing or malformed.
        NotVerifiedError: there is none at all.
    """
    ring = [*keyring.home(workshop.settings.home.keys), *keyring.of_files(workshop.settings.trusted_builders)]
    # An entry says no time that anybody could check, so that only keys of now count.
    barred = {key.public for key in ring if key.not_in_force(clock.now()) or key.out_of_scope(PREDICATE)}
    found = [key for key in dict.fromkeys(one.public for one in ring) if key not in barred]
    if not found:
        raise NotVerifiedError(
            "no builder is trusted",
            next_step="Name public keys in the setting trusted_builders.",
            code="no_trusted_key",
        )
    return found


def repository(workshop: "Workshop") -> Repository:
    """The repository of shared layers; raises `InputError` when the setting is no HOST/REPO."""
    given = references.parse_registry(workshop.settings.shared_layers)
    if given.tag or given.digest:
        raise InputError(
            f"the setting shared_layers is {workshop.settings.shared_layers!r}",
            next_step="Write HOST/REPO, without tag and digest.",
        )
    return connecting.connect(workshop.client, workshop.settings, given)


def _look_up(place: Repository, store: Layout, key: Key, builder: PublicKey) -> Vouched | None:
    try:
        raw = place.manifest(tag(key, builder.fingerprint))
    except NotFoundError:
        return None
    # 2. An artifact of our kind.
    document = documents.decode_manifest(raw.data, raw.media_type)
    if not isinstance(document, Manifest) or document.artifact_type != ARTIFACT or len(document.layers) != 2:
        raise _refused("the entry is no entry of a shared layer")
    attestation, blob = document.layers
    if attestation.media_type != dsse.MEDIA_TYPE:
        raise _refused("the entry has no attestation")
    # 3 and 4.
    envelope = place.read(attestation.digest, limit=limits.LAYER_STATEMENT_BYTES)
    found = verify(envelope, [builder], key, blob)
    # 5. The right bytes.
    if not store.verify(blob):
        with store.writer() as writer:
            place.download(blob, writer, verify=False)
            writer.commit(blob.digest, size=blob.size)
    # 6. With the right tar in them.
    _require_tar(store, found.info)
    return found


def _require_tar(store: Layout, info: LayerInfo) -> None:
    with store.open(info.digest) as file:
        reader = layer.Reader(file, limit=info.tar_size)
        for _ in reader:
            pass
    if (reader.diff_id, reader.tar_size) != (info.diff_id, info.tar_size):
        raise _refused(f"its tar has the diff ID {reader.diff_id}, not {info.diff_id}")


def publish(workshop: "Workshop", made: Sequence[Digest], signer: "SigningKey", beside: Repository) -> int:
    """Share those layers of `made` that this home itself made; how many the repository did not have yet.

    `beside` is a repository that has the layers already: on the same host they are mounted from there.

    Raises:
        NetworkError: the registry could not be reached or refused.
    """
    place = repository(workshop)
    entries = [entry for entry in workshop.layers.made_here(frozenset(made)) if is_shared(entry[0])]
    if entries:
        # Once, and first: a registry may answer 400 to a manifest while somebody uploads a blob of it again.
        _push_small(place, _EMPTY, documents.EMPTY)

    def one(entry: tuple[Key, LayerInfo], stop: Stop) -> bool:
        stop.check()
        return _publish(place, workshop.store, entry, signer, beside)

    with workshop.progress.task("Sharing layers", total=len(entries)) as task:
        results = in_parallel(one, entries, threads=limits.TRANSFERS)
        task.advance(len(entries))
    return sum(results)


def _publish(
    place: Repository, store: Layout, entry: tuple[Key, LayerInfo], signer: "SigningKey", beside: Repository
) -> bool:
    key, info = entry
    name = tag(key, signer.signer.public.fingerprint)
    if _named_layer(place, name) == info.digest:
        return False
    blob = Descriptor(media_type=_media_type(store, info), digest=info.digest, size=info.size)
    if not place.has_blob(blob.digest):
        same_host = beside.registry.host == place.registry.host
        if not (same_host and place.mount(blob.digest, beside.name)):
            place.push_blob(blob, lambda: _pieces(store, blob))
    envelope = dsse.sign(encode(key, info, signer.trusted.builder), signer.signer)
    attestation = _push_small(place, envelope, dsse.MEDIA_TYPE)
    document = Manifest(
        schema_version=2,
        media_type=documents.MANIFEST,
        artifact_type=ARTIFACT,
        config=Descriptor(media_type=documents.EMPTY, digest=digests.of(_EMPTY), size=len(_EMPTY)),
        layers=[attestation, blob],
    )
    place.put_manifest(name, documents.encode(document), documents.MANIFEST)
    return True


def _named_layer(place: Repository, name: str) -> Digest | None:
    """Digest of the layer that an entry names; None when there is no such entry, or none that is ours."""
    try:
        raw = place.manifest(name)
        document = documents.decode_manifest(raw.data, raw.media_type)
    except InputError:
        return None
    return document.layers[-1].digest if isinstance(document, Manifest) and document.layers else None


def _push_small(place: Repository, data: bytes, media_type: str) -> Descriptor:
    blob = Descriptor(media_type=media_type, digest=digests.of(data), size=len(data))
    if not place.has_blob(blob.digest):
        place.push_blob(blob, lambda: [data])
    return blob


def _media_type(store: Layout, info: LayerInfo) -> str:
    with store.open(info.digest) as file:
        return documents.LAYER_ZSTD if file.read(4) == _ZSTD else documents.LAYER_GZIP


def _pieces(store: Layout, blob: Descriptor) -> Iterator[bytes]:
    with store.open(blob.digest) as file:
        while data := file.read(1 << 20):
            yield data
