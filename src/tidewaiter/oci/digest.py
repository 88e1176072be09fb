"""Digests (image-spec `descriptor.md`): the only names that are trusted."""

import hashlib
import re
from typing import Annotated, NewType

import msgspec

from tidewaiter.core.errors import InputError

_PATTERN = r"^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\Z"  # not `$`, which lets a newline follow
_GRAMMAR = re.compile(_PATTERN)

Digest = NewType("Digest", str)
"""`algorithm:hex`. Made by `parse` and `of` only."""

WireDigest = Annotated[Digest, msgspec.Meta(pattern=_PATTERN)]
"""Type of a digest field in a structure that is decoded from outside."""


def parse(text: str) -> Digest:
    """The digest written in `text`; raises `InputError` when it is none."""
    if not _GRAMMAR.match(text):
        raise InputError(
            f"{text[:100]!r} is not a digest", next_step="A digest is `sha256:` and 64 lower-case hex digits."
        )
    return Digest(text)


def of(data: bytes) -> Digest:
    """SHA-256 digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def from_sha256(hex_digits: str) -> Digest:
    """The digest of a SHA-256 given as 64 hex digits."""
    return parse("sha256:" + hex_digits)


def algorithm(digest: Digest) -> str:
    """`sha256` or `sha512`."""
    return digest.partition(":")[0]


def hexadecimal(digest: Digest) -> str:
    """The part after the colon."""
    return digest.partition(":")[2]
