"""An image with everything that production demands beside it, each part true, from which the corpus starts."""

import base64
import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tidewaiter.core import clock
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import bundle, dsse, keys, predicates, simple_signing, trust, vsa
from tidewaiter.signing.gathered import Broken, Format, Found, Gathered, Place, Unread
from tidewaiter.signing.keyring import Scope, TrustedKey
from tidewaiter.signing.keys import PrivateKey
from tidewaiter.signing.trust import Trust
from tidewaiter.signing.verify import SIGNED_AT, Outcome

NOW = dt.datetime(2026, 11, 22, 12, 0, 0, tzinfo=dt.UTC)
IMAGE = digests.of(b"the image")
OTHER = digests.of(b"another image")
REPOSITORY = "registry.example/vision/classifier"
SOURCE = "https://git.example/vision/classifier"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISION = digests.of(b"the policy")
ORIGIN = "https://tidewaiter.example"

BUILDS = (
    predicates.SIGNATURE,
    predicates.SPDX,
    predicates.CYCLONEDX,
    predicates.PROVENANCE,
    predicates.VULNERABILITIES,
    predicates.OPENVEX,
)

CI, SERVER, STRANGER, DEVELOPER = (keys.create() for _ in range(4))
CI_KEY = TrustedKey(public=CI.public, name="ci", builder="ci", scope=Scope(predicates=BUILDS))
SERVER_KEY = TrustedKey(
    public=SERVER.public, name="server", builder="server", scope=Scope(predicates=(predicates.VERDICT,))
)
LOCAL_KEY = TrustedKey(public=DEVELOPER.public, name="developer")


def at(**ago: int) -> dt.datetime:
    """A moment that long before the time of asking, as `timedelta` counts it."""
    return NOW - dt.timedelta(**ago)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Documents.


def payload(image: Digest = IMAGE, *, signed_at: object = None, repository: str = REPOSITORY) -> bytes:
    """A simple-signing payload; `signed_at` may be no time at all."""
    document = json.loads(simple_signing.encode(repository, image))
    if signed_at is not None:
        text = clock.rfc3339(signed_at) if isinstance(signed_at, dt.datetime) else signed_at
        document["optional"] = {SIGNED_AT: text}
    return json.dumps(document, separators=(",", ":")).encode()


def subject(image: Digest = IMAGE, *, signed_at: object = None) -> dict[str, Any]:
    """A subject with one digest."""
    found: dict[str, Any] = {
        "name": REPOSITORY,
        "digest": {digests.algorithm(image): digests.hexadecimal(image)},
    }
    if signed_at is not None:
        text = clock.rfc3339(signed_at) if isinstance(signed_at, dt.datetime) else signed_at
        found["annotations"] = {SIGNED_AT: text}
    return found


def statement(
    kind: str, predicate: object, *, image: Digest = IMAGE, signed_at: object = None, **fields: object
) -> bytes:
    """A statement as JSON; `fields` replace fields of it, None removes one."""
    document: dict[str, object] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [subject(image, signed_at=signed_at)],
        "predicateType": kind,
        "predicate": predicate,
        **fields,
    }
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


SPDX: dict[str, Any] = {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "packages": []}
CYCLONEDX: dict[str, Any] = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}


def provenance(**changes: Any) -> dict[str, Any]:
    """A provenance predicate of the builder `ci`; `changes` name `builder`, `source`, `commit`, `dependencies`, ..."""
    source, commit = changes.get("source", SOURCE), changes.get("commit", COMMIT)
    uri = f"git+{source}@{commit}"
    git = {"name": "git", "uri": uri, "digest": {"gitCommit": commit}, "annotations": changes.get("annotations", {})}
    wheel = {"name": "numpy", "uri": "pkg:pypi/numpy@1.26.4", "digest": {"sha256": "0" * 64}}
    return {
        "buildDefinition": {
            "buildType": "urn:tidewaiter:build:assembled:v1",
            "externalParameters": changes.get("external", {"source": {"uri": uri, "digest": {"gitCommit": commit}}}),
            "internalParameters": {},
            "resolvedDependencies": changes.get("dependencies", [git, wheel]),
        },
        "runDetails": {
            "builder": {"id": changes.get("builder", "urn:tidewaiter:builder:ci")},
            "metadata": {"invocationId": "run-1", "finishedOn": changes.get("finished", clock.rfc3339(at(hours=2)))},
        },
    }


def verdict(
    *,
    image: Digest = IMAGE,
    verified: dt.datetime = NOW - dt.timedelta(hours=1),
    lasts: dt.timedelta = dt.timedelta(hours=24),
    passed: bool = True,
    environment: str = "production",
    **fields: object,
) -> dict[str, Any]:
    """A verdict of the server; `fields` replace fields of the predicate, None removes one."""
    written = vsa.encode(
        verifier="server",
        name=REPOSITORY,
        image=image,
        environment=environment,
        origin=ORIGIN,
        revision=REVISION,
        passed=passed,
        verified=verified,
        valid_until=verified + lasts,
        advisories="2026-11-22",
    )
    return {name: value for name, value in {**written, **fields}.items() if value is not None}


# Envelopes and bundles, whole or bent.


def envelope(body: bytes, key: PrivateKey, *, signed: bytes | None = None, **fields: object) -> bytes:
    """An envelope around `body`; `signed` are the bytes that are signed, `fields` replace fields of the envelope."""
    signature = key.sign(dsse.pae(dsse.IN_TOTO, body) if signed is None else signed)
    document = {
        "payload": b64(body),
        "payloadType": dsse.IN_TOTO,
        "signatures": [{"sig": b64(signature)}],
        **fields,
    }
    return json.dumps(document).encode()


def bundled(data: bytes, **fields: object) -> bytes:
    """A bundle around an envelope; `fields` replace fields of the bundle."""
    document = {
        "mediaType": bundle.MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": bundle.hint(CI.public)}},
        "dsseEnvelope": json.loads(data),
        **fields,
    }
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def found(place: Place, document: bytes, *, signature: bytes = b"", kind: str = "") -> Found:
    """What `gather` would find."""
    return Found(place=place, blob=digests.of(document), document=document, signature=signature, claimed_type=kind)


def tag_signature(document: bytes | None = None, key: PrivateKey = CI, *, signature: bytes | None = None) -> Found:
    """A signature of the tag scheme: of `document` by `key`, unless `signature` is given."""
    data = payload() if document is None else document
    return found("sig", data, signature=key.sign(data) if signature is None else signature)


def attestation(
    kind: str, predicate: object, key: PrivateKey = CI, form: Format = "tag", *, claimed: str | None = None, **more: Any
) -> Found:
    """An attestation of either format; `claimed` is what the manifest announces, `more` goes to `statement`."""
    data = envelope(statement(kind, predicate, **more), key)
    return placed(data, form, kind=kind if claimed is None else claimed)


def placed(data: bytes, form: Format = "tag", *, kind: str = "") -> Found:
    """An envelope in the place of its format."""
    return found("bundle", bundled(data), kind=kind) if form == "bundle" else found("att", data, kind=kind)


def image_signature(key: PrivateKey = CI, form: Format = "tag", *, signed_at: dt.datetime | None = None) -> Found:
    """A true signature of either format."""
    if form == "tag":
        return tag_signature(payload(signed_at=signed_at), key)
    return attestation(predicates.SIGNATURE, {}, key, form, signed_at=signed_at)


# The world.

TRUST = Trust(
    environment="production",
    ring=(LOCAL_KEY, CI_KEY, SERVER_KEY),
    demanded=trust.DEMANDED["production"],
    sources=("https://git.example/vision/*",),
    builders=("ci",),
    revisions=(REVISION,),
    origin=ORIGIN,
)


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What lies beside the image, part by part, and who asks."""

    parts: Mapping[str, tuple[Found, ...]]
    broken: tuple[Broken, ...] = ()
    unread: tuple[Unread, ...] = ()
    trust: Trust = TRUST
    repository: str = REPOSITORY
    now: dt.datetime = NOW

    @property
    def gathered(self) -> Gathered:
        everything = tuple(one for part in self.parts.values() for one in part)
        return Gathered(everything, self.broken, self.unread)

    def but(self, **parts: Found | Sequence[Found]) -> "World":
        """The same world with other parts."""
        new = {name: (part,) if isinstance(part, Found) else tuple(part) for name, part in parts.items()}
        return msgspec.structs.replace(self, parts={**self.parts, **new})

    def asked(self, **changes: Any) -> "World":
        """The same world with `repository`, `now`, `broken` or `unread` changed."""
        return msgspec.structs.replace(self, **changes)

    def trusting(self, **changes: Any) -> "World":
        """The same world with changes of the trust policy."""
        return msgspec.structs.replace(self, trust=msgspec.structs.replace(self.trust, **changes))

    def with_key(self, name: str, **changes: Any) -> "World":
        """The same world with changes of the trusted key `name`."""
        ring = tuple(msgspec.structs.replace(key, **changes) if key.name == name else key for key in self.trust.ring)
        return self.trusting(ring=ring)


def good(form: Format = "tag") -> World:
    """Everything that production demands, in one format."""
    return World(
        parts={
            "signature": (image_signature(CI, form, signed_at=at(hours=2)),),
            "spdx": (attestation(predicates.SPDX, SPDX, CI, form, signed_at=at(hours=2)),),
            "cyclonedx": (attestation(predicates.CYCLONEDX, CYCLONEDX, CI, form),),
            "provenance": (attestation(predicates.PROVENANCE, provenance(), CI, form),),
            "verdict": (attestation(predicates.VERDICT, verdict(), SERVER, form),),
        }
    )


GOOD = good()


class Case(msgspec.Struct, frozen=True):
    """One way to deceive, or to be kept from knowing; nothing else is wrong with its world."""

    name: str
    step: int
    """The step of the chain that must not hold; all before it do."""
    outcome: Outcome
    build: Callable[[Path], World]
    """Makes the world; may write into the folder."""


def the(name: str, step: int, outcome: Outcome, world: World) -> Case:
    """A case whose world needs no folder."""
    return Case(name, step, outcome, lambda _: world)
