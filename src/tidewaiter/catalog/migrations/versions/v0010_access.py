"""Who may what: users, what roles they have in which projects, tokens, sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "user_account",
        _row(),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        _moment("password_set_at", nullable=True),
        _moment("one_time_until", nullable=True),
        sa.Column("issuer", sa.String(length=255), nullable=True),
        sa.Column("subject", sa.String(length=255), nullable=True),
        _moment("created_at"),
        _moment("disabled_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_user_account"),
        sa.UniqueConstraint("name", name="uq_user_account_name"),
        sa.UniqueConstraint("issuer", "subject", name="uq_user_account_issuer_subject"),
    )
    op.create_table(
        "role_grant",
        _row(),
        sa.Column("user_account_id", _IDENTITY, nullable=False),
        sa.Column("project", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        _moment("granted_at"),
        _of_user("role_grant"),
        sa.PrimaryKeyConstraint("id", name="pk_role_grant"),
        sa.UniqueConstraint(
            "user_account_id", "project", "role", "source", name="uq_role_grant_user_account_id_project_role_source"
        ),
    )
    _secrets()


def _secrets() -> None:
    op.create_table(
        "api_token",
        _row(),
        sa.Column("name", sa.String(length=201), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("user_account_id", _IDENTITY, nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("projects", sa.JSON(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=True),
        _moment("created_at"),
        _moment("expires_at"),
        _moment("used_at", nullable=True),
        _moment("revoked_at", nullable=True),
        _of_user("api_token"),
        sa.PrimaryKeyConstraint("id", name="pk_api_token"),
        sa.UniqueConstraint("name", name="uq_api_token_name"),
        sa.UniqueConstraint("hash", name="uq_api_token_hash"),
    )
    op.create_index("ix_api_token_user_account_id", "api_token", ["user_account_id"], unique=False)
    op.create_table(
        "login_session",
        _row(),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("user_account_id", _IDENTITY, nullable=False),
        _moment("created_at"),
        _moment("seen_at"),
        _moment("expires_at"),
        _of_user("login_session"),
        sa.PrimaryKeyConstraint("id", name="pk_login_session"),
        sa.UniqueConstraint("hash", name="uq_login_session_hash"),
    )
    op.create_index("ix_login_session_user_account_id", "login_session", ["user_account_id"], unique=False)


def _row() -> "sa.Column[int]":
    return sa.Column("id", _IDENTITY, autoincrement=True, nullable=False)


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _of_user(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_account_id"], ["user_account.id"], name=f"fk_{table}_user_account_id")
