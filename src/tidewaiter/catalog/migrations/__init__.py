"""Alembic migrations of the catalog. `env.py` is run by Alembic, `versions/` holds one module a revision."""
