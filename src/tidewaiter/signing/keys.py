"""Key pairs in cosign's files: ECDSA P-256, the private key sealed with a password.

Format: go-securesystemslib `encrypted` (scrypt, then NaCl secretbox) around PKCS#8 DER, in PEM.
"""

import base64
import hashlib
import re
import secrets
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import nacl.exceptions
import nacl.secret
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import key_folder

_LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"
_PEM = re.compile(
    rb"-----BEGIN (ENCRYPTED (?:SIGSTORE|COSIGN) PRIVATE KEY)-----\s+([A-Za-z0-9+/=\s]+?)-----END \1-----"
)
_SCRYPT_N = frozenset({32768, 65536, 131072})
_SCRYPT_MEMORY = 192 * limits.MIB  # 128 * N * r for the largest N, and some
_ALGORITHM = ec.ECDSA(hashes.SHA256())
_OVER_DIGEST = ec.ECDSA(utils.Prehashed(hashes.SHA256()))


class _ScryptParameters(msgspec.Struct, frozen=True):
    N: int
    r: int
    p: int


class _Kdf(msgspec.Struct, frozen=True):
    name: Literal["scrypt"]
    params: _ScryptParameters
    salt: bytes


class _Cipher(msgspec.Struct, frozen=True):
    name: Literal["nacl/secretbox"]
    nonce: bytes


class _Sealed(msgspec.Struct, frozen=True):
    kdf: _Kdf
    cipher: _Cipher
    ciphertext: bytes


class PublicKey:
    """An ECDSA P-256 public key; equal when the bits are."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        self.der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> Digest:
        """SHA-256 of the SubjectPublicKeyInfo in DER."""
        return digests.of(self.der)

    @property
    def pem(self) -> bytes:
        """The key as cosign's `.pub` file."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def holds(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` (ASN.1 DER) over SHA-256 of `data` was made by this key's private half."""
        return self.holds_over(signature, hashlib.sha256(data).digest())

    def holds_over(self, signature: bytes, sha256: bytes) -> bool:
        """As `holds`, for data whose SHA-256 (32 bytes) is known, so that many keys can be asked about long data."""
        try:
            self._key.verify(signature, sha256, _OVER_DIGEST)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"PublicKey({self.fingerprint})"


class Signer(Protocol):
    """Whatever signs with an ECDSA P-256 key: the key in memory, or a service that keeps it."""

    @property
    def public(self) -> PublicKey:
        """The public half of the key that signs."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Signature of SHA-256 of `data` in ASN.1 DER; differs from call to call."""
        ...


class PrivateKey:
    """An ECDSA P-256 private key in memory."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def sign(self, data: bytes) -> bytes:
        """Signature of SHA-256 of `data` in ASN.1 DER; differs from call to call."""
        return self._key.sign(data, _ALGORITHM)

    def seal(self, password: bytes) -> bytes:
        """The key as cosign's `.key` file, sealed with `password` (which may be empty)."""
        plain = self._key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        parameters = _ScryptParameters(N=65536, r=8, p=1)
        salt, nonce = secrets.token_bytes(32), secrets.token_bytes(24)
        box = nacl.secret.SecretBox(_derive(password, salt, parameters))
        sealed = _Sealed(
            kdf=_Kdf(name="scrypt", params=parameters, salt=salt),
            cipher=_Cipher(name="nacl/secretbox", nonce=nonce),
            ciphertext=box.encrypt(plain, nonce).ciphertext,
        )
        body = base64.b64encode(msgspec.json.encode(sealed)).decode()
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        return "\n".join([f"-----BEGIN {_LABEL}-----", *lines, f"-----END {_LABEL}-----", ""]).encode()

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.fingerprint})"


def _derive(password: bytes, salt: bytes, parameters: _ScryptParameters) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=parameters.N, r=parameters.r, p=parameters.p, maxmem=_SCRYPT_MEMORY, dklen=32
    )


def create() -> PrivateKey:
    """A new private key."""
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def open_sealed(data: bytes, password: bytes, *, source: str) -> PrivateKey:
    """The private key in the PEM `data`.

    Raises:
        InputError: not such a key, unusual parameters, or (code `wrong_password`) a wrong password.
    """
    make_new = "Name a private key that cosign or `tidewaiter key generate` wrote."
    match = _PEM.search(data)
    if match is None:
        raise InputError(f"{source} is not an encrypted cosign private key", next_step=make_new)
    try:
        sealed = msgspec.json.decode(base64.b64decode(b"".join(match[2].split()), validate=True), type=_Sealed)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is malformed: {error}", next_step=make_new) from error
    parameters = sealed.kdf.params
    if parameters.N not in _SCRYPT_N or parameters.r != 8 or parameters.p != 1:
        raise InputError(
            f"{source} wants scrypt with N={parameters.N}, r={parameters.r}, p={parameters.p}, which is not accepted",
            next_step="Import the key with cosign, which writes N=65536, r=8, p=1.",
        )
    if len(sealed.kdf.salt) != 32 or len(sealed.cipher.nonce) != 24:
        raise InputError(f"{source} has a salt or nonce of the wrong length", next_step=make_new)
    try:
        box = nacl.secret.SecretBox(_derive(password, sealed.kdf.salt, parameters))
        plain = box.decrypt(sealed.ciphertext, sealed.cipher.nonce)
    except nacl.exceptions.CryptoError as error:
        raise InputError(
            f"the password does not open {source}, or the file is damaged",
            next_step="Set COSIGN_PASSWORD to the key's password (empty, if it was made with an empty one).",
            code="wrong_password",
        ) from error
    try:
        key = serialization.load_der_private_key(plain, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{source} holds no PKCS#8 private key", next_step=make_new) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InputError(f"{source} is not an ECDSA P-256 key", next_step=make_new)
    return PrivateKey(key)


def load_private(path: Path, password: bytes) -> PrivateKey:
    """The private key in the file at `path`; errors as in `open_sealed`, and `NotFoundError`."""
    return open_sealed(key_folder.read_file(path), password, source=str(path))


def parse_public(data: bytes, *, source: str) -> PublicKey:
    """The public key in the PEM `data`; raises `InputError` when it is not ECDSA P-256."""
    name = "Name a `.pub` file that cosign or `tidewaiter key generate` wrote."
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{source} is not a public key in PEM", next_step=name) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InputError(f"{source} is not an ECDSA P-256 key", next_step=name)
    return PublicKey(key)


def load_public(path: Path) -> PublicKey:
    """The public key in the file at `path`; raises `NotFoundError` or `InputError`."""
    return parse_public(key_folder.read_file(path), source=str(path))
