"""Signed notes (C2SP signed-note): text, an empty line, and one line for each signature.

Keys are Ed25519, in the text forms of Go's `sumdb/note`. A log signs the text; a witness signs it with a time before
it (C2SP tlog-cosignature, v1).
"""

import base64
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import ClassVar, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError
from tidewaiter.signing import strict_base64

ED25519 = 0x01
COSIGNATURE = 0x04
"""Kinds of keys: the byte before the key's own bytes, which is hashed into its ID."""

_KEY_BYTES = 32
_ID_BYTES = 4
_TIME_BYTES = 8
_LATEST = 2**63 - 1
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_HEX_ID = re.compile(r"[0-9a-f]{8}")
_DASH = "\u2014 "
_PRIVATE = "PRIVATE+KEY+"

_NOT_A_NOTE = "Hand over a checkpoint or another signed note, unchanged."


class Signature(msgspec.Struct, frozen=True):
    """One signature line: who claims to have signed, and the signature without the key's ID."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        """The line as it stands in a note, with its end."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


class VerifierKey(msgspec.Struct, frozen=True):
    """The public key of a log or a witness, with its name; `str` gives its text, a "vkey"."""

    name: str
    kind: int
    """`ED25519` or `COSIGNATURE`."""
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand in signatures of this key."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    def holds(self, text: bytes, value: bytes) -> bool:
        """Whether `value` is this key's signature of a note's text."""
        if self.kind == COSIGNATURE:
            seconds, value = int.from_bytes(value[:_TIME_BYTES], "big"), value[_TIME_BYTES:]
            if seconds > _LATEST:
                return False
            text = _cosigned(text, seconds)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(value, text)
        except InvalidSignature:
            return False
        return True


class Note(msgspec.Struct, frozen=True):
    """A note of which at least one signature by a known key holds."""

    text: str
    """What is signed, with the end of its last line."""
    verified: tuple[Signature, ...]
    """By known keys, and all of them hold."""
    others: tuple[Signature, ...]
    """By unknown keys; nothing is known of them."""


class _PrivateKey:
    """An Ed25519 private key with a name."""

    kind: ClassVar[int]

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        _check_name(name)
        self._key = key
        self.vkey = VerifierKey(name, self.kind, key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> Self:
        """A new key of this name; raises `InputError` when it is no name for a key."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `secret` wrote; raises `InputError` for anything else, without showing it."""
        if text.startswith(_PRIVATE):
            name, key_id, data = _parts(text.removeprefix(_PRIVATE), cls.kind, "private key of a log or witness")
            key = cls(name, Ed25519PrivateKey.from_private_bytes(data))
            if key.vkey.key_id == key_id:
                return key
        raise InputError(
            "this is no private key of a log or witness, or a damaged one",
            next_step=f"It begins with `{_PRIVATE}`; restore it from a backup.",
        )

    @property
    def secret(self) -> str:
        """The private key as one line of text without its end. Whoever reads it can sign."""
        data = base64.b64encode(bytes([self.kind]) + self._key.private_bytes_raw()).decode()
        return f"{_PRIVATE}{self.vkey.name}+{self.vkey.key_id.hex()}+{data}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vkey})"

    def _signature(self, value: bytes) -> Signature:
        return Signature(self.vkey.name, self.vkey.key_id, value)


class LogKey(_PrivateKey):
    """The key with which a log signs its checkpoints."""

    kind = ED25519

    def sign(self, text: str) -> Signature:
        """The signature of a note's text; raises `InputError` for text that no note can have."""
        return self._signature(self._key.sign(_encoded(text)))


class WitnessKey(_PrivateKey):
    """The key with which a witness says what it saw of a log, and when."""

    kind = COSIGNATURE

    def cosign(self, text: str, seconds: int) -> Signature:
        """The signature of a checkpoint's text at a Unix time; raises `InputError` for text that no note can have."""
        value = self._key.sign(_cosigned(_encoded(text), seconds))
        return self._signature(seconds.to_bytes(_TIME_BYTES, "big") + value)


def cosigned_at(signature: Signature) -> int:
    """The Unix time that a witness put into its signature, which must have been verified."""
    return int.from_bytes(signature.value[:_TIME_BYTES], "big")


def parse_vkey(text: str) -> VerifierKey:
    """The public key in the text form of Go's `sumdb/note`, of a log or of a witness; raises `InputError`."""
    name, key_id, data = _parts(text, None, "public key of a log or witness")
    key = VerifierKey(name, data[0], data[1:])
    if key.key_id != key_id:
        raise InputError(
            f"the key of {name} has the ID {key_id.hex()}, but by its name and bits it is {key.key_id.hex()}",
            next_step="Copy the whole key again from who publishes it.",
        )
    return key


def encode(text: str, signatures: Sequence[Signature]) -> bytes:
    """The note with these signatures; raises `InputError` for text that no note can have."""
    return _encoded(text) + b"\n" + "".join(signature.line for signature in signatures).encode()


def open_note(data: bytes, known: Sequence[VerifierKey]) -> Note:
    """The text of a note and who signed it, of those whose keys are given.

    1. It has the form of a note.
    2. Signatures by keys that are not known are ignored.
    3. Every signature by a known key holds.
    4. There is at least one.

    Raises:
        InputError: it is no note; `LimitError`: it is too large.
        NotVerifiedError: a known key's signature does not hold, or there is none.
    """
    # 1.
    text, signatures = split(data)
    # 2.
    keys = {(key.name, key.key_id): key for key in known}
    if len(keys) != len(set(known)):
        raise InputError("two of the known keys have one name and one ID", next_step="Give the right one of them.")
    verified = [signature for signature in signatures if (signature.name, signature.key_id) in keys]
    others = [signature for signature in signatures if (signature.name, signature.key_id) not in keys]
    # 3.
    for signature in verified:
        if not keys[signature.name, signature.key_id].holds(text.encode(), signature.value):
            raise NotVerifiedError(
                f"the signature of {signature.name} does not hold: the note was changed or is forged",
                next_step="Do not trust it, and ask where it comes from.",
            )
    # 4.
    if not verified:
        raise NotVerifiedError(
            f"the note is signed by none of {', '.join(key.name for key in known) or 'no known keys'}",
            next_step="Give the key of who should have signed it.",
        )
    return Note(text, tuple(verified), tuple(others))


def split(data: bytes) -> tuple[str, tuple[Signature, ...]]:
    """Text and signatures of a note, none of them verified, each line once.

    Raises:
        InputError: it is no note; `LimitError`: it is too large.
    """
    if len(data) > limits.NOTE_BYTES:
        raise LimitError(f"the signed note is over {limits.NOTE_BYTES} bytes", next_step=_NOT_A_NOTE)
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise _malformed("it is no UTF-8") from error
    if _CONTROL.search(whole):
        raise _malformed("it has control characters")
    before, empty, after = whole.rpartition("\n\n")
    if not empty:
        raise _malformed("no empty line stands before its signatures")
    return before + "\n", parse_signatures(after)


def parse_signatures(lines: str) -> tuple[Signature, ...]:
    """Signature lines, each once, at least one, none of them verified; raises `InputError` for anything else."""
    if not lines.endswith("\n"):
        raise _malformed("its last line has no end, or there is no signature")
    found = lines[:-1].split("\n")
    if len(found) > limits.NOTE_SIGNATURES:
        raise LimitError(f"the note has over {limits.NOTE_SIGNATURES} signatures", next_step=_NOT_A_NOTE)
    return tuple(dict.fromkeys(map(_signature, found)))


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    data = strict_base64.decode(encoded, "a signature of the note")
    if not line.startswith(_DASH) or not _is_name(name) or len(data) <= _ID_BYTES:
        raise _malformed(f"{line[:80]!r} is no signature line")
    return Signature(name, data[:_ID_BYTES], data[_ID_BYTES:])


def _cosigned(text: bytes, seconds: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % seconds + text


def _encoded(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise _malformed("its text is not Unicode") from error
    if not text.endswith("\n") or _CONTROL.search(text):
        raise _malformed("its text does not end with a line, or has control characters")
    return data


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def _check_name(name: str) -> None:
    long = len(name) > limits.NOTE_NAME_CHARACTERS
    if long or not _is_name(name) or not name.isprintable():
        raise InputError(
            f"{name[:80]!r} is no name for the key of a log or witness",
            next_step="Use an address without `https://`, such as `example.com/log`: no spaces and no `+`.",
        )


def _parts(text: str, kind: int | None, what: str) -> tuple[str, bytes, bytes]:
    """Name, key ID and key of a key's text; the key begins with its kind when `kind` is not given."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    data = strict_base64.decode(encoded, f"the {what}")
    kinds = (ED25519, COSIGNATURE) if kind is None else (kind,)
    if not _HEX_ID.fullmatch(key_id) or len(data) != 1 + _KEY_BYTES or data[0] not in kinds:
        raise InputError(f"this is no Ed25519 {what}", next_step="It has the form NAME+ID+KEY, all in one line.")
    _check_name(name)
    return name, bytes.fromhex(key_id), data if kind is None else data[1:]


def _malformed(why: str) -> InputError:
    return InputError(f"this is no signed note: {why}", next_step=_NOT_A_NOTE)
