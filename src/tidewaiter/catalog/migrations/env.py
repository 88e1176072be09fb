"""Runs migrations on the connection, and inside the transaction, that the caller hands over."""

from alembic import context

from tidewaiter.catalog import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
