"""A witness (C2SP tlog-witness): it signs a log's checkpoints as long as each goes on from the one before.

Its memory is one file for each log: the last checkpoint that it signed, with its signature. Who loses that file loses
what the witness is good for.
"""

from hashlib import sha256
from pathlib import Path

import msgspec

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.signing.tlog import checkpoint, merkle, note, proof
from tidewaiter.signing.tlog.checkpoint import Checkpoint
from tidewaiter.signing.tlog.note import Signature, VerifierKey, WitnessKey

_OLD = "old "


class BehindError(InputError):
    """The request starts at another checkpoint than the one that was signed last."""

    def __init__(self, asked: int, size: int) -> None:
        super().__init__(
            f"the request goes on from {asked} entries, but the last checkpoint that was signed has {size}",
            next_step=f"Ask again with a consistency proof from {size} entries.",
        )
        self.size = size
        """Entries of the checkpoint that was signed last; 0 when there was none."""


class Request(msgspec.Struct, frozen=True):
    """What a log sends to a witness."""

    old: int
    """Entries of the checkpoint that the witness signed last."""
    proof: tuple[bytes, ...]
    """From those to the new checkpoint; none from 0."""
    checkpoint: bytes
    """A signed note."""

    def encode(self) -> bytes:
        """The body of the specification's `add-checkpoint`."""
        lines = [f"{_OLD}{self.old}", *proof.encode_hashes(self.proof), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


def parse_request(data: bytes) -> Request:
    """The request with this text, nothing of it verified.

    Raises:
        InputError: it is none; `LimitError`: it is too large.
    """
    if len(data) > limits.NOTE_BYTES:
        raise LimitError(f"the request is over {limits.NOTE_BYTES} bytes", next_step="Send one checkpoint.")
    head, empty, signed = data.partition(b"\n\n")
    old, *hashes = head.decode(errors="replace").split("\n")
    if not empty or not old.startswith(_OLD):
        raise InputError(
            "this is no request to a witness: it does not say from which size the log went on",
            next_step="Send `old SIZE`, the consistency proof, an empty line and the checkpoint.",
        )
    checkpoint.parse(note.split(signed)[0])
    return Request(proof.parse_number(old.removeprefix(_OLD)), proof.parse_hashes(hashes), signed)


class Witness:
    """A key and what it has signed; several processes may share the `directory`."""

    def __init__(self, directory: Path, key: WitnessKey) -> None:
        self._directory = directory
        self._key = key

    def last(self, log: VerifierKey) -> bytes | None:
        """The checkpoint of this log that was signed last, with both signatures; `None` when there was none.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return self._path(log).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise durable.storage_error(error, "what the witness remembers") from error

    def cosign(self, data: bytes, log: VerifierKey, seconds: int) -> Signature:
        """The signature, at the Unix time `seconds`, of the checkpoint in a request; it is remembered first.

        1. The log signed the checkpoint.
        2. The request goes on from the checkpoint that this witness signed last.
        3. The new checkpoint is proven to go on from that one.

        Raises:
            InputError: it is no request, or of an old checkpoint; `BehindError`: it goes on from another one.
            NotVerifiedError: the log did not sign it, or it does not go on: what was logged was changed.
            StorageError: it could not be remembered, and is not signed.
        """
        asked = parse_request(data)
        # 1.
        new = checkpoint.open_signed(asked.checkpoint, log).checkpoint
        with durable.exclusive(self._directory / ".lock"):
            # 2.
            seen = self._seen(log)
            if asked.old != seen.size:
                raise BehindError(asked.old, seen.size)
            # 3.
            if new.size < seen.size:
                raise InputError(
                    f"the checkpoint has {new.size} entries, fewer than the {seen.size} that were signed already",
                    next_step="Send the newest checkpoint of the log.",
                )
            merkle.verify_consistency(seen.size, seen.root, new.size, new.root, asked.proof)
            text, signatures = note.split(asked.checkpoint)
            signature = self._key.cosign(text, seconds)
            ours = [given for given in signatures if (given.name, given.key_id) == (log.name, log.key_id)]
            durable.write_atomically(self._path(log), note.encode(text, [*ours, signature]))
        return signature

    def _seen(self, log: VerifierKey) -> Checkpoint:
        data = self.last(log)
        if data is None:
            return Checkpoint(log.name, 0, merkle.EMPTY_ROOT)
        return checkpoint.open_signed(data, self._key.vkey, origin=log.name).checkpoint

    def _path(self, log: VerifierKey) -> Path:
        return self._directory / f"{sha256(log.name.encode()).hexdigest()}.checkpoint"
