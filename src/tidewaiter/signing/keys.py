"""Key pairs in cosign's files: ECDSA P-256, the private key sealed with a password.

Format: go-securesystemslib `encrypted` (scrypt, then NaCl secretbox) around PKCS#8 DER, in PEM. Beside the two
files lies `NAME.json`, the marks: which builder may use the key, since when, and its fingerprint.
"""

import base64
import hashlib
import re
import secrets
from pathlib import Path
from typing import Literal

import msgspec
import nacl.exceptions
import nacl.secret
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

_LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"
_PEM = re.compile(
    rb"-----BEGIN (ENCRYPTED (?:SIGSTORE|COSIGN) PRIVATE KEY)-----\s+([A-Za-z0-9+/=\s]+?)-----END \1-----"
)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SCRYPT_N = frozenset({32768, 65536, 131072})
_SCRYPT_MEMORY = 192 * limits.MIB  # 128 * N * r for the largest N, and some
_ALGORITHM = ec.ECDSA(hashes.SHA256())


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


class Marks(msgspec.Struct, frozen=True):
    """What is known of a key besides its bits."""

    builder: str
    """Who may use it; `local` is a developer's own machine, which production refuses."""
    created: str
    """RFC 3339."""
    fingerprint: Digest


class KeyFiles(msgspec.Struct, frozen=True):
    """Where the files of one key pair lie, and the fingerprint of its public key."""

    private: Path
    public: Path
    marks: Path
    fingerprint: Digest


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
        try:
            self._key.verify(signature, data, _ALGORITHM)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"PublicKey({self.fingerprint})"


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


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no key file {path}", next_step="Make a key pair with `tidewaiter key generate`."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Check its permissions.") from error
    if len(data) > limits.KEY_FILE_BYTES:
        raise InputError(f"{path} is over {limits.KEY_FILE_BYTES} bytes", next_step="Name a key file.")
    return data


def create() -> PrivateKey:
    """A new private key."""
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def files(directory: Path, name: str) -> tuple[Path, Path, Path]:
    """Where private key, public key and marks of `name` lie; raises `InputError` for an unsafe name."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:80]!r} is not a key name", next_step="Use up to 64 lower-case letters, digits, `.`, `_` and `-`."
        )
    return directory / f"{name}.key", directory / f"{name}.pub", directory / f"{name}.json"


def generate(directory: Path, name: str, password: bytes, *, builder: str) -> KeyFiles:
    """Make a key pair and write it; the private file is readable by its owner only.

    Raises:
        InputError: there is such a key already; it stays as it is.
        StorageError: the disk refused.
    """
    private, public, marks = files(directory, name)
    with durable.exclusive(directory / ".lock"):
        if private.exists():
            raise InputError(
                f"{private} exists and is not replaced",
                next_step="Choose another name, or move the old key away first: what it signed needs its public half.",
                code="key_exists",
            )
        key = create()
        fingerprint = key.public.fingerprint
        about = Marks(builder=builder, created=clock.rfc3339(clock.now()), fingerprint=fingerprint)
        durable.write_atomically(marks, msgspec.json.format(msgspec.json.encode(about)) + b"\n")
        durable.write_atomically(public, key.public.pem)
        # Last, so that a private key on disk always has its other two files.
        durable.write_atomically(private, key.seal(password), mode=0o600)
    return KeyFiles(private=private, public=public, marks=marks, fingerprint=fingerprint)


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
    return open_sealed(_read(path), password, source=str(path))


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
    return parse_public(_read(path), source=str(path))


def load_marks(path: Path) -> Marks:
    """The marks in the file at `path`; raises `NotFoundError` or `InputError`."""
    try:
        return msgspec.json.decode(_read(path), type=Marks)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is malformed: {error}", next_step="Restore it from a backup, or generate a new key."
        ) from error
