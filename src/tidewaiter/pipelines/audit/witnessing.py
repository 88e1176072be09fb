"""Steps: have the home's audit log witnessed by others, and be the witness of somebody else's log.

Nothing is sent: a request is a file (the body of `add-checkpoint` in C2SP tlog-witness) or an export that the witness
can read; the answer is a line of text.
"""

import secrets
from pathlib import Path

import msgspec

from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import reading as audit_reading
from tidewaiter.catalog.audit import witnesses as audit_witnesses
from tidewaiter.catalog.audit.witnesses import Cosigned
from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.pipelines.audit import auditing
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing.tlog import checkpoint, note, tiles, witness
from tidewaiter.signing.tlog.checkpoint import Checkpoint
from tidewaiter.signing.tlog.note import Signature, VerifierKey, WitnessKey
from tidewaiter.signing.tlog.witness import Request, Witness

_OLD = b"old "


class Given(msgspec.Struct, frozen=True):
    """What this home's witness signed."""

    checkpoint: Checkpoint
    key: VerifierKey
    """Of the witness."""
    signature: Signature


def current(workshop: Workshop) -> bytes:
    """The log's checkpoint, with what witnesses signed of it. Raises `NotFoundError` when nothing was logged yet."""
    files, key = audit_log.places(workshop.settings), auditing.log_key(workshop, "")
    with audit_log.reading(workshop.settings.catalog) as log:
        state = audit_reading.required_state(log)
    return audit_witnesses.dressed(files, state.checkpoint, key, audit_witnesses.configured(workshop.settings))


def request(workshop: Workshop, old: int) -> bytes:
    """What a witness is to be handed that signed `old` entries last; 0 for one that was not asked before.

    Raises:
        InputError: the log has fewer entries.
        RefusedError: its tiles are missing.
    """
    with audit_log.reading(workshop.settings.catalog) as log:
        state = audit_reading.required_state(log)
        if not 0 <= old <= state.size:
            raise InputError(
                f"the log has {state.size} entries, and cannot go on from {old}",
                next_step="Say how many the witness signed last; 0 when it was not asked before.",
            )
        hashes = tiles.prove_consistency(audit_log.Tiles(log), old, state.size) if old else []
        return Request(old, tuple(hashes), state.checkpoint).encode()


def take(workshop: Workshop, answer: Path, asked: Path | None) -> tuple[Cosigned, ...]:
    """Verify and keep what a witness answered to the request or checkpoint in `asked`, or to the log's current one.

    Raises:
        InputError: a file is not what it should be, or the setting `audit_witnesses` is empty.
        NotVerifiedError: the answer does not hold, or the checkpoint is not of this log.
    """
    witnesses = audit_witnesses.configured(workshop.settings)
    if not witnesses:
        raise InputError(
            "no witness is known here", next_step="Put its public key into the setting audit_witnesses first."
        )
    files, key = audit_log.places(workshop.settings), auditing.log_key(workshop, "")
    data = None if asked is None else auditing.read_file(asked, limits.NOTE_BYTES)
    if data is not None and data.startswith(_OLD):
        data = witness.parse_request(data).checkpoint
    with audit_log.reading(workshop.settings.catalog) as log:
        state = audit_reading.required_state(log)
        data = state.checkpoint if data is None else data
        signed = checkpoint.open_signed(data, key).checkpoint
        if signed.size > state.size or tiles.root(audit_log.frontier(log, signed.size)) != signed.root:
            raise NotVerifiedError(
                f"the checkpoint of {signed.size} entries is not of this log as it is",
                next_step="Run `tidewaiter audit verify --checkpoint FILE` with it.",
            )
    return audit_witnesses.add(files, data, auditing.read_file(answer, limits.NOTE_BYTES), key, witnesses)


def cosign(workshop: Workshop, source: Path, *, log: str, key: Path | None) -> Given:
    """Sign a checkpoint of somebody else's log, as its witness: from a request, or a folder with an export of the log.

    Raises:
        InputError: it is neither, or starts at another checkpoint than the one signed last (`BehindError`).
        NotVerifiedError: the log did not sign it, or it does not go on from what was signed before.
        StorageError: it could not be remembered, and is not signed.
    """
    folder = workshop.settings.home.path / "witness"
    watched, own = auditing.log_key(workshop, log), _witness_key(folder, workshop.settings.origin, key)
    # Another key is another witness, which has seen nothing yet.
    watching = Witness(folder / own.vkey.key_id.hex(), own)
    if source.is_dir():
        data = _request_from(_Folder(source), watched, watching.last(watched))
    else:
        data = auditing.read_file(source, limits.NOTE_BYTES)
    signature = watching.cosign(data, watched, int(clock.now().timestamp()))
    new = checkpoint.open_signed(witness.parse_request(data).checkpoint, watched).checkpoint
    return Given(new, own.vkey, signature)


def _witness_key(folder: Path, origin: str, given: Path | None) -> WitnessKey:
    """The key in that file; else the home's, made when there is none."""
    if given is not None:
        return _read_key(given)
    path, public = folder / "witness.key", folder / "witness.vkey"
    with durable.exclusive(folder / "lock"):
        if not path.exists():
            # Two homes with the same setting `origin` are two witnesses, which a reader must tell apart.
            made = WitnessKey.generate(f"{origin}/witness/{secrets.token_hex(6)}")
            durable.write_atomically(path, f"{made.secret}\n".encode(), mode=0o600)
        key = _read_key(path)
        if not public.exists():
            durable.write_atomically(public, f"{key.vkey}\n".encode())
    return key


def _read_key(path: Path) -> WitnessKey:
    return WitnessKey.parse(auditing.read_file(path, limits.KEY_FILE_BYTES).decode(errors="replace").strip())


class _Folder:
    """The tiles of an export."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def checkpoint(self) -> bytes:
        """As the log published it."""
        return auditing.read_file(self._path / "checkpoint", limits.NOTE_BYTES)

    def read(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile; raises `InputError` when it is not there."""
        return auditing.read_file(self._path / tiles.Place(level, index, width).path, tiles.TILE_BYTES)


def _request_from(export: _Folder, log: VerifierKey, last: bytes | None) -> bytes:
    """The request that whoever runs the log would send to a witness that signed the checkpoint `last`."""
    signed = export.checkpoint
    new = checkpoint.open_signed(signed, log).checkpoint
    old = 0 if last is None else checkpoint.parse(note.split(last)[0]).size
    # Without a proof the witness itself says that the log shrank.
    hashes = tiles.prove_consistency(export, old, new.size) if 0 < old <= new.size else []
    return Request(old, tuple(hashes), signed).encode()
