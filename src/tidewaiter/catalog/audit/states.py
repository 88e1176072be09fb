"""How the rows read that the audit log speaks of, each as one digest: what was written there, and what is there now.

The queries are plain SQL, for SQLAlchemy's connections and for plain ones. A row is told by its natural key, in
which row numbers have no part, and read as JSON: so it has the same digest whichever database keeps it.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from tidewaiter.catalog import plain
from tidewaiter.catalog.glance import stored_moment
from tidewaiter.catalog.plain import Plain
from tidewaiter.oci import digest as digests

if TYPE_CHECKING:
    from sqlalchemy import Connection

Kind = Literal[
    "attestation",
    "base",
    "model",
    "owner",
    "role",
    "signature",
    "synced_change",
    "synced_child",
    "synced_manifest",
    "synced_referrer",
    "synced_tag",
    "tag",
    "tag_change",
    "token",
    "user",
    "verdict",
    "verdict_time",
    "waiver",
    "workload",
]


class State(msgspec.Struct, frozen=True, array_like=True):
    """A row that was written; in JSON the list `[kind, key, digest]`."""

    kind: Kind
    key: str
    """Its natural key, the parts separated by spaces."""
    digest: str
    """Of what stands in it, or in all rows with that key; empty: there is none any more."""


class _Rows(NamedTuple):
    """A query for all rows of a kind, whose first columns are the key; the conditions that choose the one of a key."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    tables: str
    several: bool = False
    """Whether rows may share a key: they are told together. They may go, too."""
    goes: bool = False
    """Whether a row may go, of a kind of which no two share a key."""

    @property
    def query(self) -> str:
        return f"SELECT {', '.join((*self.keys, *self.columns))} FROM {self.tables}"  # noqa: S608 - names of this module


_PERIOD = ("digest", "known", "stage", "last_seen", "gone_at")
_OF_IMAGE = "JOIN artifact ON artifact.id = {0}.artifact_id"
_ROWS: dict[Kind, _Rows] = {
    "attestation": _Rows(
        ("artifact.digest", "attestation.format", "attestation.blob_digest"),
        tuple(
            f"attestation.{name}"
            for name in ("predicate_type", "manifest_digest", "size", "key_fingerprint", "builder", "created")
        ),
        "attestation " + _OF_IMAGE.format("attestation"),
    ),
    "base": _Rows(("name", "digest"), ("owner", "approved_at", "expires_at", "retired_at", "reason"), "base_approval"),
    "model": _Rows(
        ("model_version.name", "model_version.version", "model_period.first_seen"),
        tuple(f"model_period.{name}" for name in _PERIOD),
        "model_period JOIN model_version ON model_version.id = model_period.model_version_id",
        several=True,
    ),
    "owner": _Rows(("kind", "subject", "since"), ("owner", "until"), "ownership", several=True),
    "role": _Rows(
        ("user_account.name",),
        tuple(f"role_grant.{name}" for name in ("project", "role", "source", "granted_at")),
        "role_grant JOIN user_account ON user_account.id = role_grant.user_account_id",
        several=True,
    ),
    "signature": _Rows(
        ("artifact.digest", "signature.manifest_digest", "signature.key_fingerprint"),
        ("signature.builder", "signature.format", "signature.created"),
        "signature " + _OF_IMAGE.format("signature"),
    ),
    "synced_change": _Rows(
        ("repository.name", "synced_tag_history.name", "synced_tag_history.set_at"),
        ("past.digest", "artifact.digest"),
        "synced_tag_history JOIN repository ON repository.id = synced_tag_history.repository_id"
        " LEFT JOIN artifact past ON past.id = synced_tag_history.previous_id LEFT "
        + _OF_IMAGE.format("synced_tag_history"),
        several=True,
    ),
    "synced_child": _Rows(
        ("artifact.digest",),
        ("below.digest", "synced_child.platform"),
        "synced_child JOIN artifact ON artifact.id = synced_child.parent_id"
        " JOIN artifact below ON below.id = synced_child.child_id",
        several=True,
    ),
    "synced_manifest": _Rows(
        ("artifact.digest",),
        tuple(f"synced_manifest.{name}" for name in ("kind", "artifact_type", "problem", "reader")),
        "synced_manifest " + _OF_IMAGE.format("synced_manifest"),
        several=True,
    ),
    "synced_referrer": _Rows(
        ("artifact.digest",),
        ("referrer.digest",),
        "synced_referrer JOIN artifact ON artifact.id = synced_referrer.subject_id"
        " JOIN artifact referrer ON referrer.id = synced_referrer.referrer_id",
        several=True,
    ),
    "synced_tag": _Rows(
        ("repository.name", "synced_tag.name"),
        ("artifact.digest", "synced_tag.set_at"),
        "synced_tag JOIN repository ON repository.id = synced_tag.repository_id " + _OF_IMAGE.format("synced_tag"),
        several=True,
    ),
    "tag": _Rows(
        ("repository.name", "tag.name"),
        ("artifact.digest", "tag.visibility", "verdict.environment", "verdict.name", "tag.set_at"),
        "tag JOIN repository ON repository.id = tag.repository_id "
        + _OF_IMAGE.format("tag")
        + " LEFT JOIN verdict ON verdict.id = tag.verdict_id",
        goes=True,
    ),
    "tag_change": _Rows(
        ("repository.name", "tag_history.name", "tag_history.set_at"),
        ("artifact.digest", "tag_history.visibility", "verdict.environment", "verdict.name"),
        "tag_history JOIN repository ON repository.id = tag_history.repository_id "
        + _OF_IMAGE.format("tag_history")
        + " LEFT JOIN verdict ON verdict.id = tag_history.verdict_id",
        several=True,
    ),
    "token": _Rows(
        ("api_token.name",),
        (
            "user_account.name",
            *(
                f"api_token.{name}"
                for name in ("hash", "role", "projects", "permissions", "created_at", "expires_at", "revoked_at")
            ),
        ),
        "api_token LEFT JOIN user_account ON user_account.id = api_token.user_account_id",
    ),
    "user": _Rows(
        ("name",),
        ("password", "password_set_at", "one_time_until", "issuer", "subject", "created_at", "disabled_at"),
        "user_account",
    ),
    "verdict": _Rows(
        ("artifact.digest", "verdict.environment", "verdict.name"),
        tuple(
            f"verdict.{name}"
            for name in ("verdict", "policy_revision", "advisories_revision", "decided_at", "valid_until", "document")
        ),
        "verdict " + _OF_IMAGE.format("verdict"),
    ),
    "verdict_time": _Rows(
        ("artifact.digest", "verdict.environment", "verdict.name"),
        ("verdict_earlier.decided_at", "verdict_earlier.valid_until"),
        "verdict_earlier JOIN verdict ON verdict.id = verdict_earlier.verdict_id " + _OF_IMAGE.format("verdict"),
        several=True,
    ),
    "waiver": _Rows(
        ("name",),
        (
            "scope",
            "owner",
            "reason",
            "requested_by",
            "requested_at",
            "expires_at",
            "reviewer",
            "approved_at",
            "revoked_by",
            "revoked_at",
            "revocation",
        ),
        "waiver",
    ),
    "workload": _Rows(
        (
            *(f"workload.{name}" for name in ("cluster", "namespace", "name", "kind", "container")),
            "workload_period.first_seen",
        ),
        tuple(f"workload_period.{name}" for name in _PERIOD),
        "workload_period JOIN workload ON workload.id = workload_period.workload_id",
        several=True,
    ),
}
_JSON = frozenset({"api_token.permissions", "api_token.projects", "verdict.document", "scope"})
_AT_ONCE = 500
"""Keys that one query names."""


TABLES = (
    "api_token",
    "artifact",
    "attestation",
    "base_approval",
    "model_period",
    "model_version",
    "ownership",
    "repository",
    "role_grant",
    "signature",
    "synced_child",
    "synced_manifest",
    "synced_referrer",
    "synced_tag",
    "synced_tag_history",
    "tag",
    "tag_history",
    "user_account",
    "verdict",
    "verdict_earlier",
    "waiver",
    "workload",
    "workload_period",
)
"""Where these rows, and their keys, stand."""


def _value(column: str, value: Any) -> Any:  # noqa: ANN401 - of any column
    if isinstance(value, str) and column not in _JSON:
        return value  # mostly
    if isinstance(value, dt.datetime):
        return stored_moment(value)
    if isinstance(value, bool):
        return int(value)
    if column not in _JSON or not isinstance(value, str | bytes):
        return value
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return f"not JSON: {value!r}"  # somebody else's, and in no log


def _key(parts: Sequence[Any]) -> str:
    """Parts in one text, which no other parts have."""
    return " ".join(str(_value("", part)).replace("%", "%25").replace(" ", "%20") for part in parts)


def _state(kind: Kind, *rows: Sequence[Any]) -> State:
    """The row as a state, or of a kind of which rows share a key all of them."""
    shape = _ROWS[kind]
    split = len(shape.keys)
    read = [[_value(column, value) for column, value in zip(shape.columns, row[split:], strict=True)] for row in rows]
    told = sorted(read, key=lambda one: msgspec.json.encode(one, order="sorted")) if shape.several else read[0]
    return State(kind, _key(rows[0][:split]), digests.of(msgspec.json.encode(told, order="sorted")))


def execute(connection: "Plain | Connection", statement: str, parameters: tuple[Any, ...]) -> Iterable[Sequence[Any]]:
    """The rows of a plain statement, its parameters as `?`."""
    return plain.of(connection).execute(statement, parameters)


def now(connection: "Plain | Connection", kind: Kind, *keys: Sequence[Any]) -> tuple[State, ...]:
    """How the rows with these natural keys read now, for `audit.append`.

    Those that are gone are left out, unless their kind is one of which rows may go.
    """
    shape = _ROWS[kind]
    there: dict[str, list[Sequence[Any]]] = {}
    for query, parameters in _questions(shape, keys):
        for row in execute(connection, query, parameters):
            there.setdefault(_key(row[: len(shape.keys)]), []).append(row)
    found = []
    for key in map(_key, keys):
        if key in there:
            found.append(_state(kind, *there[key]))
        elif shape.several or shape.goes:
            found.append(State(kind, key, ""))
    return tuple(found)


def _questions(shape: _Rows, keys: Sequence[Sequence[Any]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Queries, with their parameters, for the rows with these keys: each for many that differ in one part only."""
    said = [tuple(stored_moment(part) if isinstance(part, dt.datetime) else part for part in key) for key in keys]
    places = range(len(shape.keys))
    many = max(places, key=lambda place: len({key[place] for key in said}))
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for key in dict.fromkeys(said):
        groups.setdefault((*key[:many], *key[many + 1 :]), []).append(key[many])
    for rest, values in groups.items():
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            same = [f"{shape.keys[place]} = ?" for place in places if place != many]
            among = f"{shape.keys[many]} IN ({', '.join('?' * len(some))})"
            yield f"{shape.query} WHERE {' AND '.join((*same, among))}", (*rest, *some)


def written(kind: Kind, columns: Mapping[str, Any]) -> State:
    """How a row of those columns reads that was just written, without asking for it."""
    shape = _ROWS[kind]
    return _state(kind, [columns[name] for name in (*shape.keys, *shape.columns)])


def all_of(connection: "Plain | Connection", kinds: Collection[Kind] = ()) -> Iterator[State]:
    """How every row reads that the log speaks of, of all kinds or of these."""
    for kind, shape in _ROWS.items():
        if kinds and kind not in kinds:
            continue
        if not shape.several:
            for row in plain.streamed(plain.of(connection), shape.query):
                yield _state(kind, row)
            continue
        split = len(shape.keys)
        ordered = f"{shape.query} ORDER BY {', '.join(shape.keys)}"
        for _, rows in groupby(plain.streamed(plain.of(connection), ordered), key=lambda row: tuple(row[:split])):
            yield _state(kind, *rows)
