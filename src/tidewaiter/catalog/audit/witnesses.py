"""What witnesses signed of this home's audit log: asked for, verified, and kept, one checkpoint for each witness.

A witness is run by somebody else. It signs a checkpoint once it has seen that the log goes on from the last one that
it signed: a history that was rewritten here, with the log's own key, has no such signature.
"""

import contextlib
import datetime as dt
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from tidewaiter.catalog.audit.log import Places
from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import InputError, TidewaiterError, UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.signing.tlog import checkpoint, note
from tidewaiter.signing.tlog.note import VerifierKey


class Cosigned(msgspec.Struct, frozen=True):
    """The last checkpoint that a witness signed."""

    witness: str
    size: int
    """Entries that it is of."""
    at: str
    """When, as the witness says; RFC 3339."""


def configured(settings: Settings) -> tuple[VerifierKey, ...]:
    """The keys of the setting `audit_witnesses`. Raises `InputError` when one is none of a witness."""
    keys = tuple(dict.fromkeys(map(note.parse_vkey, settings.audit_witnesses)))
    for key in keys:
        if key.kind != note.COSIGNATURE:
            raise InputError(
                f"the setting audit_witnesses names {key.name}, whose key is a log's and no witness's",
                next_step="Ask for the key with which the witness signs: its third part begins with B.",
            )
    return keys


def kept(files: Places, witnesses: Sequence[VerifierKey]) -> list[tuple[VerifierKey, Path, bytes | None]]:
    """For each witness, where its last checkpoint lies, and that; nothing of it is verified.

    Raises:
        UndeterminedError: one cannot be read.
    """
    return [(witness, _path(files, witness), _read(_path(files, witness))) for witness in witnesses]


def cosigned(data: bytes, log: VerifierKey, witness: VerifierKey) -> Cosigned | None:
    """What the witness says on a checkpoint; None when it did not sign it. Raises what `open_signed` raises."""
    opened = checkpoint.open_signed(data, log, witnesses=[witness])
    if not opened.witnesses:
        return None
    seconds = max(map(note.cosigned_at, opened.witnesses))
    try:
        at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            f"{witness.name} signed at the time {seconds}, which is none", next_step="Ask whoever runs it."
        ) from error
    return Cosigned(witness.name, opened.checkpoint.size, clock.rfc3339(at))


def add(
    files: Places, data: bytes, answer: bytes, log: VerifierKey, witnesses: Sequence[VerifierKey]
) -> tuple[Cosigned, ...]:
    """Keep what witnesses answered to the checkpoint `data`, which must be one of this log's tree; what that says.

    Raises:
        InputError: it is no checkpoint or no answer, or of fewer entries than the same witness signed before.
        NotVerifiedError: a signature does not hold, or none is by a known witness.
        StorageError: it cannot be kept.
    """
    text, signatures = note.split(checkpoint.add_cosignatures(data, answer, log, witnesses))
    ours = [one for one in signatures if (one.name, one.key_id) == (log.name, log.key_id)]
    given = {(one.name, one.key_id) for one in note.parse_signatures(answer.decode())}
    added: list[Cosigned] = []
    with durable.exclusive(files.witnesses / ".lock"):
        for witness in witnesses:
            if (witness.name, witness.key_id) not in given:
                continue
            theirs = [one for one in signatures if (one.name, one.key_id) == (witness.name, witness.key_id)]
            signed = note.encode(text, [*ours, *theirs])
            new = cosigned(signed, log, witness)
            if new is None:
                continue
            before = _held(_read(_path(files, witness)), log, witness)
            if before is not None and (before.size, before.at) > (new.size, new.at):
                raise InputError(
                    f"{witness.name} signed {before.size} entries at {before.at}, which is more or later than this",
                    next_step="Nothing is to be done: the later one is kept.",
                )
            durable.write_atomically(_path(files, witness), signed)
            added.append(new)
    return tuple(added)


def best(files: Places, log: VerifierKey, witnesses: Sequence[VerifierKey], *, above: int) -> bytes | None:
    """The checkpoint of more than `above` entries that most witnesses signed, the largest of those, with what they did.

    None when no witness signed one. What is kept and does not hold is left out: `late` says it.
    """
    texts: dict[str, list[note.Signature]] = {}
    sizes: dict[str, int] = {}
    for witness, _, data in kept(files, witnesses):
        held = _held(data, log, witness)
        if data is None or held is None or held.size <= above:
            continue
        text, signatures = note.split(data)
        sizes[text] = held.size
        texts[text] = list(dict.fromkeys([*texts.get(text, []), *signatures]))
    if not texts:
        return None
    chosen = max(texts, key=lambda text: (len(texts[text]), sizes[text]))
    return note.encode(chosen, texts[chosen])


def dressed(files: Places, data: bytes, log: VerifierKey, witnesses: Sequence[VerifierKey]) -> bytes:
    """The log's own checkpoint, with the signatures of the witnesses whose last one it is."""
    text, signatures = note.split(data)
    theirs = [
        one
        for witness, _, there in kept(files, witnesses)
        if there is not None and _held(there, log, witness) is not None and note.split(there)[0] == text
        for one in note.split(there)[1]
    ]
    return note.encode(text, tuple(dict.fromkeys([*signatures, *theirs])))


def late(witness: VerifierKey, last: Cosigned | None, *, now: dt.datetime, days: int) -> str:
    """The sentence that says that this witness has signed nothing for so many days; empty when it has."""
    if last is None:
        return f"the witness {witness.name} has signed no checkpoint that is kept here"
    if now - clock.parse_rfc3339(last.at) > dt.timedelta(days=days):
        return f"the witness {witness.name} signed last at {last.at}, over {days} days ago"
    return ""


def _held(data: bytes | None, log: VerifierKey, witness: VerifierKey) -> Cosigned | None:
    if data is None:
        return None
    with contextlib.suppress(TidewaiterError):
        return cosigned(data, log, witness)
    return None


def _path(files: Places, witness: VerifierKey) -> Path:
    return files.witnesses / f"{sha256(str(witness).encode()).hexdigest()}.checkpoint"


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(limits.NOTE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UndeterminedError(f"{path} cannot be read: {error.strerror}", next_step="Check who owns it.") from error
