"""A private key that stays in a PKCS#11 token: a hardware module, a smart card, or software that acts as one.

A key is written as an RFC 7512 URI:

    pkcs11:token=image%20keys;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=env:TOKEN_PIN

The module is the vendor's code. It is loaded in a child process for each signature, which ends when it is late; it
gets the PIN through a pipe. What it signs counts only when it verifies under the token's public key.
"""

import hashlib
import importlib.util
import os
import re
import time
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tidewaiter.core import child, limits, settings
from tidewaiter.core.errors import InputError, MissingToolError, NotFoundError, UndeterminedError
from tidewaiter.signing import key_folder
from tidewaiter.signing.keys import PublicKey
from tidewaiter.signing.pkcs11_child import Answer, Request

SCHEME: Final = "pkcs11:"
FAILED = "key_token_failed"

_CHILD = ("-m", "tidewaiter.signing.pkcs11_child", str(limits.KEY_HOOK_BYTES))
_TOKEN = {"token": "label", "serial": "serial", "manufacturer": "manufacturer", "model": "model"}
_PATH = frozenset({*_TOKEN, "object", "id", "type"})
_QUERY = frozenset({"module-path", "pin-source"})
_ESCAPED = re.compile(r"(?:[^%\x00-\x20\x7f]|%[0-9A-Fa-f]{2})*")
_P256 = bytes.fromhex("06082a8648ce3d030107")
_POINT_BYTES = 65
_OCTET_STRING = bytes([0x04, _POINT_BYTES])
_HALF = 32


class Uri(msgspec.Struct, frozen=True, kw_only=True):
    """Which key of which token, through which module."""

    module: Path
    token: dict[str, str]
    label: str | None
    id: bytes | None
    pin_source: str
    """`env:VARIABLE`, `file:PATH`, an absolute path, or empty for a token that asks for no PIN."""


class Pkcs11Signer:
    """A `Signer` whose private half a token keeps."""

    def __init__(self, uri: Uri) -> None:
        """Learn the public key.

        Raises:
            MissingToolError: the extra `pkcs11` is not installed.
            NotFoundError: there is no such module, or nothing at the PIN's place.
            UndeterminedError: the token did not answer, or has not one such key.
        """
        self._uri = uri
        self.public = _public_key(_ask(uri, None))

    def sign(self, data: bytes) -> bytes:
        """Signature of SHA-256 of `data` in ASN.1 DER, which verifies; raises as the constructor."""
        raw = _ask(self._uri, hashlib.sha256(data).digest()).signature
        if len(raw) != 2 * _HALF:
            raise _failed(f"its signature has {len(raw)} bytes, not {2 * _HALF}")
        signature = utils.encode_dss_signature(int.from_bytes(raw[:_HALF], "big"), int.from_bytes(raw[_HALF:], "big"))
        if not self.public.holds(signature, data):
            raise _failed("its signature does not verify under its public key")
        return signature


def parse(text: str) -> Uri:
    """The key that an RFC 7512 URI names; its text is never shown in an error, should there be a PIN in it.

    Raises:
        InputError: it is malformed, ambiguous, or has an attribute that is not understood here.
    """
    path, _, query = text.removeprefix(SCHEME).partition("?")
    named, asked = _attributes(path, ";", _PATH), _attributes(query, "&", _QUERY)
    token = {_TOKEN[name]: _text(name, value) for name, value in named.items() if name in _TOKEN}
    if not token.keys() & {"label", "serial"} or not named.keys() & {"object", "id"}:
        raise _malformed("it must name one token (token or serial) and one key (object or id)")
    if named.get("type", b"private") != b"private":
        raise _malformed("its type is not private")
    module = Path(_text("module-path", asked.get("module-path", b"")))
    if not module.is_absolute():
        raise _malformed("it must name the module to load: module-path=/absolute/path.so")
    return Uri(
        module=module,
        token=token,
        label=_text("object", named["object"]) if "object" in named else None,
        id=named.get("id"),
        pin_source=_text("pin-source", asked.get("pin-source", b"")),
    )


def _attributes(text: str, separator: str, known: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise _malformed("a PIN in it can be read by others; say pin-source=env:VARIABLE or pin-source=/FILE")
        if name not in known:
            raise _malformed(f"{name[:40]!r} is not among {', '.join(sorted(known))}")
        if not equals or name in found or not _ESCAPED.fullmatch(value):
            raise _malformed(f"{name} is there twice, or its value is empty or not escaped")
        found[name] = unquote_to_bytes(value)
    return found


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise _malformed(f"{name} is no UTF-8") from error
    if "\0" in text:
        raise _malformed(f"{name} has a NUL in it")
    return text


def _pin(source: str) -> str | None:
    if not source:
        return None
    if source.startswith("env:"):
        value = settings.key_variable(source.removeprefix("env:"))
        if not value:
            raise NotFoundError(
                f"{source.removeprefix('env:')[:80]!r} is not set", next_step="Put the token's PIN into that variable."
            )
        return _text("pin", os.fsencode(value))
    path = Path(source.removeprefix("file:").removeprefix("//"))
    if not path.is_absolute():
        raise _malformed("its pin-source is neither env:VARIABLE nor the absolute path of a file")
    return _text("pin", key_folder.read_file(path).removesuffix(b"\n"))


def _ask(uri: Uri, digest: bytes | None) -> Answer:
    """What a child with the module answers."""
    if importlib.util.find_spec("pkcs11") is None:
        raise MissingToolError(
            "keys in PKCS#11 tokens need the library python-pkcs11, which is not installed",
            next_step="Run `pip install tidewaiter[pkcs11]`.",
        )
    if not uri.module.is_file():
        raise NotFoundError(f"there is no PKCS#11 module {uri.module}", next_step="Mend module-path in the key's URI.")
    request = Request(
        module=str(uri.module), token=uri.token, label=uri.label, id=uri.id, pin=_pin(uri.pin_source), digest=digest
    )
    deadline = time.monotonic() + limits.KEY_HOOK_SECONDS
    running = child.Child(_CHILD, failure=_failed, environment=settings.module_environment())
    try:
        running.send(msgspec.json.encode(request), deadline=deadline)
        data = running.receive(limits.KEY_HOOK_BYTES, deadline=deadline)
    finally:
        running.close()
    try:
        answer = msgspec.json.decode(data, type=Answer)
    except (ValueError, RecursionError) as error:
        raise _failed("it answered something odd") from error
    if answer.error:
        raise _failed("".join(c if c.isprintable() else " " for c in answer.error[:300]))
    return answer


def _public_key(answer: Answer) -> PublicKey:
    if answer.parameters != _P256:
        raise InputError("the token's key is not an ECDSA P-256 key", next_step="Name a P-256 key of the token.")
    # An OCTET STRING by the standard; some modules leave that off.
    point = answer.point.removeprefix(_OCTET_STRING) if len(answer.point) > _POINT_BYTES else answer.point
    try:
        return PublicKey(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
    except ValueError as error:
        raise _failed("its public key is no point of P-256") from error


def _failed(reason: str) -> UndeterminedError:
    return UndeterminedError(
        f"the key in the PKCS#11 token cannot be used: {reason}",
        next_step="Look at the token with `pkcs11-tool --list-objects --login`, and at its PIN, before trying again.",
        code=FAILED,
    )


def _malformed(why: str) -> InputError:
    return InputError(
        f"the PKCS#11 URI is not usable: {why}",
        next_step="Write pkcs11:token=…;object=…?module-path=/…&pin-source=env:…, as RFC 7512 has it.",
    )
