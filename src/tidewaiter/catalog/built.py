"""Recording a build, by plain statements: every build does it, and SQLAlchemy loads longer than all of this takes.

The statements are the only ones that write a build; `Catalog` runs them in a transaction of its own. Recording the
same build twice changes nothing.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.glance import Place, stored_moment
from tidewaiter.catalog.plain import Plain
from tidewaiter.catalog.plain_writing import writing
from tidewaiter.catalog.records import BuildRecord, BuiltLayer
from tidewaiter.catalog.storable import storable, storable_tree
from tidewaiter.core import clock
from tidewaiter.oci.digest import Digest, of
from tidewaiter.oci.reference import check_repository, check_tag

Row = dict[str, Any]


def record(path: Place, build: BuildRecord, tag: str, *, actor: str = "") -> None:
    """Record a finished build by `actor` and let its repository's `tag` mean its image, in one transaction.

    A tag that is cleared for this very image stays so.

    Raises:
        UnansweredError: the file is missing, of another schema, locked, damaged, full, or there is none as on
            PostgreSQL; nothing was written.
    """
    at = clock.now()
    with writing(path) as connection:
        write(connection, build, at, actor=actor)
        _name(connection, build, check_tag(tag), at, actor=actor)


# Rows


def _insert(table: str, row: Row) -> str:
    columns = ", ".join(f'"{name}"' for name in row)
    values = ", ".join(f":{name}" for name in row)
    return f"INSERT INTO {table} ({columns}) VALUES ({values})"  # noqa: S608 - names are those of this module


def _add_missing(connection: Plain, table: str, rows: Sequence[Row]) -> None:
    if rows:
        connection.executemany(_insert(table, rows[0]) + " ON CONFLICT DO NOTHING", rows)


def _put(connection: Plain, table: str, key: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert `rows`; those whose `key` is there replace the other columns."""
    if rows:
        changed = ", ".join(f'"{name}" = excluded."{name}"' for name in rows[0] if name not in key)
        connection.executemany(
            _insert(table, rows[0]) + f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}", rows
        )


def _number(connection: Plain, table: str, key: Row, rest: Row | None = None) -> int:
    """Row number of the row with the unique `key`; it is made, with `rest`, when it is missing."""
    same = " AND ".join(f'"{name}" = :{name}' for name in key)
    query = f"SELECT id FROM {table} WHERE {same}"  # noqa: S608 - names are those of this module
    found = connection.execute(query, key).fetchone()
    if found is None:
        _add_missing(connection, table, [{**key, **(rest or {})}])
        found = connection.execute(query, key).fetchone()
    return int(found[0])


def _moment(moment: dt.datetime | None) -> str | None:
    return None if moment is None else stored_moment(moment)


def _json(value: object) -> str:
    return msgspec.json.encode(storable_tree(value)).decode()


# What a build leaves


def _key(build: BuildRecord) -> Digest:
    """Name of this run of this build: the same record has the same name, a rebuild another one."""
    identity = (
        build.repository,
        build.digest,
        build.commit,
        build.dirty,
        build.builder,
        build.pipeline_run,
        clock.rfc3339(build.started),
    )
    return of(msgspec.json.encode(identity))


def _artifact(connection: Plain, digest: Digest, layers: Iterable[BuiltLayer], at: dt.datetime, media_type: str) -> int:
    size = sum(layer.size for layer in layers)
    rest = {"media_type": media_type, "size": size, "recorded_at": _moment(at)}
    return _number(connection, "artifact", {"digest": digest}, rest)


def _members(connection: Plain, artifact: int, layers: Sequence[BuiltLayer]) -> list[Row]:
    """Rows of `artifact_layer`; the layers themselves are recorded, sizes that were unknown filled in."""
    rows: list[Row] = []
    for position, layer in enumerate(layers):
        sizes = {"size": layer.size, "unpacked_size": layer.unpacked_size, "files": 0}
        number = _number(connection, "layer", {"digest": layer.digest}, {"diff_id": layer.diff_id, **sizes})
        if layer.unpacked_size:
            connection.execute(
                "UPDATE layer SET unpacked_size = ?, files = 0 WHERE id = ? AND unpacked_size = 0",
                (layer.unpacked_size, number),
            )
        rows.append(
            {
                "artifact_id": artifact,
                "position": position,
                "layer_id": number,
                "kind": layer.kind,
                "title": storable(layer.title),
                "contents": _json(layer.contents),
            }
        )
    return rows


def _place(connection: Plain, build: BuildRecord, artifact: int, at: dt.datetime) -> int:
    """Put the image into its repository, now its latest change; row number of the repository."""
    number = _number(connection, "repository", {"name": check_repository(build.repository)})
    row = {"repository_id": number, "artifact_id": artifact, "changed_at": _moment(at), "since": _moment(at)}
    _add_missing(connection, "repository_artifact", [row])
    connection.execute(
        "UPDATE repository_artifact SET changed_at = :changed_at"
        " WHERE repository_id = :repository_id AND artifact_id = :artifact_id",
        {name: row[name] for name in ("changed_at", "repository_id", "artifact_id")},
    )
    return number


def _base(connection: Plain, build: BuildRecord, at: dt.datetime) -> int | None:
    """Row number of the base of a build, whose own layers are recorded as those of an image."""
    made_from = build.base_lock or build.base_digest
    if not build.base_name or made_from is None:
        return None
    name = storable(build.base_name)
    known = None
    if build.base_lock is None:
        known = connection.execute(
            "SELECT base.id FROM base JOIN base_image ON base_image.base_id = base.id"
            " WHERE base.name = ? AND base_image.digest = ? ORDER BY base.id LIMIT 1",
            (name, build.base_digest),
        ).fetchone()
    number = int(known[0]) if known else _number(connection, "base", {"name": name, "lock_digest": made_from})
    if build.base_digest is not None:
        _put(connection, "base_image", ("base_id",), [{"base_id": number, "digest": build.base_digest}])
        below = build.layers[: build.base_layers]
        lower = _artifact(connection, build.base_digest, below, at, build.media_type)
        _add_missing(connection, "artifact_layer", _members(connection, lower, below))
    return number


def write(connection: Plain, build: BuildRecord, at: dt.datetime, *, actor: str = "") -> None:
    """Record a finished build with its lineage (source, inputs, base, layers), inside a transaction."""
    key = _key(build)
    if connection.execute("SELECT 1 FROM build WHERE key = ?", (key,)).fetchone():
        return
    artifact = _artifact(connection, build.digest, build.layers, at, build.media_type)
    _put(connection, "artifact_layer", ("artifact_id", "position"), _members(connection, artifact, build.layers))
    connection.execute(
        "UPDATE artifact SET created = ? WHERE id = ? AND created IS NULL", (_moment(build.created), artifact)
    )
    row = {
        "key": key,
        "artifact_id": artifact,
        "repository_id": _place(connection, build, artifact, at),
        "base_id": _base(connection, build, at),
        "environment": build.environment,
        "purpose": build.purpose,
        "source": storable(build.source),
        "commit": storable(build.commit),
        "dirty": build.dirty,
        "branch": storable(build.branch),
        "pipeline_run": storable(build.pipeline_run),
        "ci": None if build.ci is None else _json(msgspec.to_builtins(build.ci)),
        "builder": storable(build.builder),
        "base_lock": build.base_lock,
        "python_lock": build.python_lock,
        "materials": _json([msgspec.to_builtins(material) for material in build.materials]),
        "reused_layers": build.reused_layers,
        "built_layers": build.built_layers,
        "started": _moment(build.started),
        "finished": _moment(build.finished),
        "seconds": build.seconds,
        "committed": _moment(build.committed),
    }
    _add_missing(connection, "build", [row])
    detail = {
        "repository": build.repository,
        "source": build.source,
        "commit": build.commit,
        "dirty": build.dirty,
        "builder": build.builder,
        "pipeline_run": build.pipeline_run,
    }
    audit.append(connection, "build", build.digest, detail, at=at, actor=actor)


def _name(connection: Plain, build: BuildRecord, tag: str, at: dt.datetime, *, actor: str) -> None:
    """What `clearing.set_tag` does for an image that was built here and is not to be cleared."""
    artifact = _number(connection, "artifact", {"digest": build.digest})
    known = connection.execute(
        "SELECT tag.artifact_id FROM tag JOIN repository ON repository.id = tag.repository_id"
        " WHERE repository.name = ? AND tag.name = ?",
        (build.repository, tag),
    ).fetchone()
    if known is not None and known[0] == artifact:
        return
    number = _place(connection, build, artifact, at)
    said = "SELECT max(set_at) FROM tag_history WHERE repository_id = ? AND name = ?"
    before = connection.execute(said, (number, tag)).fetchone()[0]
    row = {
        "repository_id": number,
        "name": tag,
        "artifact_id": artifact,
        "visibility": "built",
        "verdict_id": None,
        # Whatever the clock says now, it follows what the tag said before.
        "set_at": max(stored_moment(at), stored_moment(before) if isinstance(before, dt.datetime) else before or ""),
    }
    _put(connection, "tag", ("repository_id", "name"), [row])
    connection.execute(_insert("tag_history", row), row)
    detail = {"digest": build.digest, "cleared_for": None}
    states = (
        *audit_states.now(connection, "tag", (build.repository, tag)),
        *audit_states.now(connection, "tag_change", (build.repository, tag, row["set_at"])),
    )
    audit.append(connection, "tag.set", f"{build.repository}:{tag}", detail, at=at, actor=actor, states=states)
