"""Steps: who signs, signing an image, and verifying what anybody signed."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotVerifiedError, UndeterminedError
from tidewaiter.distribution import attached
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines.attachments import attaching, sending
from tidewaiter.pipelines.attachments.attaching import Signed, Stored
from tidewaiter.pipelines.attachments.sending import Sent
from tidewaiter.pipelines.images import connect, store_reference, stored_descriptor
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import (
    cosign,
    key_sources,
    keyless,
    keyring,
    predicates,
    simple_signing,
    statement,
    trust,
    verify,
)
from tidewaiter.signing.gathered import Format, Gathered
from tidewaiter.signing.key_sources import SigningKey
from tidewaiter.signing.keyless import TrustedIdentity, Voucher
from tidewaiter.signing.keyring import Scope, TrustedKey
from tidewaiter.signing.trust import LOCAL, Trust
from tidewaiter.signing.verify import Attested, Report, Requirements, Verified

if TYPE_CHECKING:
    from tidewaiter.distribution.registry import Repository

KEY_NAME = "tidewaiter"
"""Name of the key that is used when none is named."""
VERDICT_KEY = "verdict"
"""Name of the key of the home that signs verdicts; without it the key that signs builds does, where it may."""
BUILDER = "dev.tidewaiter.builder"
"""Annotation of a signature: who holds its key."""

LASTS = dt.timedelta(days=30)
"""After which the same is said once more, so that no policy finds it too old."""

Password = Callable[[], bytes]


class Signers(msgspec.Struct, frozen=True):
    """Who signs what."""

    builder: SigningKey
    """What was built: the image, what is in it, how it was made."""
    decider: SigningKey | None
    """Verdicts and the findings that they rest on; None when nobody here may sign verdicts."""


def require_password(workshop: Workshop) -> bytes:
    """`COSIGN_PASSWORD`; raises `InputError` when it is unset, so that no key is ever opened or made by accident."""
    password = workshop.settings.key_password
    if password is None:
        raise InputError(
            "COSIGN_PASSWORD is not set", next_step="Set it to the key's password; empty means a key without password."
        )
    return password


def open_key(workshop: Workshop, text: str, password: Password) -> SigningKey:
    """The key that `text` names: of the home, a file, the environment, a command; raises as `key_sources.open_key`."""
    return key_sources.open_key(text, workshop.settings.home.keys, password)


def signers(workshop: Workshop, text: str, password: Password) -> Signers:
    """Who signs when the builder's key is the one that `text` names; raises as `open_key`."""
    builder = open_key(workshop, text, password)
    if any(key.name == VERDICT_KEY and key.has_private for key in keyring.read(workshop.settings.home.keys)):
        return Signers(builder, open_key(workshop, VERDICT_KEY, password))
    # Whoever builds does not grade what was built, but for a developer's own machine, which nobody else trusts.
    trusted = builder.trusted
    decides = trusted.builder == LOCAL or predicates.VERDICT in trusted.scope.predicates
    return Signers(builder, builder if decides else None)


def signers_of_home(workshop: Workshop, text: str = KEY_NAME) -> Signers:
    """As `signers`, where nobody can be asked for a password."""
    return signers(workshop, text, lambda: require_password(workshop))


def ring(workshop: Workshop, paths: Sequence[Path]) -> tuple[TrustedKey, ...]:
    """The public keys in `paths`, else all of the home; raises as `keyring.of_files` and `keyring.home`."""
    return keyring.of_files(paths) if paths else keyring.home(workshop.settings.home.keys)


def identity(san: str, issuer: str, root: Path | None, kinds: Sequence[str]) -> TrustedIdentity:
    """Whoever has certificates of `san` and `issuer`, trusted for the predicate types `kinds`, else for signatures.

    Raises:
        InputError: one of them is empty; or as `keyless.open_root`, and its other errors.
    """
    if not san or not issuer:
        raise InputError(
            "an identity needs a name and an issuer",
            next_step="Give both --certificate-identity and --certificate-oidc-issuer.",
            code="usage",
        )
    asked = tuple(map(predicates.named, kinds)) or (predicates.SIGNATURE,)
    return TrustedIdentity(
        name=san, san=san, issuer=issuer, builder=san, root=keyless.open_root(root), scope=Scope(predicates=asked)
    )


def formats(workshop: Workshop) -> tuple[Format, ...]:
    """The formats that the settings want."""
    known: tuple[Format, ...] = ("tag", "bundle")
    return tuple(one for one in known if one in workshop.settings.signature_formats)


def of_format(gathered: Gathered, wanted: Format) -> Gathered:
    """What of `gathered` is of one format, the last first."""
    return Gathered(tuple(one for one in reversed(gathered.found) if one.format == wanted))


# Where an image lies


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An image, and what lies beside it, believed by nobody yet."""

    name: str
    """`HOST/REPO`, or a name in the store."""
    image: Descriptor
    gathered: Gathered
    repository: "Repository | None" = None
    """None when it lies in the store."""


def place(workshop: Workshop, text: str) -> Place:
    """The image that `text` names. Nobody but its registry is asked.

    Raises:
        NotFoundError: there is no such image.
        NetworkError: the registry could not be asked for it.
        InputError: `text` names an archive or layout, beside which nothing lies.
    """
    given = references.parse(text)
    if isinstance(given, StoreReference):
        found = store_reference(workshop, given)
        gathered = attaching.gather_stored(workshop, found.digest)
        return Place(name=found.name, image=stored_descriptor(workshop.store, found.digest), gathered=gathered)
    if isinstance(given, RegistryReference):
        repository = connect(workshop, given)
        image = repository.resolve(given.target)
        gathered = attaching.gather_remote(repository, image.digest)
        name = f"{given.host}/{given.repository}"
        return Place(name=name, image=image, gathered=gathered, repository=repository)
    raise InputError(
        f"{text} is a file or folder, which carries no signatures",
        next_step="Name the image in the store (NAME:TAG) or in a registry (HOST/REPO:TAG).",
    )


def attach(workshop: Workshop, place: Place, signed: Sequence[Signed]) -> None:
    """Attach what was signed where the image lies; raises as `attaching.attach` and `sending.attach_remote`."""
    if place.repository is None:
        attaching.attach(workshop, place.image, signed, formats(workshop))
        return
    known = {(one.format, one.blob) for one in place.gathered.found}
    for kind in formats(workshop):
        fresh = [one for one in signed if kind in one.formats and (kind, one.blob(kind)) not in known]
        if fresh:
            sending.attach_remote(workshop, place.repository, place.image.digest, fresh, (kind,))
            detail = {
                "to": place.name,
                "format": kind,
                "keys": sorted({one.public.fingerprint for one in fresh}),
                "types": sorted({one.predicate_type for one in fresh}),
            }
            workshop.catalog.log("attest", place.image.digest, detail)


def signature_of(there: Stored) -> Digest | None:
    """The manifest that holds the signatures in the tag format, else the newest bundle with one; None without any."""
    if there.sig is not None:
        return there.sig.digest
    said = ((one.digest, (one.annotations or {}).get(cosign.BUNDLE_PREDICATE_TYPE)) for one in there.referrers)
    return next((digest for digest, kind in reversed(list(said)) if kind == predicates.SIGNATURE), None)


# Signing an image


def signatures(
    name: str,
    image: Digest,
    key: SigningKey,
    *,
    there: Gathered,
    wanted: Sequence[Format],
    annotations: Mapping[str, str] | None = None,
) -> Iterator[Signed]:
    """The image signed in each of the formats in which the last signature by the key does not say the same.

    Args:
        name: what the image is called (`HOST/REPO`, or a name in the store).
        image: its digest.
        key: signs; whether it may is for the caller to ask.
        there: what lies beside the image.
        wanted: formats.
        annotations: what is said of the signature, beside its builder and its time.
    """
    said = {BUILDER: key.trusted.builder, **(annotations or {})}
    now = clock.now()
    dated = {**said, verify.SIGNED_AT: clock.rfc3339(now)}
    for one in wanted:
        requirements = Requirements(annotations=said, repository=name)
        try:
            held = verify.signature(
                of_format(there, one), image, [key.trusted], at=now, repository=name, requirements=requirements
            )
            if held.signed_at is not None and now - held.signed_at <= LASTS:
                continue
        except (NotVerifiedError, UndeterminedError):
            pass  # none that says this, or none that can be read: the image is signed once more
        if one == "tag":
            document = simple_signing.encode(name, image, dated)
            signature = key.signer.sign(document)
        else:
            document, signature = statement.attest(statement.image_signature(name, image, dated), key.signer), b""
        yield Signed(
            predicate_type=predicates.SIGNATURE,
            document=document,
            signature=signature,
            public=key.signer.public,
            builder=key.trusted.builder,
        )


def sign(
    workshop: Workshop, place: Place, key: SigningKey, annotations: Mapping[str, str] | None = None
) -> Digest | None:
    """Sign the image of `place`; digest of the manifest that holds its signatures.

    In a registry that is the one under the tag of cosign's; None when there is no such tag.

    Raises:
        RefusedError: the key may not sign this.
        NotFoundError: the store or the catalog does not know the image.
        NetworkError: the registry could not be asked, or refused.
        StorageError: the signature could not be written.
    """
    keyring.require_may_sign(key.trusted, predicates.SIGNATURE, at=clock.now(), repository=place.name)
    wanted = formats(workshop)
    made = signatures(place.name, place.image.digest, key, there=place.gathered, wanted=wanted, annotations=annotations)
    attach(workshop, place, list(made))
    if place.repository is None:
        return signature_of(attaching.stored(workshop, place.image.digest))
    tagged = attached.find(place.repository, place.image.digest, "sig")
    return tagged.digest if tagged else None


# Verifying


def verify_image(image: Place, trusted: Sequence[Voucher]) -> Verified:
    """The first signature by somebody trusted that holds for the image; raises as `verify.signature`."""
    return verify.signature(image.gathered, image.image.digest, trusted, at=clock.now(), repository=image.name)


def verify_attestations(image: Place, trusted: Sequence[Voucher], predicate_type: str) -> tuple[Attested, ...]:
    """What is attested by somebody trusted of the image in predicates of one type; raises as `verify.attestations`."""
    return verify.attestations(
        image.gathered, image.image.digest, predicate_type, trusted, at=clock.now(), repository=image.name
    )


def policy(workshop: Workshop, text: str, paths: Sequence[Path]) -> Trust:
    """The trust policy that `text` names: a file, or an environment with the keys in `paths`, else all of the home.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is malformed, or has keys of its own and `paths` names others.
    """
    for environment in trust.DEMANDED:
        if text == environment:
            return trust.for_environment(environment, ring(workshop, paths))
    if paths:
        raise InputError(f"{text} names its own keys", next_step="Leave out --key, or add the key to the file.")
    return trust.load(Path(text))


def verify_chain(workshop: Workshop, image: Place, trusted: Trust) -> Report:
    """Whether the image is to be trusted as `trusted` demands, step by step. A no of the home's own catalog counts.

    Raises `StorageError` when the catalog cannot be read.
    """
    digest, denied = image.image.digest, None
    if workshop.settings.database_url or workshop.settings.home.catalog.exists():
        denied = workshop.catalog.denied(digest, trusted.environment)
    return verify.chain(image.gathered, digest, trusted, at=clock.now(), repository=image.name, denied=denied)


def repair(workshop: Workshop, text: str) -> Sent:
    """Put back what this home attached to the image of a registry, and the registry lost.

    Raises:
        InputError: `text` names no image of a registry, or the registry does not have it.
        UndeterminedError: something is lost here, too.
        NetworkError: the registry could not be asked, or refused.
    """
    given = references.parse(text)
    if not isinstance(given, RegistryReference):
        raise InputError(f"{text} is in no registry", next_step="Name HOST/REPO:TAG, from which something was lost.")
    repository = connect(workshop, given)
    return sending.repair(workshop, repository, given.digest or repository.resolve(given.target).digest)
