"""Proofs that an entry is in a log, for who has nothing but the log's key (C2SP tlog-proof)."""

import base64
import re
from collections.abc import Sequence

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError
from tidewaiter.signing import strict_base64
from tidewaiter.signing.tlog import checkpoint, merkle, note
from tidewaiter.signing.tlog.checkpoint import Opened
from tidewaiter.signing.tlog.note import VerifierKey

SUFFIX = ".tlog-proof"
_HEADER = "c2sp.org/tlog-proof@v1"
_EXTRA = "extra "
_INDEX = "index "
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


class Proof(msgspec.Struct, frozen=True):
    """Which entry, the hashes beside its way to the root, and the signed checkpoint with that root."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    """A signed note, as the log published it, with what witnesses signed."""
    extra: bytes | None = None
    """Anything; it is not proven by itself. Ours is the entry, whose hash is what is proven."""

    def encode(self) -> bytes:
        """The proof as text; raises `LimitError` when it is too large."""
        extra = [] if self.extra is None else [_EXTRA + base64.b64encode(self.extra).decode()]
        lines = [_HEADER, *extra, f"{_INDEX}{self.index}", *encode_hashes(self.hashes)]
        data = "\n".join([*lines, "", ""]).encode() + self.checkpoint
        if len(data) > limits.NOTE_BYTES:
            raise _too_large()
        return data


def encode_hashes(hashes: Sequence[bytes]) -> list[str]:
    """One line for each hash, without its end."""
    return [base64.b64encode(value).decode() for value in hashes]


def parse_hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    """The hashes in these lines; raises `InputError` when one has none, or there are too many."""
    hashes = tuple(strict_base64.decode(line, "a hash of the proof") for line in lines[: limits.LOG_PROOF_HASHES + 1])
    if len(hashes) > limits.LOG_PROOF_HASHES or any(len(value) != merkle.HASH_BYTES for value in hashes):
        raise _malformed("it has a hash that is not 32 bytes long, or too many")
    return hashes


def parse_number(text: str) -> int:
    """The number of entries, or of an entry; raises `InputError` when it is none that a log can have."""
    if not _NUMBER.fullmatch(text) or int(text) > limits.LOG_SIZE:
        raise _malformed(f"{text[:80]!r} is no number of an entry")
    return int(text)


def parse(data: bytes) -> Proof:
    """The proof with this text, nothing of it verified.

    Raises:
        InputError: it is none; `LimitError`: it is too large.
    """
    if len(data) > limits.NOTE_BYTES:
        raise _too_large()
    head, empty, signed = data.partition(b"\n\n")
    try:
        lines = head.decode().split("\n")
    except UnicodeDecodeError as error:
        raise _malformed("it is no UTF-8") from error
    if not empty or lines[0] != _HEADER:
        raise _malformed(f"its first line is not {_HEADER!r}, or it has no checkpoint")
    rest, extra = lines[1:], None
    if rest and rest[0].startswith(_EXTRA):
        extra = strict_base64.decode(rest.pop(0).removeprefix(_EXTRA), "the extra data of the proof")
    if not rest or not rest[0].startswith(_INDEX):
        raise _malformed("it does not say the number of the entry")
    checkpoint.parse(note.split(signed)[0])
    return Proof(parse_number(rest[0].removeprefix(_INDEX)), parse_hashes(rest[1:]), signed, extra)


def verify(
    proof: Proof, leaf: bytes, log: VerifierKey, *, witnesses: Sequence[VerifierKey] = (), quorum: int = 0
) -> Opened:
    """The checkpoint that proves the entry with the hash `leaf`.

    1. The log signed the checkpoint, and every known witness's signature on it holds.
    2. At least `quorum` of the known witnesses signed it.
    3. The entry is in the tree of that checkpoint.

    Raises:
        InputError: checkpoint or index are malformed.
        NotVerifiedError: the proof does not hold.
    """
    # 1.
    opened = checkpoint.open_signed(proof.checkpoint, log, witnesses=witnesses)
    # 2.
    seen = {(signature.name, signature.key_id) for signature in opened.witnesses}
    if len(seen) < quorum:
        raise NotVerifiedError(
            f"{len(seen)} of the {quorum} witnesses that are needed signed the checkpoint",
            next_step="Ask the log for a checkpoint that enough of them have signed.",
        )
    # 3.
    size = opened.checkpoint.size
    if proof.index >= size:
        raise NotVerifiedError(
            f"the proof is of entry {proof.index}, but its checkpoint is of {size} entries",
            next_step="Ask the log for another proof.",
        )
    merkle.verify_inclusion(leaf, proof.index, size, proof.hashes, opened.checkpoint.root)
    return opened


def _too_large() -> LimitError:
    return LimitError(f"the proof is over {limits.NOTE_BYTES} bytes", next_step="Hand over the proof of one entry.")


def _malformed(why: str) -> InputError:
    return InputError(f"this is no proof of a log: {why}", next_step=f"Hand over a `{SUFFIX}` file, unchanged.")
