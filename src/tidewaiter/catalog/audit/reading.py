"""What is asked of the audit log: entries by what they are about, proofs, and what an export takes along."""

from collections.abc import Iterator
from typing import NamedTuple

from tidewaiter.catalog import plain
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit.log import raw
from tidewaiter.catalog.plain import Plain
from tidewaiter.core.errors import NotFoundError, RefusedError
from tidewaiter.signing.tlog import merkle, proof, tiles
from tidewaiter.signing.tlog.note import VerifierKey
from tidewaiter.signing.tlog.proof import Proof


class Listed(NamedTuple):
    """An entry and its position."""

    position: int
    entry: audit.Entry


def listed(
    connection: Plain, *, subject: str = "", action: str = "", since: str = "", before: int | None = None, rows: int
) -> list[Listed]:
    """The last `rows` entries about `subject`, of an action (or all of a noun: `waiver.`), since a stored moment.

    The latest is last; those that wait for a position are not among them. With `before` only those below a position.
    """
    conditions = {
        "subject = ?": subject,
        "substr(action, 1, length(?)) = ?" if action.endswith(".") else "action = ?": action,
        "at >= ?": since,
    }
    given = {condition: value for condition, value in conditions.items() if value}
    where = f" WHERE {' AND '.join(given)}" if given else ""
    values: list[str | int] = [value for condition, value in given.items() for _ in range(condition.count("?"))]
    if before is not None:
        where += f"{' AND' if where else ' WHERE'} position < ?"
        values.append(before)
    found = connection.execute(
        f"SELECT position, entry FROM audit_entry{where} ORDER BY position DESC LIMIT ?",  # noqa: S608 - values are bound
        (*values, rows),
    ).fetchall()
    return [Listed(int(position), audit.parse(raw(data))) for position, data in reversed(found)]


def document(connection: Plain, digest: str) -> bytes | None:
    """What an entry names by that digest; None when it is not there."""
    row = connection.execute("SELECT document FROM audit_document WHERE digest = ?", (digest,)).fetchone()
    return None if row is None else raw(row[0])


def documents(connection: Plain) -> Iterator[tuple[str, bytes]]:
    """Every document, by its digest."""
    for digest, data in plain.streamed(connection, "SELECT digest, document FROM audit_document ORDER BY digest"):
        yield str(digest), raw(data)


def entries(connection: Plain, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Entries with positions from `start` up to, without, `end`, those that are there."""
    query = "SELECT position, entry FROM audit_entry WHERE position >= ? AND position < ? ORDER BY position"
    for position, data in plain.streamed(connection, query, (start, end)):
        yield int(position), raw(data)


def required_state(connection: Plain) -> audit_log.State:
    """The log as a whole. Raises `NotFoundError` when nothing was logged yet."""
    state = audit_log.state(connection)
    if state is None:
        raise NotFoundError("the audit log has no entries yet", next_step="They come with the first change.")
    return state


def prove(connection: Plain, key: VerifierKey, position: int, *, cosigned: bytes | None = None) -> Proof:
    """The proof that the entry at that position is in the log, which is its `extra` unless it was dropped.

    It is against the checkpoint `cosigned` when there is one, else against the log's current one.

    Raises:
        NotFoundError: there is no such entry.
        RefusedError: the proof does not hold: the log was changed.
    """
    state = required_state(connection)
    if not 0 <= position < state.size:
        raise NotFoundError(
            f"the audit log has no entry {position}; its {state.size} are numbered from 0",
            next_step="`tidewaiter audit list` shows the last ones.",
        )
    reader = audit_log.Tiles(connection)
    entry = next((data for _, data in entries(connection, position, position + 1)), None)
    try:
        signed = state.checkpoint if cosigned is None else cosigned
        size = state.size if cosigned is None else audit_log.opened(cosigned, key).size
        hashes = tiles.prove_inclusion(reader, size, position)
        leaf = merkle.leaf_hash(entry) if entry is not None else _stored_leaf(reader, position)
        made = Proof(position, tuple(hashes), signed, entry)
        proof.verify(made, leaf, key)
    except RefusedError as error:
        raise RefusedError(
            f"entry {position} cannot be proven: {error.message}",
            next_step="Run `tidewaiter audit verify`, which says what was changed.",
            code="audit_manipulated",
        ) from error
    return made


def _stored_leaf(reader: audit_log.Tiles, position: int) -> bytes:
    index, at = divmod(position, tiles.WIDTH)
    return reader.read(0, index, at + 1)[-merkle.HASH_BYTES :]
