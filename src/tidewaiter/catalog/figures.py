"""Numbers of a catalog as a whole, for those who watch it: how much of each noun, what is cleared, what was decided."""

import msgspec
from sqlalchemy import Connection, Table, func, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.plain import Plain

_COUNTED: tuple[tuple[str, Table], ...] = (
    ("images", schema.artifact),
    ("layers", schema.layer),
    ("packages", schema.component),
    ("package_sets", schema.component_set),
    ("findings", schema.finding),
    ("repositories", schema.repository),
    ("builds", schema.build),
    ("signatures", schema.signature),
    ("attestations", schema.attestation),
    ("waivers", schema.waiver),
    ("bases", schema.base),
)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Taken in one view of the catalog."""

    rows: dict[str, int]
    """By noun."""
    tags: dict[str, int]
    """By visibility: `built`, `pulled`, `cleared`."""
    cleared: dict[str, int]
    """Tags by the environment that they are cleared for."""
    verdicts: dict[tuple[str, str], int]
    """Recorded ones by environment and answer (`allow`, `deny`)."""
    audit_entries: int
    """With a position."""
    audit_pending: int


def read(connection: Connection) -> Figures:
    """The figures now."""

    def count(table: Table) -> int:
        return connection.scalar(select(func.count()).select_from(table)) or 0

    tag, verdict = schema.tag, schema.verdict
    number = func.count()
    tags = select(tag.c.visibility, number).group_by(tag.c.visibility)
    cleared = select(verdict.c.environment, number).join_from(tag, verdict).group_by(verdict.c.environment)
    decided = select(verdict.c.environment, verdict.c.verdict, number).group_by(
        verdict.c.environment, verdict.c.verdict
    )
    return Figures(
        rows={name: count(table) for name, table in _COUNTED},
        tags={row[0]: row[1] for row in connection.execute(tags)},
        cleared={row[0]: row[1] for row in connection.execute(cleared)},
        verdicts={(environment, answer): many for environment, answer, many in connection.execute(decided)},
        audit_entries=connection.scalar(select(schema.audit_state.c.size)) or 0,
        audit_pending=count(schema.audit_pending),
    )


def pending(log: Plain) -> int:
    """Changes that wait for their position in the audit log, of a view that `audit_log.reading` gives."""
    return int(log.execute("SELECT count(*) FROM audit_pending").fetchone()[0])


def answers(connection: Connection) -> None:
    """Read a row of a table that every catalog has; raises what the database raises when it cannot answer."""
    connection.execute(select(schema.repository.c.id).limit(1)).first()
