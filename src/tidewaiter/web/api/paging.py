"""Lists in parts: what comes after the last item that was given, never "the third fifty".

So rows that are added meanwhile neither repeat an item nor hide one.
"""

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import msgspec

from tidewaiter.catalog.parts import Part
from tidewaiter.core import limits
from tidewaiter.web import problems
from tidewaiter.web.api.route import Ask, Page

Item = TypeVar("Item")
Position = TypeVar("Position", bound=tuple[Any, ...])
Key = tuple[str, ...]

RowNumber = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$")]
"""In a cursor: databases do not take a NUL."""
Limit = Annotated[int, msgspec.Meta(ge=1, le=limits.API_PAGE_ITEMS, description="At most so many items.")]
After = Annotated[
    str, msgspec.Meta(max_length=limits.API_CURSOR_CHARACTERS, description="`next` of the part before this one.")
]


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """Query of a list: which part of it."""

    limit: Limit = limits.PAGE_ROWS
    after: After = ""


def cursor(position: tuple[Any, ...] | None) -> str | None:
    """The position as a cursor."""
    return None if position is None else base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def position(text: str, kind: type[Position]) -> Position | None:
    """The position in a cursor, None in an empty one; 400 when the text is none that was given."""
    if not text:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        found: Position = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=kind)
    except (binascii.Error, ValueError) as error:
        raise made_up() from error
    if cursor(found) != text:
        raise made_up()
    return found


def row_number(text: str) -> int | None:
    """The row number in a cursor of a list that goes by them."""
    found = position(text, tuple[RowNumber])
    return None if found is None else found[0]


def text_before(text: str) -> str:
    """The name in a cursor of a list that goes by name; empty in an empty one."""
    found = position(text, tuple[Text])
    return "" if found is None else found[0]


def made_up() -> problems.HttpError:
    """400 for a cursor that no list gave."""
    return problems.malformed("`after` is no cursor of this list", "Give the `next` of the part before, unchanged.")


def page(found: Part) -> Page[Any]:
    """A part of a list as an answer."""
    return Page(found.items, cursor(found.next))


def listed(ask: Ask, function: Callable[..., Part], query: Paging, after: object) -> Page[Any]:
    """What a list of the catalog gives, whose filters are called as those of the query; the part behind `after`."""
    filters = {name: getattr(query, name) for name in query.__struct_fields__ if name not in Paging.__struct_fields__}
    with ask.source.catalog.database.reading() as connection:
        return page(function(connection, **filters, after=after, rows=query.limit))


def part(items: Iterable[Item], of: Callable[[Item], Key], query: Paging) -> Page[Item]:
    """The part of a list that is in memory, in the order of its keys, which are different from each other."""
    seen = position(query.after, tuple[Text, ...])
    ordered = sorted(items, key=of)
    if seen is not None:
        if not seen or (ordered and len(seen) != len(of(ordered[0]))):
            raise made_up()
        ordered = [one for one in ordered if of(one) > seen]
    shown = tuple(ordered[: query.limit])
    return Page(shown, cursor(of(shown[-1])) if len(ordered) > query.limit else None)


def ranked(items: Iterable[Item], query: Paging) -> Page[Item]:
    """The part of a list that has an order of its own and does not grow, by place in it."""
    seen = position(query.after, tuple[RowNumber])
    ordered = tuple(items)
    begin = 0 if seen is None else seen[0]
    end = begin + query.limit
    return Page(ordered[begin:end], cursor((end,)) if len(ordered) > end else None)
