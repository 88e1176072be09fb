"""Who may what: users and their roles, API tokens, sessions. Nothing in here lets anybody in: secrets are hashes."""

from sqlalchemy import JSON, Column, Index, String, Table, Text, UniqueConstraint

from tidewaiter.catalog.schema.columns import Moment, metadata, of, row

# A person, or a service that has tokens only. `password` is argon2's own form, empty when there is none; with
# `one_time_until` it ends then and is good for choosing another one only. Issuer and subject: who comes by OIDC.
user_account = Table(
    "user_account",
    metadata,
    row(),
    Column("name", String(100), nullable=False, unique=True),
    Column("password", Text, nullable=False),
    Column("password_set_at", Moment),
    Column("one_time_until", Moment),
    Column("issuer", String(255)),
    Column("subject", String(255)),
    Column("created_at", Moment, nullable=False),
    Column("disabled_at", Moment),
    UniqueConstraint("issuer", "subject"),
)

# `source`: `granted` by an administrator, or of the person's `groups` at the provider when it logged in last.
role_grant = Table(
    "role_grant",
    metadata,
    row(),
    of("user_account"),
    Column("project", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("granted_at", Moment, nullable=False),
    UniqueConstraint("user_account_id", "project", "role", "source"),
)

# `NAME`, which has `role` in `projects`, or `USER/NAME`, which has what its user has, in `projects` when it names any.
# `permissions`: what it is limited to; null: nothing more.
api_token = Table(
    "api_token",
    metadata,
    row(),
    Column("name", String(201), nullable=False, unique=True),
    Column("hash", String(64), nullable=False, unique=True),
    of("user_account", nullable=True),
    Column("role", String(16), nullable=False),
    Column("projects", JSON, nullable=False),
    Column("permissions", JSON),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("used_at", Moment),
    Column("revoked_at", Moment),
    Index(None, "user_account_id"),
)

login_session = Table(
    "login_session",
    metadata,
    row(),
    Column("hash", String(64), nullable=False, unique=True),
    of("user_account"),
    Column("created_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Index(None, "user_account_id"),
)
