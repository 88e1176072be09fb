"""Signatures without a key of one's own ("keyless"), verified: who signed is an identity in a short-lived certificate.

Fulcio gives whoever proves an identity to it (a person, a CI workflow) a certificate for minutes; Rekor, or a timestamp
authority, states that the signature was there while it lasted. The `sigstore` package verifies both against a trusted
root, which is a file or comes with the package. Nothing here opens a connection, and nothing is signed.

An identity is the one subject alternative name of the certificate and its OIDC issuer, compared character by character.
"""

import datetime as dt
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, MissingToolError, NotFoundError, NotVerifiedError
from tidewaiter.core.files import open_regular
from tidewaiter.signing import dsse
from tidewaiter.signing.keyring import Trusted, TrustedKey

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_EXTRA = "keyless"
_SHIPPED = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
"""Folder of the package with the roots of Sigstore's public service."""
_ISSUER: Final = "1.3.6.1.4.1.57264.1.8"
"""Fulcio's extension that names the OIDC issuer, as a DER string."""
_OLD_ISSUER: Final = "1.3.6.1.4.1.57264.1.1"
"""The same as bare text, in certificates from before 2023 and beside the newer one."""


class Root(msgspec.Struct, frozen=True):
    """Whom a Sigstore service consists of: certificate authorities, logs, timestamp authorities."""

    source: str
    """The file that it comes from, or the package."""
    verifier: Any
    """`sigstore.verify.Verifier`: a type of a package that may be missing."""


class TrustedIdentity(Trusted, frozen=True, kw_only=True):
    """An identity whose certificates are trusted, and how far."""

    kind: ClassVar[str] = "identity"

    san: str
    """Subject alternative name: a URI, or an e-mail address."""
    issuer: str
    """URL of the OIDC issuer that vouched for it."""
    root: Root

    @property
    def who(self) -> tuple[str, str]:
        """Whose signature it is, under whatever name."""
        return self.san, self.issuer

    @property
    def fingerprint(self) -> None:
        """None: each signature has a key of its own."""


Voucher = TrustedKey | TrustedIdentity
"""Somebody whose signatures count."""


class Proved(msgspec.Struct, frozen=True):
    """Who signed, and by when that was done."""

    makers: tuple[TrustedIdentity, ...]
    """At least one."""
    signed_at: dt.datetime
    """The earliest time that a log or a timestamp authority states; the certificate was valid then."""


def open_root(path: Path | None) -> Root:
    """The trusted root (Sigstore's `trusted_root.json`) in the file at `path`; None: the one of the public service.

    The latter is as old as the installed package. Nobody is asked for a newer one.

    Raises:
        MissingToolError: the extra `keyless` is not installed.
        NotFoundError: there is no such file.
        InputError: it is no trusted root.
    """
    try:
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier
        from sigstore_models.trustroot import v1 as trustroot
    except ImportError as error:
        raise MissingToolError(
            "signatures by certificate could not be checked: the package `sigstore` is not installed",
            next_step=f"Install it with `pip install tidewaiter[{_EXTRA}]`.",
        ) from error
    source = "the trusted root of the package `sigstore`" if path is None else str(path)
    data = _read(path)
    try:
        # The package raises its own errors, pydantic's and cryptography's.
        inner = trustroot.TrustedRoot.from_json(data)
        return Root(source, Verifier(trusted_root=TrustedRoot(inner)))
    except Exception as error:
        raise InputError(
            f"{source} is no trusted root: {str(error)[:300]}",
            next_step="Use the `trusted_root.json` of the Sigstore service that issued the certificates.",
            code="bad_trusted_root",
        ) from error


def _read(path: Path | None) -> bytes:
    if path is None:
        return (resources.files("sigstore") / "_store" / _SHIPPED / "trusted_root.json").read_bytes()
    try:
        with open_regular(path) as file:
            data = file.read(limits.TRUSTED_ROOT_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no trusted root {path}", next_step="Name a file that exists.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Check its permissions.") from error
    if len(data) > limits.TRUSTED_ROOT_BYTES:
        raise InputError(
            f"{path} has over {limits.TRUSTED_ROOT_BYTES} bytes, so it is no trusted root",
            next_step="Use the `trusted_root.json` of the Sigstore service that issued the certificates.",
            code="bad_trusted_root",
        )
    return data


def prove(document: bytes, envelope: dsse.Envelope, trusted: Sequence[TrustedIdentity]) -> Proved:
    """Who of `trusted` signed the bundle `document`, and when.

    1. Some identity is trusted.
    2. A log or a timestamp authority of the identity's root states when; the certificate was valid then, comes from a
       certificate authority of that root and is in a log of certificates; the log has the signature. It is over
       exactly the type and payload of the envelope.
    3. The certificate names the identity, and no other.
    4. `envelope` is what was verified: nothing was read in two ways.

    Args:
        document: a bundle that `bundle.parse` accepts, signed with a certificate.
        envelope: what was read from it.
        trusted: identities, of one root or several.

    Raises:
        NotVerifiedError: any of these does not hold.
    """
    # 1. Somebody is trusted.
    if not trusted:
        raise _invalid("it was signed with a certificate, and no identity is trusted")
    proofs: list[Proved] = []
    reasons: list[str] = []
    for root in {id(one.root): one.root for one in trusted}.values():
        try:
            proofs.append(_prove(document, envelope, root, [one for one in trusted if one.root is root]))
        except NotVerifiedError as error:
            reasons.append(error.message)
    if not proofs:
        raise _invalid("; ".join(reasons))
    return Proved(
        makers=tuple(maker for proof in proofs for maker in proof.makers),
        signed_at=min(proof.signed_at for proof in proofs),
    )


def _prove(document: bytes, envelope: dsse.Envelope, root: Root, trusted: Sequence[TrustedIdentity]) -> Proved:
    from sigstore.models import Bundle

    asked = _Asked(trusted)
    try:
        # 2. As Sigstore says; 3. by `asked`. Whatever the package stumbles over in hostile bytes does not hold.
        bundle = Bundle.from_json(document)
        verified = root.verifier.verify_dsse(bundle, asked)
        # Each is stated by somebody of the root: the call above fails unless it could verify them.
        times = [one.time for one in root.verifier._establish_time(bundle)]  # noqa: SLF001 - returned by nothing public
    except Exception as error:
        raise _invalid(f"its certificate does not hold: {str(error)[:200] or type(error).__name__}") from error
    # 4. What was verified is what is read.
    if verified != (envelope.payload_type, envelope.payload) or not asked.makers or not times:
        raise _invalid("it can be read in two ways")
    return Proved(makers=asked.makers, signed_at=min(times).astimezone(dt.UTC))


class _Asked:
    """What the package asks about a certificate that it found valid: whether it is of somebody who is trusted."""

    def __init__(self, trusted: Sequence[TrustedIdentity]) -> None:
        self.makers: tuple[TrustedIdentity, ...] = ()
        self._trusted = trusted

    def verify(self, cert: "Certificate") -> None:
        """Raises `ValueError` when nobody trusted is named."""
        who = _name(cert), _issuer(cert)
        self.makers = tuple(one for one in self._trusted if one.who == who)
        if not self.makers:
            raise ValueError(f"it is of {who[0]!a} by {who[1]!a}, who is not trusted")


def _name(certificate: "Certificate") -> str:
    """The one subject alternative name; raises `ValueError` or cryptography's `ExtensionNotFound`."""
    from cryptography import x509

    names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) != 1 or not isinstance(names[0], x509.RFC822Name | x509.UniformResourceIdentifier):
        raise ValueError("it does not name exactly one URI or e-mail address")
    return names[0].value


def _issuer(certificate: "Certificate") -> str:
    """The OIDC issuer; raises `ValueError` when there is none, or there are two that differ."""
    from cryptography import x509
    from cryptography.hazmat import asn1

    found: list[str] = []
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.UnrecognizedExtension):
            if extension.oid.dotted_string == _ISSUER:
                found.append(asn1.decode_der(str, extension.value.value))
            elif extension.oid.dotted_string == _OLD_ISSUER:
                found.append(extension.value.value.decode())
    if len(set(found)) != 1:
        raise ValueError("it does not name exactly one OIDC issuer")
    return found[0]


def _invalid(reason: str) -> NotVerifiedError:
    return NotVerifiedError(reason, next_step="Do not rely on what it says; check that the right identity is trusted.")
