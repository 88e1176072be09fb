"""The order of Maven versions, as Maven's `ComparableVersion` compares them (3.9).

A version is a list of numbers, qualifiers and, from each `-` and each change between digits and letters on, of a list
within the list. Zeros, empty qualifiers and empty lists at the end of a list do not count.

Maven's order is not one for every text: `1.sp.1` is newer than `1`, which is newer than `1-rc`, which is newer than
`1.sp.1`. Qualifiers after a dot that something but a number follows do that, and numbered names of the release
(`Final1`); this module answers for them as Maven does.
"""

import re
from collections.abc import Sequence
from functools import total_ordering
from itertools import zip_longest
from typing import TypeVar, Union

Item = Union[int, str, "tuple[Item, ...]"]

_QUALIFIERS = {"alpha": 0, "beta": 1, "milestone": 2, "rc": 3, "snapshot": 4, "": 5, "sp": 6}
_RELEASE = _QUALIFIERS[""], ""
_UNKNOWN = len(_QUALIFIERS)
_ALIASES = {"ga": "", "final": "", "release": "", "cr": "rc"}
_BEFORE_DIGIT = {"a": "alpha", "b": "beta", "m": "milestone"}
_TEXT = re.compile(r"[!-~]{1,1000}")
_PARTS = re.compile(r"[.-]|[0-9]+|[^0-9.-]+")


def _rank(qualifier: str) -> tuple[int, str]:
    """Known qualifiers in their order, then all others by their text."""
    known = _QUALIFIERS.get(qualifier)
    return (_UNKNOWN, qualifier) if known is None else (known, "")


_Comparable = TypeVar("_Comparable", int, tuple[int, str])


def _sign(left: _Comparable, right: _Comparable) -> int:
    return (left > right) - (left < right)


def _with_nothing(item: Item) -> int:
    """How `item` compares with the end of the other list: as the first of its items that says something."""
    items: tuple[Item, ...] = item if isinstance(item, tuple) else (item,)
    while items:
        inner: tuple[Item, ...] = ()
        for one in items:
            if isinstance(one, tuple):
                inner = one
            elif result := int(one != 0) if isinstance(one, int) else _sign(_rank(one), _RELEASE):
                return result
        items = inner
    return 0


def _compare_items(left: Item | None, right: Item | None) -> int:
    """How two items compare of which at most one is a list: qualifiers, then lists, then numbers."""
    if left is None or right is None:
        if right is not None:
            return -_with_nothing(right)
        return 0 if left is None else _with_nothing(left)
    if isinstance(left, str) and isinstance(right, str):
        return _sign(_rank(left), _rank(right))
    if isinstance(left, int) and isinstance(right, int):
        return _sign(left, right)
    one, other = (0 if isinstance(item, str) else 1 if isinstance(item, tuple) else 2 for item in (left, right))
    return _sign(one, other)


def _compare(left: tuple[Item, ...], right: tuple[Item, ...]) -> int:
    deeper = True
    while deeper:
        deeper = False
        for one, other in zip_longest(left, right):
            if isinstance(one, tuple) and isinstance(other, tuple):
                left, right, deeper = one, other, True  # a list is the last item of its list
            elif result := _compare_items(one, other):
                return result
    return 0


def _closed(items: Sequence[Item]) -> tuple[Item, ...]:
    """`items` without those at the end that say nothing; lists that do say something are passed over."""
    kept = list(items)
    for place in range(len(kept) - 1, -1, -1):
        item = kept[place]
        if item in {0, ()} or (isinstance(item, str) and _rank(item) == _RELEASE):
            del kept[place]
        elif not isinstance(item, tuple):
            break
    return tuple(kept)


def _items(version: str) -> tuple[Item, ...]:
    lists: list[list[Item]] = [[]]
    pending: Item | None = None
    parts = _PARTS.findall(version.lower())
    for part, following in zip_longest(parts, parts[1:], fillvalue=""):
        if part in {".", "-"}:
            lists[-1].append(0 if pending is None else pending)
            pending = None
            if part == "-":
                lists.append([])
            continue
        if isinstance(pending, int):  # letters after digits
            lists[-1].append(pending)
            lists.append([])
        if part.isdecimal():
            pending = int(part)
        elif following in {".", "-"}:
            pending = _ALIASES.get(part, part)
        else:
            pending = None
            _add_qualifier(lists, part, before_digit=bool(following))
    if pending is not None:
        lists[-1].append(pending)
    inner = _closed(lists.pop())
    while lists:
        inner = _closed([*lists.pop(), inner])
    return inner


def _add_qualifier(lists: list[list[Item]], qualifier: str, *, before_digit: bool) -> None:
    """Letters at the end or before digits: `.x` is `-x` there."""
    if lists[-1]:
        lists.append([])
    if before_digit:
        qualifier = _BEFORE_DIGIT.get(qualifier, qualifier)
    lists[-1].append(_ALIASES.get(qualifier, qualifier))
    if before_digit:
        lists.append([])


@total_ordering
class Key:
    """A version that compares as Maven compares.

    Raises:
        ValueError: the text is no Maven version.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, version: str) -> None:
        if not _TEXT.fullmatch(version):
            raise ValueError(f"{version[:100]!r} is no Maven version")
        self._items = _items(version)
        # Equal versions have the same numbers in front, but for zeros.
        numbers: list[int] = []
        for item in self._items:
            if not isinstance(item, int):
                break
            numbers.append(item)
        while numbers and numbers[-1] == 0:
            numbers.pop()
        self._hash = hash(tuple(numbers))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and _compare(self._items, other._items) == 0

    def __lt__(self, other: "Key") -> bool:
        return _compare(self._items, other._items) < 0

    def __hash__(self) -> int:
        return self._hash
