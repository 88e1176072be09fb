"""Addresses in files of others, which may be none."""

from urllib.parse import SplitResult, urlsplit


def split(text: str) -> SplitResult:
    """The parts of an address; empty ones when it is malformed, such as a bracket that is not closed."""
    try:
        return urlsplit(text)
    except ValueError:
        return SplitResult("", "", "", "", "")
