"""Which images a filter can mean at all, so that a list need not look at every image to show the few that fit.

Names are asked first: of repositories there are few, and tags are read in one go. Where few images are left, only they
are looked at, and sorted; where many are, the latest are looked at one after another until the page is full. What is
left out here never fits; what is kept is still held against every condition.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import Boolean, ColumnElement, Connection, Select, and_, false, func, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among
from tidewaiter.catalog.schema.columns import ODD

PLACE = schema.repository_artifact.c
FEW = 5000
"""Images that are looked at one by one."""
_HARDLY_ANY = 1000
_PLAIN = re.compile(r"[a-z0-9._-]*")
_AFTER = "\U0010ffff"


class Narrowed(NamedTuple):
    """Conditions about an image in a repository, and the images that alone can fit."""

    conditions: tuple[ColumnElement[bool], ...] = ()
    images: frozenset[int] | None = None
    """Row numbers; None when there are many."""

    def also(self, other: "Narrowed") -> "Narrowed":
        """What fits both."""
        images = other.images if self.images is None else self.images
        if self.images is not None and other.images is not None:
            images = self.images & other.images
        return Narrowed((*self.conditions, *other.conditions), images)

    def fewer(self, connection: Connection, query: Select[Any]) -> frozenset[int] | None:
        """What the query finds, if that is few; it is not asked where hardly any image is left."""
        return None if self.is_narrow else few_of_many(connection, query)

    @property
    def is_narrow(self) -> bool:
        """Whether images are so few that more conditions cost less than to find out what they fit."""
        return self.images is not None and len(self.images) <= _HARDLY_ANY


ALL = Narrowed()


def unaided(column: ColumnElement[int], numbers: Iterable[int]) -> ColumnElement[bool]:
    """As `among`, but no index is asked: of two such lists SQLite would look up every pair."""
    return among(column + 0, numbers)


def few(connection: Connection, query: Select[Any]) -> frozenset[int] | None:
    """The row numbers that the query finds, or None when there are many."""
    # Without DISTINCT, for which SQLite reads tables in the order of an index, page after page.
    found = connection.scalars(query.limit(FEW + 1)).all()
    return frozenset(found) if len(found) <= FEW else None


def few_of_many(connection: Connection, query: Select[Any]) -> frozenset[int] | None:
    """As `few`, of what there are probably many of: their numbers are not even asked for."""
    if connection.scalar(query.offset(FEW).limit(1)) is not None:
        return None
    return few(connection, query)


def there(query: Select[Any]) -> ColumnElement[bool]:
    """Whether the query, which is about one image, finds anything.

    With an offset PostgreSQL asks it image by image, the latest first until the page is full; else it may make one
    list of all that the query finds for all images, which takes longer by far.
    """
    return query.offset(0).exists()


def begins(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Whether the column begins with the text; as a range, so that an index answers."""
    return and_(column >= text, column < text + _AFTER)


def contains(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Whether the column contains the text in lower case, whatever its own case: databases differ in that."""
    whole = func.lower(column) if any(map(str.isalpha, text)) else column
    return whole.contains(text, autoescape=True)


def tag_contains(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """As `contains`, of the name of a tag. An odd text is only in an odd name, of which an index has all."""
    inside = contains(column, text)
    return inside if _PLAIN.fullmatch(text) else and_(_Odd(column), inside)


class _Odd(FunctionElement[bool]):
    """Whether a name has a character that no tag of a registry can have: the condition of an index, word by word."""

    inherit_cache = True
    type = Boolean()


@compiles(_Odd)
def _odd(element: _Odd, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as SQLAlchemy calls it
    name = compiler.process(element.clauses, **options)
    return ODD[compiler.dialect.name].replace("name", name, 1)


def like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Whether the column fits a pattern with `*` and `?`, whatever the case."""
    escaped = pattern.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return func.lower(column).like(escaped.replace("*", "%").replace("?", "_"), escape="\\")


def repositories(connection: Connection, condition: ColumnElement[bool]) -> frozenset[int] | None:
    """Row numbers of the repositories of which the condition holds, or None when there are many."""
    return few(connection, select(schema.repository.c.id).where(condition))


def of_repositories(connection: Connection, condition: ColumnElement[bool]) -> Narrowed:
    """Images in the repositories of which the condition holds."""
    found = repositories(connection, condition)
    return Narrowed((condition,)) if found is None else in_repositories(connection, found)


def in_repositories(connection: Connection, found: Collection[int]) -> Narrowed:
    """Images in these repositories."""
    inside = select(PLACE.artifact_id).where(among(PLACE.repository_id, found))
    images = few(connection, inside) if found else frozenset[int]()
    return Narrowed((unaided(PLACE.repository_id, found),), images)


def tagged(
    connection: Connection,
    stored: ColumnElement[bool],
    seen: ColumnElement[bool],
    places: Collection[int] | None = None,
) -> Narrowed:
    """Images with a tag of the store, or elsewhere, of which the condition holds; also through an index.

    `places`: row numbers of the repositories in which alone the images are wanted, when that is known.
    """
    tag, elsewhere, below = schema.tag.c, schema.synced_tag.c, schema.synced_child.c
    here = select(tag.name).where(tag.repository_id == PLACE.repository_id, tag.artifact_id == PLACE.artifact_id)
    away = select(elsewhere.name).where(elsewhere.repository_id == PLACE.repository_id)
    through = away.join(schema.synced_child, below.parent_id == elsewhere.artifact_id)
    condition = or_(
        there(here.where(stored)),
        there(away.where(elsewhere.artifact_id == PLACE.artifact_id, seen)),
        there(through.where(below.child_id == PLACE.artifact_id, seen)),
    )
    images = few(connection, select(tag.artifact_id).where(stored, *_inside(tag.repository_id, places)))
    direct = few(connection, select(elsewhere.artifact_id).where(seen, *_inside(elsewhere.repository_id, places)))
    if images is None or direct is None:
        return Narrowed((condition,))
    within = select(below.child_id).where(among(below.parent_id, direct))
    listed = few(connection, within) if direct else frozenset[int]()
    if listed is None or len(images | direct | listed) > FEW:
        return Narrowed((condition,))
    return Narrowed((condition,), images | direct | listed)


def _inside(column: ColumnElement[int], places: Collection[int] | None) -> list[ColumnElement[bool]]:
    return [] if places is None else [among(column, places)]


def with_sets(connection: Connection, sets: Collection[int], so_far: Narrowed) -> Narrowed:
    """Images with one of these component sets; `so_far`: what is known of them already."""
    of = schema.artifact.c
    images = so_far.fewer(connection, select(of.id).where(among(of.component_set_id, sets)))
    return Narrowed((unaided(of.component_set_id, sets),), images)


def of_images(connection: Connection, query: Select[Any]) -> Narrowed:
    """Images whose row numbers the query finds."""
    found = few(connection, query)
    return Narrowed((PLACE.artifact_id.in_(query) if found is None else among(PLACE.artifact_id, found),), found)


def any_of(alternatives: Collection[Narrowed]) -> Narrowed:
    """What fits one of them."""
    condition = or_(false(), *(and_(*one.conditions) for one in alternatives if one.images != frozenset()))
    known = [one.images for one in alternatives if one.images is not None]
    images = frozenset[int]().union(*known)
    complete = len(known) == len(alternatives) and len(images) <= FEW
    return Narrowed((condition,), images if complete else None)
