"""Negative corpus, from stored bytes on: manifests, layers and referrers that are not what their place says."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import tag_format
from negative_corpus_world import (
    CI,
    CYCLONEDX,
    IMAGE,
    NOW,
    OTHER,
    REPOSITORY,
    SERVER,
    SPDX,
    Case,
    World,
    b64,
    bundled,
    envelope,
    payload,
    provenance,
    statement,
    verdict,
)

from tidewaiter.core import limits
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.signing import bundle, cosign, dsse, predicates, simple_signing
from tidewaiter.signing.gathered import Format
from tidewaiter.signing.keys import PrivateKey
from tidewaiter.signing.verify import Outcome

SUBJECT = Descriptor(media_type=documents.MANIFEST, digest=IMAGE, size=len(b"the image"))
ATTESTED: tuple[tuple[str, dict[str, Any], PrivateKey], ...] = (
    (predicates.SPDX, SPDX, CI),
    (predicates.CYCLONEDX, CYCLONEDX, CI),
    (predicates.PROVENANCE, provenance(), CI),
    (predicates.VERDICT, verdict(), SERVER),
)


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An image in a store, everything that production demands beside it, in one format."""

    layout: Layout
    sig: Descriptor | None = None
    att: Descriptor | None = None
    referrers: tuple[Descriptor, ...] = ()

    def put(self, data: bytes, media_type: str = documents.MANIFEST) -> Descriptor:
        return Descriptor(media_type=media_type, digest=self.layout.put(data), size=len(data))

    def manifest(self, descriptor: Descriptor) -> Manifest:
        return tag_format.manifest(self.layout, descriptor)

    def edited(self, descriptor: Descriptor, **changes: Any) -> Descriptor:
        """A manifest with other fields, stored, listed as the first was."""
        data = documents.encode(msgspec.structs.replace(self.manifest(descriptor), **changes))
        return msgspec.structs.replace(descriptor, digest=self.layout.put(data), size=len(data))

    def relayered(self, descriptor: Descriptor, **changes: Any) -> Descriptor:
        """A manifest whose first layer has other fields."""
        first, *rest = self.manifest(descriptor).layers
        return self.edited(descriptor, layers=[msgspec.structs.replace(first, **changes), *rest])

    def but(self, **changes: Any) -> "Stored":
        return msgspec.structs.replace(self, **changes)

    def with_signature(self, descriptor: Descriptor) -> "Stored":
        """The same, with another referrer in the place of the signature's."""
        return self.but(referrers=(descriptor, *self.referrers[1:]))

    @property
    def world(self) -> World:
        found = cosign.gather(self.layout, IMAGE, sig=self.sig, att=self.att, referrers=self.referrers)
        return World(parts={"all": found.found}, broken=found.broken, unread=found.unread)


def store(folder: Path, form: Format) -> Stored:
    """A store that `chain` accepts."""
    layout = Layout(folder / "store")
    layout.create()
    layout.put(b"the image")
    layout.put(b"another image")
    if form == "tag":
        sig = tag_format.sign(layout, IMAGE, repository_identity=REPOSITORY, key=CI)
        att: Descriptor | None = None
        for kind, predicate, key in ATTESTED:
            att = tag_format.attest(layout, IMAGE, envelope(statement(kind, predicate), key), kind, att)
        return Stored(layout=layout, sig=sig, att=att)
    entries = []
    for kind, predicate, key in ((predicates.SIGNATURE, {}, CI), *ATTESTED):
        document = bundled(envelope(statement(kind, predicate), key))
        entries.append(cosign.bundle(layout, SUBJECT, document, kind, NOW))
    return Stored(layout=layout, referrers=tuple(entries))


def _case(name: str, step: int, outcome: Outcome, form: Format, bend: Callable[[Stored], Stored]) -> Case:
    return Case(name, step, outcome, lambda folder: bend(store(folder, form)).world)


def _sig(name: str, outcome: Outcome, bend: Callable[[Stored, Descriptor], Descriptor | None]) -> Case:
    """The manifest under `.sig` is another one."""

    def bent(stored: Stored) -> Stored:
        assert stored.sig is not None
        return stored.but(sig=bend(stored, stored.sig))

    return _case(name, 3, outcome, "tag", bent)


def _ref(name: str, outcome: Outcome, bend: Callable[[Stored, Descriptor], Descriptor]) -> Case:
    """The manifest of the signature's bundle is another one."""
    return _case(name, 3, outcome, "bundle", lambda stored: stored.with_signature(bend(stored, stored.referrers[0])))


def _of_another_image(stored: Stored, _: Descriptor) -> Descriptor:
    return tag_format.sign(stored.layout, OTHER, repository_identity=REPOSITORY, key=CI)


def _bundle_of_another_image(stored: Stored, _: Descriptor) -> Descriptor:
    document = bundled(envelope(statement(predicates.SIGNATURE, {}, image=OTHER), CI))
    return cosign.bundle(stored.layout, SUBJECT, document, predicates.SIGNATURE, NOW)


def _moved_bundle(stored: Stored, entry: Descriptor) -> Descriptor:
    """A true signature of this image, in a manifest that refers to another."""
    return stored.edited(entry, subject=msgspec.structs.replace(SUBJECT, digest=OTHER))


def _attestation_as_signature(stored: Stored, _: Descriptor) -> Descriptor:
    document = bundled(envelope(statement(predicates.VULNERABILITIES, {}), CI))
    return cosign.bundle(stored.layout, SUBJECT, document, predicates.SIGNATURE, NOW)


def _envelope_in_signature_manifest(stored: Stored, sig: Descriptor) -> Descriptor:
    """An attestation under `.sig`, with a true signature over the envelope's bytes."""
    data = envelope(statement(predicates.SPDX, SPDX), CI)
    return stored.relayered(
        sig, digest=stored.layout.put(data), size=len(data), annotations={cosign.SIGNATURE: b64(CI.sign(data))}
    )


def _lost(stored: Stored, descriptor: Descriptor) -> Descriptor:
    stored.layout.blob_path(descriptor.digest).unlink()
    return descriptor


def _damaged(stored: Stored, descriptor: Descriptor) -> Descriptor:
    path = stored.layout.blob_path(descriptor.digest)
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    return descriptor


def _lost_layer(stored: Stored, descriptor: Descriptor) -> Descriptor:
    _lost(stored, stored.manifest(descriptor).layers[0])
    return descriptor


def _damaged_layer(stored: Stored, descriptor: Descriptor) -> Descriptor:
    _damaged(stored, stored.manifest(descriptor).layers[0])
    return descriptor


def _many(stored: Stored, sig: Descriptor) -> Descriptor:
    return stored.edited(sig, layers=stored.manifest(sig).layers * (limits.SIGNATURE_LAYERS + 1))


def _annotated(text: str | None) -> Callable[[Stored, Descriptor], Descriptor]:
    return lambda stored, sig: stored.relayered(sig, annotations=None if text is None else {cosign.SIGNATURE: text})


def _typed(entry: Descriptor, kind: str) -> Descriptor:
    """A referrer that the registry lists with another type."""
    return msgspec.structs.replace(entry, artifact_type=kind)


def _index(entries: Sequence[Descriptor]) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": documents.INDEX,
            "manifests": [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in entries],
        }
    ).encode()


PAYLOAD = payload()
OVER = limits.PAYLOAD_BYTES + 1

TAG = [
    _sig("no manifest under the tag of signatures", "absent", lambda _stored, _sig: None),
    _sig("a manifest of signatures without a layer", "absent", lambda stored, sig: stored.edited(sig, layers=[])),
    _sig("the manifest of signatures of another image", "invalid", _of_another_image),
    _sig("a manifest of signatures that holds an attestation", "invalid", _envelope_in_signature_manifest),
    _sig(
        "a manifest of signatures whose layer has the type of attestations",
        "invalid",
        lambda stored, sig: stored.relayered(sig, media_type=dsse.MEDIA_TYPE),
    ),
    _sig("a signature whose layer has no annotation", "invalid", _annotated(None)),
    _sig("a signature whose annotation is empty", "invalid", _annotated("")),
    _sig("a signature whose annotation is no base64", "invalid", _annotated("%%%%")),
    _sig(
        "a signature whose annotation has a line feed",
        "invalid",
        lambda stored, sig: stored.relayered(sig, annotations={cosign.SIGNATURE: f"{b64(CI.sign(PAYLOAD))}\n"}),
    ),
    _sig(
        "a signature whose layer is announced a byte too long",
        "invalid",
        lambda stored, sig: stored.relayered(sig, size=stored.manifest(sig).layers[0].size + 1),
    ),
    _sig(
        "a signature whose layer is announced over the limit",
        "invalid",
        lambda stored, sig: stored.relayered(sig, size=OVER),
    ),
    _sig("a manifest of signatures with too many layers", "invalid", _many),
    _sig(
        "a manifest of signatures that is an index",
        "invalid",
        lambda stored, sig: stored.put(_index([sig]), documents.INDEX),
    ),
    _sig("a manifest of signatures that is no JSON", "invalid", lambda stored, _: stored.put(b"no")),
    _sig("a manifest of signatures that is a payload", "invalid", lambda stored, _: stored.put(PAYLOAD)),
    _sig("a manifest of signatures that is lost", "unchecked", _lost),
    _sig("a manifest of signatures that is damaged", "unchecked", _damaged),
    _sig("a signature whose payload is lost", "unchecked", _lost_layer),
    _sig("a signature whose payload is damaged", "unchecked", _damaged_layer),
    _case(
        "the attestations, under the tag of signatures",
        3,
        "invalid",
        "tag",
        lambda stored: stored.but(sig=stored.att),
    ),
]

BUNDLE = [
    _ref("a bundle of another image", "invalid", _bundle_of_another_image),
    _ref("a bundle in a manifest that refers to another image", "invalid", _moved_bundle),
    _ref(
        "a bundle in a manifest that refers to nothing",
        "invalid",
        lambda stored, entry: stored.edited(entry, subject=None),
    ),
    _ref("an attestation in a manifest that announces a signature", "invalid", _attestation_as_signature),
    _ref(
        "a manifest with two bundles",
        "invalid",
        lambda stored, entry: stored.edited(entry, layers=stored.manifest(entry).layers * 2),
    ),
    _ref("a manifest of a bundle without a layer", "invalid", lambda stored, entry: stored.edited(entry, layers=[])),
    _ref(
        "a bundle whose layer has another type",
        "invalid",
        lambda stored, entry: stored.relayered(entry, media_type=simple_signing.MEDIA_TYPE),
    ),
    _ref(
        "a bundle whose layer is of an older version",
        "invalid",
        lambda stored, entry: stored.relayered(entry, media_type=bundle.MEDIA_TYPE.replace("v0.3", "v0.2")),
    ),
    _ref(
        "a bundle whose layer is announced a byte too long",
        "invalid",
        lambda stored, entry: stored.relayered(entry, size=stored.manifest(entry).layers[0].size + 1),
    ),
    _ref("a bundle that is listed as an SBOM", "absent", lambda _, entry: _typed(entry, "application/spdx+json")),
    _ref("a bundle whose manifest is lost", "unchecked", _lost),
    _ref("a bundle whose manifest is damaged", "unchecked", _damaged),
    _ref("a bundle that is lost", "unchecked", _lost_layer),
    _ref("a bundle that is damaged", "unchecked", _damaged_layer),
    _case(
        "more referrers than are read",
        9,
        "unchecked",
        "bundle",
        lambda stored: stored.but(
            referrers=(
                *stored.referrers,
                *(stored.put(b"%d" % number) for number in range(limits.GATHERED_REFERRERS)),
            )
        ),
    ),
]

CASES = [*TAG, *BUNDLE]
