"""What rules answered about classes of images: kept so that nothing is worked out twice, and safe to lose.

What a key names is the asking room's matter (`policy.classes`); here it is a digest.
"""

from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

from sqlalchemy import delete, func, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among_texts
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.glance import Place
from tidewaiter.catalog.rows import add_missing
from tidewaiter.core import limits
from tidewaiter.oci.digest import Digest, parse


class Decisions:
    """The answers in the catalog at `place`, which is of this program's schema. Use as a context manager.

    Both methods raise `StorageError` when the database refuses.
    """

    def __init__(self, place: Place) -> None:
        self._database = Database(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def recall(self, keys: Collection[Digest]) -> dict[Digest, bytes]:
        """The answers that are kept under `keys`."""
        table = schema.decision
        with self._database.reading() as connection:
            rows = connection.execute(select(table.c.key, table.c.answer).where(among_texts(table.c.key, keys)))
            return {parse(key): answer for key, answer in rows.all()}

    def keep(self, answers: Mapping[Digest, bytes]) -> None:
        """Keep `answers`; those that are there stay, and the oldest go when there are too many."""
        table = schema.decision
        with self._database.writing() as connection:
            add_missing(connection, table, [{"key": key, "answer": answer} for key, answer in answers.items()])
            newest = connection.scalar(select(func.max(table.c.id))) or 0
            connection.execute(delete(table).where(table.c.id <= newest - limits.POLICY_DECISIONS))
