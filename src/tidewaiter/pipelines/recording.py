"""Steps: many things said at once. All of it, or, when something cannot be right, all that can."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from tidewaiter.catalog import model_versions, owners, workloads
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.core.errors import StorageError, TidewaiterError

_T = TypeVar("_T")


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """One of many that was not recorded."""

    index: int
    """Its place among those given, from 0."""
    code: str
    message: str
    next: str


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of many."""

    recorded: int
    refused: tuple[Refused, ...] = ()


class ModelSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a model version."""

    model: tuple[str, str]
    """Name and version."""
    seen: Seen
    owner: str = ""


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers for something from now on; an empty owner: nobody."""

    kind: owners.Kind
    subject: str
    owner: str


def sightings(catalog: Catalog, given: Sequence[Callable[[], Sighting]]) -> Recorded:
    """Record looks at workloads; each is made when it is its turn, so that one which is malformed stops no other."""

    def put(some: Sequence[Sighting]) -> None:
        with catalog.database.writing() as connection:
            workloads.record(connection, some, clock.now())

    return _each(given, put)


def models(catalog: Catalog, given: Sequence[Callable[[], ModelSeen]]) -> Recorded:
    """As `sightings`, for model versions."""

    def put(some: Sequence[ModelSeen]) -> None:
        with catalog.database.writing() as connection:
            for one in some:
                model_versions.record(connection, one.model, one.seen, clock.now(), owner=one.owner)

    return _each(given, put)


def owned(catalog: Catalog, given: Sequence[Callable[[], Owned]]) -> Recorded:
    """As `sightings`, for owners."""

    def put(some: Sequence[Owned]) -> None:
        with catalog.database.writing() as connection:
            for one in some:
                owners.put(connection, one.kind, one.subject, one.owner, clock.now())

    return _each(given, put)


def _each(given: Sequence[Callable[[], _T]], put: Callable[[Sequence[_T]], None]) -> Recorded:
    made: list[tuple[int, _T]] = []
    refused: list[Refused] = []
    for index, make in enumerate(given):
        try:
            made.append((index, make()))
        except StorageError:
            raise
        except TidewaiterError as error:
            refused.append(_refused(index, error))
    count = len(made)
    try:
        if made:
            put([one for _, one in made])
    except StorageError:
        raise
    except TidewaiterError:
        # One of them cannot be: each on its own, so that it is known which.
        for index, one in made:
            try:
                put([one])
            except StorageError:
                raise
            except TidewaiterError as error:
                refused.append(_refused(index, error))
                count -= 1
    return Recorded(recorded=count, refused=tuple(sorted(refused, key=lambda one: one.index)))


def _refused(index: int, error: TidewaiterError) -> Refused:
    return Refused(index=index, code=error.code, message=error.message, next=error.next_step)
