"""Saying in the audit log, by plain statements, what was done outside of the catalog: SQLAlchemy loads longer."""

from typing import Any

from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.glance import Place
from tidewaiter.catalog.plain_writing import writing
from tidewaiter.core import clock


def say(path: Place, action: str, subject: str, detail: dict[str, Any], *, actor: str = "") -> None:
    """What `Catalog.log` does: the entry waits for the sequencer.

    Raises:
        UnansweredError: the file is missing, of another schema, locked, damaged, full, or there is none as on
            PostgreSQL; nothing was written.
    """
    with writing(path) as connection:
        audit.append(connection, action, subject, detail, at=clock.now(), actor=actor)
