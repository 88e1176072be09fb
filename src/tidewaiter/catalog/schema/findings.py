"""Advisories, findings per component version, and what could not be judged."""

from sqlalchemy import (
    JSON,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tidewaiter.catalog.schema.columns import Identity, Moment, metadata, of, row

advisory = Table(
    "advisory",
    metadata,
    row(),
    Column("name", String(128), nullable=False, unique=True),
    Column("published", Moment),
    Column("modified", Moment),
)

# Every name under which an advisory is known, its own included.
advisory_alias = Table(
    "advisory_alias",
    metadata,
    Column("alias", String(128), primary_key=True),
    of("advisory", primary_key=True),
    Index(None, "advisory_id"),
)

finding = Table(
    "finding",
    metadata,
    of("component", primary_key=True),
    of("advisory", primary_key=True),
    Column("severity", String(16), nullable=False),
    Column("score", Float),
    Column("vector", Text, nullable=False),
    Column("fixed_in", JSON, nullable=False),
    Column("found_as", Text, nullable=False),
    Column("advisories_revision", Text, nullable=False),
    Column("found_at", Moment, nullable=False),
    Index(None, "advisory_id"),
)

# That the components of a set were compared with the advisories of a revision, and which could not be.
scan = Table(
    "scan",
    metadata,
    row(),
    of("component_set"),
    Column("advisories_revision", Text, nullable=False),
    Column("advisories_as_of", Moment),
    Column("not_checked", JSON, nullable=False),
    Column("scanned_at", Moment, nullable=False),
    UniqueConstraint("component_set_id", "advisories_revision"),
    Index(None, "scanned_at"),
)

# A package as advisories speak of it, and the state of the advisory data that its versions' findings come from.
package = Table(
    "package",
    metadata,
    row(),
    Column("ecosystem", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    UniqueConstraint("ecosystem", "name"),
)

# Components whose findings are those of their package's state; one that is missing here is to be matched.
component_package = Table(
    "component_package",
    metadata,
    of("component", primary_key=True),
    of("package"),
    Index(None, "package_id"),
)

# Why a component, or some advisories about it, could not be judged when it was matched.
component_gap = Table(
    "component_gap",
    metadata,
    of("component", primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("advisories", JSON, nullable=False),
)

# The advisories that every component of the catalog was matched with last: one row.
matching = Table(
    "matching",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("advisories_revision", Text, nullable=False),
    Column("coverage", JSON, nullable=False),
    Column("matched_at", Moment, nullable=False),
    # Components with a row number up to this one have theirs in `component_package`; empty: nobody looked.
    Column("through", Identity),
)
