"""Checkpoints (C2SP tlog-checkpoint): which log, how many entries, and the root over all of them, signed."""

import base64
import re
from collections.abc import Sequence

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.signing import strict_base64
from tidewaiter.signing.tlog import merkle, note
from tidewaiter.signing.tlog.note import LogKey, Signature, VerifierKey

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(msgspec.Struct, frozen=True):
    """The state of a log."""

    origin: str
    """The name of the log."""
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()
    """Further lines, of which nothing is understood."""

    def encode(self) -> str:
        """The text of the checkpoint, which is what is signed."""
        return "".join(
            f"{line}\n"
            for line in (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        )


class Opened(msgspec.Struct, frozen=True):
    """A checkpoint that its log signed."""

    checkpoint: Checkpoint
    log: Signature
    witnesses: tuple[Signature, ...]
    """By known witnesses, and all of them hold; `note.cosigned_at` says when."""


def parse(text: str) -> Checkpoint:
    """The checkpoint with this text; raises `InputError` when it is none."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise _malformed("it needs three lines or more, none of them empty")
    origin, size, encoded, *extensions = lines
    root = strict_base64.decode(encoded, "the root hash of the checkpoint")
    if not _SIZE.fullmatch(size) or int(size) > limits.LOG_SIZE:
        raise _malformed(f"its second line {size[:80]!r} is no number of entries")
    if len(root) != merkle.HASH_BYTES:
        raise _malformed(f"its third line {encoded[:80]!r} is no root hash")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def sign(checkpoint: Checkpoint, key: LogKey) -> bytes:
    """The checkpoint as a note signed by its log; raises `InputError` when it has the form of none."""
    text = checkpoint.encode()
    if parse(text) != checkpoint:
        raise _malformed("an origin or extension has several lines")
    return note.encode(text, [key.sign(text)])


def open_signed(
    data: bytes, log: VerifierKey, *, witnesses: Sequence[VerifierKey] = (), origin: str | None = None
) -> Opened:
    """The checkpoint in a signed note.

    1. It has the form of a note, and every signature by a known key holds.
    2. The log itself signed it, not only a witness.
    3. It has the form of a checkpoint.
    4. It is of the log that is asked for: `origin`, which is the name of the log's key if not given.

    Raises:
        InputError: it is no checkpoint; `LimitError`: it is too large.
        NotVerifiedError: a signature does not hold, the log's is not there, or it is of another log.
    """
    # 1.
    opened = note.open_note(data, [log, *witnesses])
    # 2.
    ours = [signature for signature in opened.verified if (signature.name, signature.key_id) == (log.name, log.key_id)]
    if not ours:
        raise NotVerifiedError(
            f"the checkpoint is not signed by {log.name}",
            next_step="Do not trust it; give the key of the log that it should be of.",
        )
    # 3.
    checkpoint = parse(opened.text)
    # 4.
    expected = log.name if origin is None else origin
    if checkpoint.origin != expected:
        raise NotVerifiedError(
            f"the checkpoint is of the log {checkpoint.origin[:100]!r}, not of {expected!r}",
            next_step="Give the checkpoint of the log that you ask about.",
        )
    return Opened(checkpoint, ours[0], tuple(signature for signature in opened.verified if signature not in ours))


def add_cosignatures(data: bytes, lines: bytes, log: VerifierKey, witnesses: Sequence[VerifierKey]) -> bytes:
    """The signed checkpoint with what known witnesses answered: signature lines, of which unknown ones are left out.

    A witness's newer signature replaces its older one.

    Raises:
        InputError: they are no checkpoint and no signature lines; `LimitError`: together they are too large.
        NotVerifiedError: a signature does not hold, or none is by a known witness.
    """
    text, before = note.split(data)
    _, both = note.split(data + lines)
    held = open_signed(note.encode(text, both), log, witnesses=witnesses).witnesses
    answered = [signature for signature in note.parse_signatures(lines.decode()) if signature in held]
    if not answered:
        raise NotVerifiedError(
            "none of the signatures is by a known witness", next_step="Give the key of the witness that was asked."
        )
    renewed = {(signature.name, signature.key_id) for signature in answered}
    kept = [signature for signature in before if (signature.name, signature.key_id) not in renewed]
    return note.encode(text, [*kept, *answered])


def _malformed(why: str) -> InputError:
    return InputError(f"this is no checkpoint of a log: {why}", next_step="Hand over a signed checkpoint, unchanged.")
