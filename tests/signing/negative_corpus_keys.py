"""Negative corpus, before any step: key files that are not what cosign writes. None is ever loaded."""

import base64
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from negative_corpus_world import NOW

from tidewaiter.signing import keys

PASSWORD = b"pass word"
KEY = keys.create()
SEALED = KEY.seal(PASSWORD)
PEM = serialization.Encoding.PEM
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def _document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(b"".join(SEALED.split(b"\n")[1:-2])))
    return found


def _file(document: object, label: str = "ENCRYPTED SIGSTORE PRIVATE KEY") -> bytes:
    text = base64.b64encode(json.dumps(document).encode()).decode()
    return f"-----BEGIN {label}-----\n{text}\n-----END {label}-----\n".encode()


def _kdf(**changes: Any) -> bytes:
    """The sealed key with other parts of `kdf`."""
    document = _document()
    return _file({**document, "kdf": {**document["kdf"], **changes}})


def _scrypt(**changes: Any) -> bytes:
    """The sealed key with other parameters of scrypt."""
    return _kdf(params={**_document()["kdf"]["params"], **changes})


def _plain(key: Any) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(PEM, form, serialization.NoEncryption()))


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ci")])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW.replace(year=2025), NOW.replace(year=2027))
    return built.sign(key, hashes.SHA256()).public_bytes(PEM)


SEALED_CASES: dict[str, bytes] = {
    "scrypt with N of 1": _scrypt(N=1),
    "scrypt with N of 16384, which is too weak": _scrypt(N=16_384),
    "scrypt with N of 2^40, which is too much to compute": _scrypt(N=2**40),
    "scrypt with N that is no power of two": _scrypt(N=65_537),
    "scrypt with a negative N": _scrypt(N=-65_536),
    "scrypt with N that is a text": _scrypt(N="65536"),
    "scrypt with N that is a fraction": _scrypt(N=65_536.5),
    "scrypt with r of 2^20": _scrypt(r=2**20),
    "scrypt with r of 1": _scrypt(r=1),
    "scrypt with p of 2^20": _scrypt(p=2**20),
    "scrypt with p of 0": _scrypt(p=0),
    "scrypt without parameters": _kdf(params={}),
    "another derivation": _kdf(name="pbkdf2"),
    "no derivation": _kdf(name="none"),
    "a short salt": _kdf(salt="AAAA"),
    "an empty salt": _kdf(salt=""),
    "another cipher": _file({**_document(), "cipher": {"name": "none", "nonce": "A" * 32}}),
    "a short nonce": _file({**_document(), "cipher": {"name": "nacl/secretbox", "nonce": "AAAA"}}),
    "an empty ciphertext": _file({**_document(), "ciphertext": ""}),
    "a ciphertext with one byte changed": _file(
        {
            **_document(),
            "ciphertext": base64.b64encode(b"\0" + base64.b64decode(_document()["ciphertext"])[1:]).decode(),
        }
    ),
    "another label": _file(_document(), "ENCRYPTED PRIVATE KEY"),
    "no encryption": _plain(ec.generate_private_key(ec.SECP256R1())),
}
"""Private keys; each would be opened by the right password if it were taken as it is."""

PUBLIC_CASES: dict[str, bytes] = {
    "of P-384": ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(PEM, SPKI),
    "of secp256k1": ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(PEM, SPKI),
    "of RSA": rsa.generate_private_key(65537, 2048).public_key().public_bytes(PEM, SPKI),
    "of Ed25519": ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(PEM, SPKI),
    "that is a private key": _plain(ec.generate_private_key(ec.SECP256R1())),
    "that is a sealed private key": SEALED,
    "that is a certificate": _certificate(),
    "that is a point off the curve": (
        b"-----BEGIN PUBLIC KEY-----\n"
        + base64.b64encode(KEY.public.der[:-1] + bytes([KEY.public.der[-1] ^ 1]))
        + b"\n-----END PUBLIC KEY-----\n"
    ),
    "that is cut short": KEY.public.pem[:-40],
    "without PEM": KEY.public.der,
    "that is empty": b"",
}
"""Public keys that a trust policy could name."""
