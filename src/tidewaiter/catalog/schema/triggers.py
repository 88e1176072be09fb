"""What makes runs by itself: webhooks that were taken, and when schedules come round."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from tidewaiter.catalog.schema.columns import Moment, metadata

# A webhook that was taken, so that the same one does nothing when it comes again. `delivery` is what its sender calls
# it, or a hash of what it signed. `runs`: names of what it made, between spaces.
hook_delivery = Table(
    "hook_delivery",
    metadata,
    Column("sender", String(100), primary_key=True),
    Column("delivery", String(200), primary_key=True),
    Column("runs", Text, nullable=False),
    Column("until", Moment, nullable=False),
    Index(None, "until"),
)

# When a schedule comes next. `said`: how it read then; one that was changed begins anew. `retry_at`: its source did not
# answer, and is not asked before.
schedule_turn = Table(
    "schedule_turn",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("said", Text, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("retry_at", Moment),
    Column("failures", Integer, nullable=False),
)
