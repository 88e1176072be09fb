"""What was found beside an image, believed by nobody yet: signatures and attestations of either format."""

from typing import Literal

import msgspec

from tidewaiter.oci.digest import Digest

Format = Literal["tag", "bundle"]
"""`tag`: cosign's `sha256-HEX.sig` and `.att`. `bundle`: a Sigstore bundle that refers to the image."""

Place = Literal["sig", "att", "bundle"]
"""Where it lay, which is the only thing that says what it may count as before it is verified."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that claims to vouch for an image."""

    place: Place
    blob: Digest
    """The blob that holds it."""
    document: bytes
    """Its bytes, which have the digest `blob`: a simple-signing payload, a DSSE envelope, or a bundle."""
    signature: bytes = b""
    """ASN.1 DER, of a simple-signing payload; the other two hold theirs."""
    claimed_type: str = ""
    """Predicate type that the manifest states: a hint for people, never relied on."""

    @property
    def format(self) -> Format:
        """The format that it belongs to."""
        return "bundle" if self.place == "bundle" else "tag"


class Broken(msgspec.Struct, frozen=True):
    """Something beside the image that is not as its format says: it counts for nothing, and it is said."""

    what: str
    reason: str


class Unread(msgspec.Struct, frozen=True):
    """Something beside the image that could not be read: whether it vouches is not known."""

    what: str
    reason: str


class Gathered(msgspec.Struct, frozen=True):
    """Everything beside one image."""

    found: tuple[Found, ...] = ()
    broken: tuple[Broken, ...] = ()
    unread: tuple[Unread, ...] = ()
