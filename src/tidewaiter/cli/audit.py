"""`audit`: the log of what was changed, by whom, that nobody can rewrite."""

import base64
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tidewaiter.catalog.audit.entries import Entry
from tidewaiter.catalog.audit.reading import Listed
from tidewaiter.cli import console, remote
from tidewaiter.cli.console import Format, emit, emit_bytes, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, durable, moments
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.pipelines.audit import auditing
from tidewaiter.signing.tlog import merkle
from tidewaiter.signing.tlog import proof as proofs
from tidewaiter.signing.tlog.proof import Proof

_SHOWN = 50


def verify(
    *,
    checkpoint: tuple[Path, ...] = (),
    key: str = "",
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Find out whether an entry was edited, removed, moved or inserted, or a row that the log speaks of.

    Exit code 1: something was. 3: it could not be found out.

    Args:
        checkpoint: also compare with the checkpoint in this file, which was kept elsewhere; may be given several times.
        key: public key of the log, as NAME+ID+KEY or a file with it; default the one of this home.
        output: text or json.
    """
    with workshop(looking=True) as shop:
        found = auditing.verify(shop, key=key, given=checkpoint)
    if output == "json":
        emit_json({"holds": found.holds, **msgspec.to_builtins(found)})
        return 0 if found.holds else 1
    emit(f"{found.origin}: {found.size} entries, root {found.root or 'unknown'}")
    if found.only_hashes:
        emit(f"  of the first {found.only_hashes} there are only hashes: they were exported and dropped")
    if found.waiting:
        emit(f"  {found.waiting} more wait for a position, and nothing vouches for them yet")
    emit(f"  {found.compared} rows that the log speaks of are as they were logged")
    for one in found.witnesses:
        emit(f"  the witness {console.shown(one.witness)} signed {one.size} entries at {one.at}")
    for problem in found.problems:
        emit(f"  {problem.kind.replace('_', ' ')}: {console.shown(problem.message)}")
    if found.problems_total > len(found.problems):
        emit(f"  and {found.problems_total - len(found.problems)} more")
    only_unwitnessed = found.problems and all(problem.kind == "unwitnessed" for problem in found.problems)
    no = "UNWITNESSED: nobody outside vouches for it" if only_unwitnessed else "CHANGED: the log does not hold"
    emit("nothing was changed" if found.holds else no)
    return 0 if found.holds else 1


def prove(
    entry: int,
    /,
    *,
    file: Annotated[Path | None, Parameter(name="--output")] = None,
    key: str = "",
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Prove to somebody who has nothing but the log's public key that an entry is in it.

    The proof is in the format of C2SP tlog-proof, with the entry as its extra data.

    Args:
        entry: its position; `audit list` shows it.
        file: write the proof there.
        key: public key of the log, as for `audit verify`. With a server it must be given: the server does not vouch for
            itself, and its proof is verified here.
        output: text or json.
    """
    proof = _proof(entry, key)
    if file is not None:
        durable.write_atomically(file, proof.encode())
        console.tell(f"wrote {file}")
    elif output == "json":
        emit_json(
            {
                "position": proof.index,
                "entry": None if proof.extra is None else msgspec.Raw(proof.extra),
                "leaf_hash": None if proof.extra is None else merkle.leaf_hash(proof.extra).hex(),
                "hashes": [base64.b64encode(one).decode() for one in proof.hashes],
                "checkpoint": proof.checkpoint.decode(),
            }
        )
    else:
        emit_bytes(proof.encode())
    return 0


def _proof(entry: int, key: str) -> Proof:
    """The proof from the home, or from the server and verified.

    Raises:
        NotVerifiedError: it does not prove that entry by that key.
    """
    with remote.opened() as server:
        if server is not None:
            if not key:
                raise InputError(
                    "a proof of the server holds by the log's public key, which must not come from the server",
                    next_step="Give --key NAME+ID+KEY, or a file with it, as you were given it.",
                    code="usage",
                )
            log = auditing.public_key(key)
            answer = server.get(f"/audit/entries/{entry}/proof", _ProofAnswer)
            proof = proofs.parse(answer.proof.encode())
            if proof.index != entry or proof.extra is None:
                raise NotVerifiedError(
                    f"the server's proof is not of entry {entry}, or is without it",
                    next_step="Ask whoever runs the server; entries that were dropped are in its export.",
                )
            proofs.verify(proof, merkle.leaf_hash(proof.extra), log)
            return proof
    with workshop(looking=True) as shop:
        return auditing.prove(shop, entry, key=key)


class _ProofAnswer(msgspec.Struct, frozen=True):
    proof: str


class _Logged(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as the server lists it."""

    position: int
    time: str
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = {}
    document: str = ""

    @property
    def entry(self) -> Entry:
        """As the home lists it."""
        return Entry(
            version=1,
            time=self.time,
            actor=self.actor,
            action=self.action,
            subject=self.subject,
            detail=self.detail,
            document=self.document,
        )


def _listed(subject: str, action: str, since: str, rows: int) -> list[Listed]:
    begin = moments.begin(since) if since else None
    with remote.opened() as server:
        if server is not None:
            query = {"subject": subject, "action": action, "since": clock.rfc3339(begin) if begin else ""}
            found = server.listing("/audit/entries", _Logged, query, rows=rows).items
            return [Listed(one.position, one.entry) for one in reversed(found)]
    with workshop(looking=True) as shop:
        return auditing.listed(shop, subject=subject, action=action, since=begin, rows=rows)


def export(folder: Path, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Write the log into a folder that any web server can serve (C2SP tlog-tiles); a later export goes on.

    With the setting `audit_days`, entries that are older and exported are then dropped from the catalog.

    Args:
        folder: where to; made when it is missing.
        output: text or json.
    """
    with workshop() as shop:
        done = auditing.export(shop, folder)
    if output == "json":
        emit_json(msgspec.to_builtins(done))
        return 0
    emit(f"{folder}: {done.size} entries of {done.origin}, {done.size - done.before} of them new")
    if done.only_hashes:
        emit(f"  {done.only_hashes} were dropped before and are in another export; here are only their hashes")
    if done.dropped:
        emit(f"  {done.dropped} were dropped from the catalog")
    return 0


def list_entries(
    *,
    subject: str = "",
    action: str = "",
    since: str = "",
    rows: int = _SHOWN,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """List the last entries: what was done, to what, by whom.

    Args:
        subject: only those about this digest, NAME:TAG, waiver or base.
        action: only this action, or with a dot at the end all that begin with it (waiver.).
        since: only from this day (2027-06-30) or moment on.
        rows: at most so many.
        output: text or json.
    """
    found = _listed(subject, action, since, rows)
    if output == "json":
        emit_json({"entries": [{"position": at, **msgspec.to_builtins(entry)} for at, entry in found]})
        return 0
    console.table(
        ("entry", "time", "actor", "action", "subject"),
        [(str(at), entry.time, entry.actor, entry.action, console.shown(entry.subject)) for at, entry in found],
    )
    return 0
