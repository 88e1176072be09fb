"""Tags may say `pulled`: the image came from elsewhere, was not built here and is not cleared."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CLEARED = (
    "(visibility IN ('built', 'pulled') AND verdict_id IS NULL) OR (visibility = 'cleared' AND verdict_id IS NOT NULL)"
)


def upgrade() -> None:
    for table in ("tag", "tag_history"):
        name = op.f(f"ck_{table}_cleared_by_verdict")
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(name, type_="check")
            batch.create_check_constraint(name, _CLEARED)
