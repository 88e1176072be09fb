"""What verdicts were asked about, so that they can be decided anew without their images; and which are to be."""

from sqlalchemy import Column, Index, LargeBinary, String, Table

from tidewaiter.catalog.schema.columns import DigestText, Moment, metadata, of, row

# What images of a class have in common in the question about them; what it holds is the asking room's matter.
question_class = Table(
    "question_class",
    metadata,
    row(),
    Column("digest", DigestText, nullable=False, unique=True),
    Column("document", LargeBinary, nullable=False),
)

# What an image was asked about last in an environment: what it has for itself, and its class.
question = Table(
    "question",
    metadata,
    of("artifact", primary_key=True),
    Column("environment", String(64), primary_key=True),
    of("question_class"),
    Column("own", LargeBinary, nullable=False),
    Index(None, "question_class_id"),
)

# Component sets with a package version whose findings changed since their verdicts were decided.
outdated_set = Table(
    "outdated_set",
    metadata,
    of("component_set", primary_key=True),
    Column("since", Moment, nullable=False),
)
