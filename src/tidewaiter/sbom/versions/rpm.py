"""The order of RPM package versions: `[epoch:]version[-release]` (rpm-version(7)).

Version and release are read as runs of digits and runs of letters; whatever else stands between them only separates.
`~` sorts before everything, the end of the text included; `^` sorts after the end and before everything else.
"""

import re

Segment = tuple[int, int, str]
Key = tuple[int, tuple[Segment, ...], tuple[Segment, ...]]
"""Compares as rpm compares: epoch, version, release."""

_TILDE, _END, _CARET, _LETTERS, _DIGITS = range(5)
_SEGMENTS = re.compile(r"[~^]|[A-Za-z]+|[0-9]+")
_LONGEST = 1000
_MARKS: dict[str, Segment] = {"~": (_TILDE, 0, ""), "^": (_CARET, 0, "")}


def _segment(text: str) -> Segment:
    if text in _MARKS:
        return _MARKS[text]
    return (_DIGITS, int(text), "") if text.isdecimal() else (_LETTERS, 0, text)


def _segments(text: str) -> tuple[Segment, ...]:
    return (*(_segment(match[0]) for match in _SEGMENTS.finditer(text)), (_END, 0, ""))


def key(version: str) -> Key:
    """Sort key of `version`; equal keys are equal versions (`1.0` and `0:1_0` are). No release is less than any.

    Raises:
        ValueError: the text is no RPM version.
    """
    text = version.strip()
    head, colon, rest = text.partition(":")
    epoch, rest = (head, rest) if colon else ("0", text)
    upstream, dash, release = rest.rpartition("-")
    if not dash:
        upstream, release = rest, ""
    if len(text) > _LONGEST or not (epoch.isascii() and epoch.isdecimal()) or not upstream or (dash and not release):
        raise ValueError(f"{version[:100]!r} is no RPM version")
    return int(epoch), _segments(upstream), _segments(release) if dash else ()
