"""Versions of the things that the tables speak of: dotted numbers, compared as numbers."""

import itertools
import re

_NUMBERS = re.compile(r"\d{1,6}(?:\.\d{1,6}){0,5}")
_RELEASE = re.compile(r"(\d{1,4}\.\d{1,4})\.\d{1,4}(?:\.post\d{1,4})?")


def numbers(version: str) -> tuple[int, ...]:
    """The leading dotted numbers: `12.5.1` is (12, 5, 1); empty where the text begins with none."""
    match = _NUMBERS.match(version)
    return tuple(map(int, match[0].split("."))) if match else ()


def major(version: str) -> int | None:
    """The first number; None where there is none."""
    found = numbers(version)
    return found[0] if found else None


def series(version: str) -> str:
    """The first two numbers as text: `12.5.82` is `12.5`; empty where the version does not have two."""
    found = numbers(version)
    return f"{found[0]}.{found[1]}" if len(found) > 1 else ""


def release_series(version: str) -> str:
    """The series of a final release (PEP 440, post-releases included); empty for every other version."""
    match = _RELEASE.fullmatch(version)
    return match[1] if match else ""


def ranged(found: tuple[str, ...]) -> str:
    """Versions in ascending order as one text: `3.9-3.12`, or one by one where numbers are left out."""
    parts = [numbers(one) for one in found]
    unbroken = all(b[:-1] == a[:-1] and b[-1] == a[-1] + 1 for a, b in itertools.pairwise(parts))
    return f"{found[0]}-{found[-1]}" if unbroken and len(found) > 1 else ", ".join(found)
