"""What runs where, what serves which model, who owns what; and what findings and verdicts said before."""

import sqlalchemy as sa
from alembic import op

from tidewaiter.core import clock

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DIGEST = sa.String(length=135)
_FACTS = ("findings", "models", "owners", "verdicts", "workloads")


def upgrade() -> None:
    _named_things()
    for table, of in (("workload_period", "workload"), ("model_period", "model_version")):
        _periods(table, of)
    _histories()
    for table in ("tag_history", "synced_tag_history"):
        op.create_index(f"ix_{table}_artifact_id", table, ["artifact_id"], unique=False)
    facts = op.create_table(
        "recorded_since",
        sa.Column("fact", sa.String(length=32), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("fact", name="pk_recorded_since"),
    )
    now = clock.now()
    if op.get_bind().dialect.name == "sqlite":
        now = now.replace(tzinfo=None)
    op.bulk_insert(facts, [{"fact": fact, "since": now} for fact in _FACTS])


def _row() -> "sa.Column[int]":
    return sa.Column("id", _IDENTITY, autoincrement=True, nullable=False)


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _named_things() -> None:
    op.create_table(
        "ownership",
        _row(),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=800), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        _moment("since"),
        _moment("until", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_ownership"),
    )
    op.create_index("ix_ownership_kind_subject", "ownership", ["kind", "subject"], unique=False)
    op.create_table(
        "workload",
        _row(),
        *(sa.Column(name, sa.String(length=255), nullable=False) for name in ("cluster", "namespace", "name")),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("container", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workload"),
        sa.UniqueConstraint(
            "cluster",
            "namespace",
            "name",
            "kind",
            "container",
            name="uq_workload_cluster_namespace_name_kind_container",
        ),
    )
    op.create_table(
        "model_version",
        _row(),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model_version"),
        sa.UniqueConstraint("name", "version", name="uq_model_version_name_version"),
    )


def _periods(table: str, of: str) -> None:
    op.create_table(
        table,
        _row(),
        sa.Column(f"{of}_id", _IDENTITY, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("known", sa.Boolean(), nullable=False),
        sa.Column("stage", sa.String(length=64), nullable=False),
        _moment("first_seen"),
        _moment("last_seen"),
        _moment("gone_at", nullable=True),
        sa.ForeignKeyConstraint([f"{of}_id"], [f"{of}.id"], name=f"fk_{table}_{of}_id"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    )
    op.create_index(f"ix_{table}_{of}_id", table, [f"{of}_id"], unique=False)
    op.create_index(f"ix_{table}_digest", table, ["digest"], unique=False)


def _histories() -> None:
    op.create_table(
        "finding_period",
        _row(),
        sa.Column("component_id", _IDENTITY, nullable=False),
        sa.Column("advisory_id", _IDENTITY, nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("fixed_in", sa.JSON(), nullable=False),
        sa.Column("found_as", sa.Text(), nullable=False),
        _moment("since"),
        _moment("until", nullable=True),
        sa.ForeignKeyConstraint(["component_id"], ["component.id"], name="fk_finding_period_component_id"),
        sa.ForeignKeyConstraint(["advisory_id"], ["advisory.id"], name="fk_finding_period_advisory_id"),
        sa.PrimaryKeyConstraint("id", name="pk_finding_period"),
    )
    op.create_index("ix_finding_period_component_id", "finding_period", ["component_id"], unique=False)
    op.create_index("ix_finding_period_advisory_id", "finding_period", ["advisory_id"], unique=False)
    op.execute(
        "INSERT INTO finding_period (component_id, advisory_id, severity, fixed_in, found_as, since)"
        " SELECT component_id, advisory_id, severity, fixed_in, found_as, found_at FROM finding"
    )
    op.create_table(
        "verdict_earlier",
        _row(),
        sa.Column("verdict_id", _IDENTITY, nullable=False),
        _moment("decided_at"),
        _moment("valid_until"),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdict.id"], name="fk_verdict_earlier_verdict_id"),
        sa.PrimaryKeyConstraint("id", name="pk_verdict_earlier"),
    )
    op.create_index("ix_verdict_earlier_verdict_id", "verdict_earlier", ["verdict_id"], unique=False)
