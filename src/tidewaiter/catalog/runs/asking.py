"""Asking for a run, and for its end. A run that is asked for is kept, whether anybody works or not."""

import datetime as dt
import secrets

import msgspec
from sqlalchemy import Connection, insert, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.runs import ending, reading
from tidewaiter.catalog.runs.records import AT_ONCE, ENDED, Asked, Run
from tidewaiter.catalog.storable import storable_tree
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, RefusedError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def _name(at: dt.datetime) -> str:
    """`run-` and 26 characters that sort by time, as a ULID."""
    number = int(at.timestamp() * 1000) << 80 | secrets.randbits(80)
    return "run-" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def ask(connection: Connection, asked: Asked, *, at: dt.datetime, by: str = "", key: str = "") -> Run:
    """The run that was asked for; with a `key` that was used before, that one of then, whatever is asked now.

    Raises:
        InputError: the key, or what is asked for, is too long.
    """
    if len(key) > limits.RUN_KEY_CHARACTERS or len(asked.subject) > limits.RUN_SUBJECT_CHARACTERS:
        raise InputError(
            f"a run's key has at most {limits.RUN_KEY_CHARACTERS} characters, what it is about"
            f" {limits.RUN_SUBJECT_CHARACTERS}",
            next_step="Ask with a shorter one.",
        )
    of = schema.pipeline_run.c
    if key:
        known = connection.scalar(select(of.name).where(of.key == key))
        if known is not None:
            return reading.run(connection, known)
    name = _name(at)
    said = storable_tree(msgspec.to_builtins(asked))
    row = {
        "name": name,
        "key": key or None,
        "kind": asked.kind,
        "state": "queued",
        "team": asked.team,
        "repository": asked.source.repository if asked.source is not None else asked.path,
        "asked": said,
        "created_at": at,
        "resume_at": AT_ONCE,
        "attempts": 0,
        "losses": 0,
        "round": 0,
        "worker": "",
        "shape": "",
        "cancelling": False,
        "result": {},
    }
    connection.execute(insert(schema.pipeline_run), row)
    action = "pipeline.retry" if asked.trigger.kind == "retry" else "pipeline.ask"
    audit.append(connection, action, name, {"asked": said}, at=at, actor=by)
    return reading.run(connection, name)


def cancel(connection: Connection, name: str, *, at: dt.datetime, by: str = "") -> Run:
    """The run, which ends as soon as its step can; one that waits has ended.

    Raises:
        NotFoundError: there is no such run.
        RefusedError: it has ended otherwise.
    """
    found = reading.run(connection, name)
    if found.state == "cancelled" or found.cancelling:
        return found
    if found.state in ENDED:
        raise RefusedError(f"{name} has ended: {found.state}", next_step="Nothing is left to cancel.", code="run_ended")
    audit.append(connection, "pipeline.cancel", name, {"state": found.state}, at=at, actor=by)
    of = schema.pipeline_run.c
    if found.state == "queued":
        ending.end(connection, reading.number(connection, name), "cancelled", at=at, by=by)
    else:
        connection.execute(update(schema.pipeline_run).where(of.name == name).values(cancelling=True))
    return reading.run(connection, name)
