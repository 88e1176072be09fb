"""Components as they are matched with advisories, by row number."""

from collections.abc import Iterable, Sequence
from typing import cast

from sqlalchemy import Connection, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.rows import AnyRow, chunks
from tidewaiter.sbom.component import Component, Kind

COLUMNS = (
    schema.component.c.id,
    schema.component.c.kind,
    schema.component.c.name,
    schema.component.c.version,
    schema.component.c.purl,
    schema.component.c.ecosystem,
    schema.component.c.source_name,
    schema.component.c.source_version,
)


def of_rows(rows: Iterable[AnyRow]) -> dict[int, Component]:
    """The components in rows of `COLUMNS`."""
    return {
        number: Component(
            kind=cast("Kind", kind),
            name=name,
            version=version,
            purl=purl,
            ecosystem=ecosystem,
            source_name=source_name,
            source_version=source_version,
        )
        for number, kind, name, version, purl, ecosystem, source_name, source_version in rows
    }


def read(connection: Connection, wanted: Sequence[int]) -> dict[int, Component]:
    """Those of `wanted` that are there."""
    found: dict[int, Component] = {}
    for some in chunks(wanted):
        found |= of_rows(connection.execute(select(*COLUMNS).where(schema.component.c.id.in_(some))))
    return found
