"""Whether images are allowed where they run: for image and environment what the verdicts that stand say."""

import datetime as dt
from collections.abc import Collection
from typing import Literal

from sqlalchemy import Connection, select

from tidewaiter.catalog import schema, verdicts_at
from tidewaiter.catalog.rows import chunks

Allowed = Literal["allow", "deny", "expired", "none"]
"""`expired`: it was allowed, and the verdict is over. `none`: not decided, or the catalog does not know the image."""

_WORST: tuple[Allowed, ...] = ("deny", "none", "expired", "allow")


def answers(
    connection: Connection, asked: Collection[tuple[str, str]], at: dt.datetime | None, now: dt.datetime
) -> dict[tuple[str, str], Allowed]:
    """For each digest and environment what the verdict that stood at `at`, or stands now, says.

    An index is as allowed as the worst of the images that it lists, unless it was decided itself.
    """
    images = _images(connection, {digest for digest, _ in asked})
    numbers = {number for each in images.values() for number in each}
    stood = {
        (number, one.environment): _answer(one.answer, one.valid_until, at or now)
        for number, each in verdicts_at.standing(connection, numbers, at).items()
        for one in each
    }
    found: dict[tuple[str, str], Allowed] = {}
    for digest, environment in asked:
        own, *listed = images.get(digest, [0])
        answer = stood.get((own, environment), "none")
        if answer == "none" and listed:
            answer = min((stood.get((one, environment), "none") for one in listed), key=_WORST.index)
        found[digest, environment] = answer
    return found


def _answer(verdict: str, valid_until: dt.datetime, at: dt.datetime) -> Allowed:
    if verdict != "allow":
        return "deny"
    return "allow" if valid_until > at else "expired"


def _images(connection: Connection, digests: Collection[str]) -> dict[str, list[int]]:
    """Row number of each image that is known, followed by those of the images that it lists when it is an index."""
    of, child = schema.artifact.c, schema.synced_child.c
    found: dict[str, list[int]] = {}
    for some in chunks(sorted(digests)):
        for row in connection.execute(select(of.digest, of.id).where(of.digest.in_(some))):
            found[row.digest] = [row.id]
        query = (
            select(of.digest, child.child_id)
            .join(schema.synced_child, child.parent_id == of.id)
            .where(of.digest.in_(some), child.platform != "unknown/unknown")
            .order_by(child.child_id)
        )
        for row in connection.execute(query):
            found[row.digest].append(row.child_id)
    return found
