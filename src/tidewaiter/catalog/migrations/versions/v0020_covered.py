"""Tags that are gone, what else the log compares from now on, and what is asked again before an answer is repeated."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0016"
branch_labels = None
depends_on = None

_GONE = (
    "(visibility IN ('built', 'pulled', 'gone') AND verdict_id IS NULL) "
    "OR (visibility = 'cleared' AND verdict_id IS NOT NULL)"
)
_AT_ONCE = 10_000


def upgrade() -> None:
    name = op.f("ck_tag_history_cleared_by_verdict")
    with op.batch_alter_table("tag_history") as batch:
        batch.drop_constraint(name, type_="check")
        batch.create_check_constraint(name, _GONE)
    op.add_column("idempotent_answer", sa.Column("required", sa.JSON(), nullable=True))
    _cover()


def _cover() -> None:
    """Say in the log how the rows read of which it said nothing before: what changes from now on is found."""
    from tidewaiter.catalog.audit import entries, states
    from tidewaiter.core import clock

    connection = op.get_bind()
    for kind in ("tag_change", "verdict_time"):
        found = list(states.all_of(connection, (kind,)))
        for start in range(0, len(found), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            entries.append(
                connection, "audit.cover", kind, {"rows": len(some)}, at=clock.now(), states=some, batch=True
            )
