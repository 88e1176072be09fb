"""The two sides of a copy: where an image comes from and where it goes.

A place implements as little as it can; what to move, in which order and how much at once is `copy`'s business.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from tidewaiter.distribution.transfer import Stop
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor

Pieces = Callable[[int], Iterator[bytes]]
"""The bytes of a blob from an offset to its end; called again for each attempt."""


class Source(Protocol):
    """Where manifests and blobs are read."""

    near: bool
    """Whether reading takes no requests."""

    def read(self, digest: Digest, *, limit: int = ...) -> bytes:
        """A manifest, verified; raises `NotFoundError` when there is none of that digest."""

    def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is here."""

    def pieces(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
        """The blob's bytes from `offset` on, not verified; raises `NotFoundError`."""

    def check(self, blob: Descriptor) -> None:
        """Raise `IntegrityError` when the blob is known to be damaged here; asked when a target refused it."""

    def tagged(self, tag: str) -> Descriptor | None:
        """What a tag beside the image names; None when nothing does."""

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Manifests whose `subject` is the one given."""


class Target(Protocol):
    """Where manifests and blobs are written. Nothing that is not complete becomes visible."""

    parallel: bool
    """Whether several blobs may be written at once."""

    def named(self, tag: str) -> Digest | None:
        """What a tag names here now, complete; None when it is free, or when a name proves nothing here."""

    def has_manifest(self, digest: Digest) -> bool:
        """Whether the manifest is here, and with it, as this kind of place guarantees, everything that it names."""

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the blob is here, intact as far as this place can tell."""

    def remember(self, digest: Digest) -> None:
        """Keep in mind that the blob is here, which was not asked for because a manifest here names it."""

    def take_over(self, blob: Descriptor, source: Source) -> bool:
        """Whether the blob could be had without moving its bytes: mounted, or linked."""

    def write(self, blob: Descriptor, pieces: Pieces, stop: Stop) -> None:
        """Write the blob, verified; a place that keeps what a stopped copy left asks for the rest only."""

    def put_manifest(self, descriptor: Descriptor, data: bytes, tags: Sequence[str]) -> None:
        """Write a manifest whose parts are all here, and let `tags` name it; without tags only its digest does.

        Raises:
            NotFoundError: a part is not here after all.
            NetworkError: as above, with the code `registry_refused`; or with another, for another reason.
        """

    def attach(self, tag: str, descriptor: Descriptor, data: bytes) -> None:
        """Let a tag of cosign's name a manifest whose layers are here, together with what it names already."""

    def finish(self) -> None:
        """Make what was written last; called once, after the last manifest."""
