"""Steps: sign an image of the store, and verify what anybody signed."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidewaiter.catalog.records import SignatureRecord
from tidewaiter.core import clock, durable
from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError, UndeterminedError
from tidewaiter.distribution import attached
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines.images import connect, store_reference, stored_signature
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import cosign, keys, verify
from tidewaiter.signing.keys import Marks, PrivateKey, PublicKey
from tidewaiter.signing.verify import Verified

KEY_NAME = "tidewaiter"
"""Name of the key that is used when none is named."""


class SigningKey(msgspec.Struct, frozen=True):
    """An opened private key and who holds it."""

    key: PrivateKey
    marks: Marks


def open_key(workshop: Workshop, name: str, password: bytes) -> SigningKey:
    """The key `name` of the home.

    Raises:
        NotFoundError: there is no such key.
        InputError: the password is wrong or the file is malformed.
    """
    private, _public, marks = keys.files(workshop.settings.home.keys, name)
    if not private.exists():
        raise NotFoundError(f"there is no key {name!r}", next_step="Make one with `tidewaiter key generate`.")
    return SigningKey(key=keys.load_private(private, password), marks=keys.load_marks(marks))


def require_password(workshop: Workshop) -> bytes:
    """`COSIGN_PASSWORD`; raises `InputError` when it is unset, so that no key is ever opened or made by accident."""
    password = workshop.settings.key_password
    if password is None:
        raise InputError(
            "COSIGN_PASSWORD is not set", next_step="Set it to the key's password; empty means a key without password."
        )
    return password


def trusted_keys(workshop: Workshop, paths: Sequence[Path]) -> list[PublicKey]:
    """The public keys in `paths`, else all of the home."""
    chosen = list(paths) or sorted(workshop.settings.home.keys.glob("*.pub"))
    return [keys.load_public(path) for path in chosen]


def sign(workshop: Workshop, name: str, image: Digest, signer: SigningKey) -> Descriptor:
    """Sign an image of the store in cosign's format and record it; returns the signature manifest's descriptor.

    Raises:
        NotFoundError: the store or the catalog does not know the image.
        StorageError: the signature could not be written.
    """
    locks = workshop.settings.home.cache / "signing"
    # Two that sign at once would each keep the signatures that both found, and one would lose the other's.
    with durable.exclusive(locks / f"{digests.hexadecimal(image)}.lock"):
        try:
            existing = stored_signature(workshop, image)
        except (NotFoundError, IntegrityError):
            workshop.progress.note(
                f"the stored signatures of {image[:19]} are lost or damaged; only the new one stands"
            )
            existing = None
        written = cosign.sign(
            workshop.store,
            image,
            repository_identity=name,
            key=signer.key,
            annotations={"dev.tidewaiter.builder": signer.marks.builder},
            existing=existing,
        )
        workshop.catalog.record_signature(
            SignatureRecord(
                digest=image,
                key_fingerprint=signer.key.public.fingerprint,
                builder=signer.marks.builder,
                manifest_digest=written.digest,
                created=clock.now(),
                format="tag",
            )
        )
    return written


def verify_image(workshop: Workshop, text: str, trusted: Sequence[PublicKey]) -> tuple[Digest, Verified]:
    """The image that `text` names, and the signature by a trusted key that holds for it.

    Raises:
        NotVerifiedError: there is no signature, or none holds.
        UndeterminedError: it could not be found out.
        InputError: `text` names an archive or layout, which carry no signatures.
    """
    given = references.parse(text)
    if isinstance(given, StoreReference):
        found = store_reference(workshop, given)
        try:
            signature = stored_signature(workshop, found.digest)
        except (NotFoundError, IntegrityError) as error:
            # The catalog says that there is one; storage that lost it says nothing about who signed.
            raise UndeterminedError(error.message, next_step=error.next_step, code=verify.UNREADABLE) from error
        return found.digest, verify.verify(workshop.store, found.digest, signature, trusted)
    if isinstance(given, RegistryReference):
        repository = connect(workshop, given)
        digest = given.digest or repository.resolve(given.target).digest
        return digest, verify.verify(repository, digest, attached.find(repository, digest, "sig"), trusted)
    raise InputError(
        f"{text} is a file or folder, which carries no signatures",
        next_step="Verify the image in the store (NAME:TAG) or in a registry (HOST/REPO:TAG).",
    )
