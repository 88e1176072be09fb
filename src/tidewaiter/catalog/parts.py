"""A part of a list, and where the next one begins: behind a key, so that no row is repeated or hidden meanwhile."""

from collections.abc import Sequence
from typing import Any

import msgspec

Position = tuple[str | int | float, ...]


class Part(msgspec.Struct, frozen=True):
    """Some rows, and the position of the last one; None when there are no more."""

    items: tuple[Any, ...]
    next: Position | None


def cut(items: Sequence[Any], wanted: int, position: Position | None) -> Part:
    """The first `wanted` of `items`, of which one more was asked for; `position` is that of the last one shown."""
    return Part(tuple(items[:wanted]), position if len(items) > wanted else None)
