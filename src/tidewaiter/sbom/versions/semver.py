"""Semantic versions: the order of npm, crates.io and Go (https://semver.org, sections 9 to 11).

Advisories of some ecosystems leave the minor or the patch number out, and Go and npm write a `v` before the version:
both are read. Build metadata (Go's `+incompatible` too) does not count.
"""

import re

Key = tuple[tuple[int, int, int], tuple[int, tuple[tuple[int, int, str], ...]]]
"""Compares by precedence: the three numbers, then the pre-release."""

_VERSION = re.compile(
    r"[v=]?(0|[1-9]\d*)(?:\.(0|[1-9]\d*))?(?:\.(0|[1-9]\d*))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_RELEASED = (1, ())
# Go's own releases before 1.21 have no third number, and no separator before a pre-release.
_GO_RELEASE = re.compile(r"(?:go)?(\d+\.\d+)(\.\d+)?(?:(alpha|beta|rc)(\d+))?", re.ASCII)


def _identifier(text: str, version: str) -> tuple[int, int, str]:
    """A number is lower than any word."""
    if not text.isdecimal():
        return 1, 0, text
    if len(text) > 1 and text.startswith("0"):
        raise ValueError(f"{version[:100]!r} is no semantic version: a number of it starts with 0")
    return 0, int(text), ""


def key(version: str) -> Key:
    """Sort key of `version`; equal keys are versions of equal precedence.

    Raises:
        ValueError: the text is no semantic version.
    """
    match = _VERSION.fullmatch(version) if len(version) <= 1000 else None
    if match is None:
        raise ValueError(f"{version[:100]!r} is no semantic version")
    numbers = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if match[4] is None:
        return numbers, _RELEASED
    return numbers, (0, tuple(_identifier(part, version) for part in match[4].split(".")))


def go_key(version: str) -> Key:
    """Sort key of a version of a Go module, or of Go itself as it names its releases (`go1.21rc2`, `1.20`).

    Raises:
        ValueError: the text is neither.
    """
    match = _GO_RELEASE.fullmatch(version) if len(version) <= 1000 else None
    if match is None:
        return key(version)
    release = match[1] + (match[2] or ".0")
    return key(f"{release}-{match[3]}.{match[4]}" if match[3] else release)
