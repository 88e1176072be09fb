"""Signatures of OPA bundles: `.signatures.json`, as OPA's documentation of bundles and its `opa sign` have them.

It holds one JSON Web Token (RFC 7515, compact) whose payload lists every other file of the bundle with its digest.
Digests of `data.json` and `.manifest` are those of their values: object keys sorted, no blanks, numbers as written.

What is accepted:

1. exactly one token, whose algorithm is one that fits the kind of a trusted key; the key chooses, never the token,
2. its signature, by one of the trusted keys,
3. no scope, since none is asked for,
4. every file of the bundle is listed, with a digest that is its own, and nothing else is.

Times in the token are passed over, as OPA does.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError, NotVerifiedError
from tidewaiter.core.files import open_regular
from tidewaiter.policy.bundle import SIGNATURES

_NEXT = "Take the bundle from whoever signs it, or name their key in TIDEWAITER_POLICY_KEYS."
_KEY_NEXT = "Name a PEM file with a public key (P-256, P-384, P-521, or RSA), or a file with a shared secret."
_SECRET = 32
_RSA = 2048
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"secp256r1": ("ES256", 32), "secp384r1": ("ES384", 48), "secp521r1": ("ES512", 66)}
_DIGESTS = {"SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512", "SHA-512-256": "sha512_256"}
"""OPA knows weaker ones too, which prove nothing."""


class Key(msgspec.Struct, frozen=True):
    """A key that may have signed a bundle: a public one, or a secret that both sides hold."""

    secret: bytes = b""
    public: Any = None
    """A public key of `cryptography`; None for a secret."""

    def holds(self, algorithm: str, data: bytes, signature: bytes) -> bool:
        """Whether it made the signature, by an algorithm of its own kind."""
        size, public = algorithm[2:], self.public
        if size not in _HASHES:
            return False
        if public is None:
            made = hmac.digest(self.secret, data, f"sha{size}")
            return algorithm[:2] == "HS" and hmac.compare_digest(made, signature)
        try:
            if isinstance(public, ec.EllipticCurvePublicKey):
                return _elliptic(public, algorithm, data, signature)
            kind = {"RS": padding.PKCS1v15(), "PS": padding.PSS(padding.MGF1(_HASHES[size]), _HASHES[size].digest_size)}
            if algorithm[:2] not in kind:
                return False
            public.verify(signature, data, kind[algorithm[:2]], _HASHES[size])
        except InvalidSignature:
            return False
        return True


def _elliptic(public: ec.EllipticCurvePublicKey, algorithm: str, data: bytes, signature: bytes) -> bool:
    name, size = _CURVES[public.curve.name]
    if algorithm != name or len(signature) != 2 * size:
        return False
    first, second = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
    public.verify(encode_dss_signature(first, second), data, ec.ECDSA(_HASHES[algorithm[2:]]))
    return True


class Trust(msgspec.Struct, frozen=True):
    """Whose bundles are taken."""

    keys: tuple[Key, ...]
    required: bool = True
    """Whether a pack without a signature is refused; one that is wrong always is."""


def trust(files: Sequence[Path], *, required: bool = True) -> Trust | None:
    """Trust in the keys in `files`; None without any.

    Raises:
        NotFoundError: a file is not there.
        InputError: a file holds no key that is good for this.
    """
    return Trust(tuple(map(load_key, files)), required) if files else None


def load_key(path: Path) -> Key:
    """The key in a file: a public one in PEM, else the file's bytes are the secret; raises as `trust` does."""
    try:
        with open_regular(path) as file:
            data = file.read(limits.KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no key file {path}", next_step=_KEY_NEXT) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step=_KEY_NEXT) from error
    if len(data) > limits.KEY_FILE_BYTES:
        raise InputError(f"{path} is over {limits.KEY_FILE_BYTES} bytes", next_step=_KEY_NEXT)
    if b"-----BEGIN" not in data:
        # Whoever knows a guessable secret writes bundles (RFC 7518, 3.2).
        if len(data) < _SECRET:
            raise InputError(f"{path}: a secret has {_SECRET} bytes at least", next_step=_KEY_NEXT)
        return Key(secret=data)
    try:
        public = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        # Never a secret: what is public, or names a private key, would let anybody sign.
        raise InputError(f"{path} holds no public key", next_step=_KEY_NEXT) from error
    curve = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES
    if not curve and not (isinstance(public, rsa.RSAPublicKey) and public.key_size >= _RSA):
        raise InputError(f"{path} holds a key of another kind, or one that is too short", next_step=_KEY_NEXT)
    return Key(public=public)


# Checking


class _Signatures(msgspec.Struct, frozen=True):
    signatures: tuple[str, ...]
    plugin: str = ""


class _Header(msgspec.Struct, frozen=True):
    alg: str
    crit: Any = None


class _File(msgspec.Struct, frozen=True):
    name: str
    hash: str
    algorithm: str


class _Payload(msgspec.Struct, frozen=True):
    files: tuple[_File, ...]
    scope: str = ""


def check(document: bytes | None, files: Mapping[str, bytes], trusted: Trust, *, source: str) -> None:
    """Refuse a bundle unless one of the trusted keys signed exactly these files.

    Args:
        document: its `.signatures.json`; None when it has none.
        files: contents of all other files by path.
        trusted: whose bundles are taken.
        source: names the bundle in errors.

    Raises:
        NotVerifiedError: it is not signed, by nobody who is trusted, or was changed.
        InputError: the signature is malformed.
    """
    if document is None:
        if trusted.required:
            raise NotVerifiedError(f"{source} is not signed", next_step=_NEXT, code="unsigned_pack")
        return
    payload = _proven(document, trusted.keys, source)
    # 3.
    if payload.scope:
        raise NotVerifiedError(
            f"{source} was signed for the scope {payload.scope[:100]!r}", next_step=_NEXT, code="unsigned_pack"
        )
    # 4.
    listed = {file.name.removeprefix("/"): file for file in payload.files}
    if len(listed) != len(payload.files) or listed.keys() != files.keys():
        odd = sorted(listed.keys() ^ files.keys())[:3] or ["a name that stands there twice"]
        raise NotVerifiedError(
            f"{source}: its signature is about other files than are in it: {', '.join(odd)[:200]}",
            next_step=_NEXT,
            code="unsigned_pack",
        )
    for name, content in files.items():
        if _digest(name, content, listed[name].algorithm, source) != listed[name].hash.lower():
            raise NotVerifiedError(f"{source}: {name} was changed after signing", next_step=_NEXT, code="unsigned_pack")


def _proven(document: bytes, keys: Sequence[Key], source: str) -> _Payload:
    """What one of the keys signed; raises as `check` does."""
    # 1.
    signed = _decoded(document, _Signatures, source)
    if len(signed.signatures) != 1 or signed.plugin:
        raise _malformed(source, "it holds more or less than one token, or one of a plugin")
    parts = signed.signatures[0].split(".")
    if len(parts) != 3:
        raise _malformed(source, "it holds no compact token")
    header = _decoded(_unpadded(parts[0], source), _Header, source)
    if header.crit is not None:
        raise _malformed(source, "the token has extensions that are not known here")
    # 2.
    data, signature = ".".join(parts[:2]).encode(), _unpadded(parts[2], source)
    if not any(key.holds(header.alg, data, signature) for key in keys):
        raise NotVerifiedError(
            f"{source}: none of the trusted keys made its signature ({header.alg[:20]!r})",
            next_step=_NEXT,
            code="unsigned_pack",
        )
    return cast("_Payload", _decoded(_unpadded(parts[1], source), _Payload, source))


def _malformed(source: str, what: str) -> InputError:
    return InputError(f"{source}: {SIGNATURES}: {what}", next_step=_NEXT, code="bad_pack")


def _decoded(data: bytes, kind: Any, source: str) -> Any:  # noqa: ANN401  # each caller names its own
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise _malformed(source, str(error)) from error


def _unpadded(text: str, source: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed(source, f"a part of the token is not base64url: {error}") from error


# Digests


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def _digest(name: str, content: bytes, algorithm: str, source: str) -> str:
    """Digest of a file in hexadecimal, as OPA takes it; raises as `check` does."""
    if algorithm not in _DIGESTS:
        raise NotVerifiedError(
            f"{source}: {name} is signed by {algorithm[:20]!r}, which is not accepted",
            next_step="Sign with SHA-256, as `opa sign` does.",
            code="unsigned_pack",
        )
    if PurePosixPath(name).name in {"data.json", ".manifest"}:
        try:
            value = json.loads(content.decode(), parse_int=_Number, parse_float=_Number, parse_constant=_no_number)
            content = b"".join(_walk(value))
        except (ValueError, RecursionError) as error:
            raise _malformed(source, f"{name} is no JSON: {error}") from error
    return hashlib.new(_DIGESTS[algorithm], content).hexdigest()


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _walk(value: object) -> list[bytes]:
    """The pieces that OPA hashes."""
    if isinstance(value, dict):
        pieces = [b"{"]
        for place, key in enumerate(sorted(value, key=str.encode)):
            pieces += [b"," * (place > 0), _text(key), b":", *_walk(value[key])]
        return [*pieces, b"}"]
    if isinstance(value, list):
        pieces = [b"["]
        for place, item in enumerate(value):
            pieces += [b"," * (place > 0), *_walk(item)]
        return [*pieces, b"]"]
    if isinstance(value, _Number):
        return [value.encode()]
    return [_text(value)] if isinstance(value, str) else [json.dumps(value).encode()]


def _text(text: str) -> bytes:
    """A string as Go's encoder writes it without HTML escapes; raises `ValueError` for what is no Unicode."""
    escaped = json.dumps(text, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return escaped.encode()


# Signing


def document(files: Mapping[str, bytes], sign: Callable[[bytes], bytes], *, key_id: str) -> bytes:
    """`.signatures.json` of a bundle of `files`, signed by ES256.

    Args:
        files: contents of all files by path.
        sign: makes an ECDSA signature in DER with a key on P-256.
        key_id: name under which OPA's configuration knows the key.
    """
    listed = [
        {"name": name, "hash": _digest(name, content, "SHA-256", "the bundle"), "algorithm": "SHA-256"}
        for name, content in sorted(files.items())
    ]
    header = {"alg": "ES256", "kid": key_id, "typ": "JWT"}
    data = b".".join(_packed(msgspec.json.encode(part)) for part in (header, {"files": listed}))
    halves = (half.to_bytes(32, "big") for half in decode_dss_signature(sign(data)))
    token = b".".join((data, _packed(b"".join(halves))))
    return msgspec.json.format(msgspec.json.encode({"signatures": [token.decode()]}), indent=2)


def _packed(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
