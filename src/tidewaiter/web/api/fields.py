"""Types of parameters that several routes have, with their bounds."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidewaiter.core import limits

Digest = Annotated[
    str,
    Meta(
        pattern=r"^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\Z",
        description="Digest of a manifest, `sha256:…`.",
    ),
]
OptionalDigest = Annotated[
    str,
    Meta(
        pattern=r"^(?:|sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\Z",
        description="Digest of a manifest, `sha256:…`.",
    ),
]
Environment = Literal["", "research", "staging", "production"]
Search = Annotated[
    str,
    Meta(
        max_length=limits.SEARCH_CHARACTERS,
        description="Text in the name or a tag, or the beginning of a digest or commit.",
    ),
]
Repository = Annotated[
    str, Meta(max_length=limits.API_NAME_CHARACTERS, description="A repository, with everything below it.")
]
Tag = Annotated[str, Meta(max_length=512, description="A tag.")]
Owner = Annotated[str, Meta(max_length=200, description="Only what this owner answers for.")]
Purl = Annotated[
    str, Meta(max_length=limits.API_NAME_CHARACTERS, description="A package URL, `pkg:pypi/NAME` or with `@VERSION`.")
]
Moment = Annotated[str, Meta(max_length=40, description="A day (2027-06-30), from its beginning, or a moment.")]
AsOf = Annotated[
    str, Meta(max_length=40, description="How it was at the end of this day (2027-06-30), or at a moment; empty: now.")
]
Name = Annotated[str, Meta(min_length=1, max_length=limits.API_NAME_CHARACTERS)]


class ImagePath(msgspec.Struct, frozen=True):
    """Which image."""

    digest: Digest
