"""Who is told of bytes on their way in, as the gate tells it: to look at them before anybody asks."""

from pathlib import Path
from typing import Protocol

from tidewaiter.oci.digest import Digest


class Watch(Protocol):
    """Is told from any thread; takes no time, and raises nothing."""

    def grew(self, upload: Path, repository: str, length: int, /) -> None:
        """So many bytes of an upload to a repository lie in the file `upload`."""

    def complete(self, upload: Path, repository: str, digest: Digest, stored: Path, length: int, /) -> None:
        """It is the blob `digest` now, of so many bytes, in the file `stored`."""

    def gone(self, upload: Path, /) -> None:
        """Nothing will come of it."""


class Unwatched:
    """A `Watch` that does nothing."""

    def grew(self, upload: Path, repository: str, length: int, /) -> None:
        """Nothing."""

    def complete(self, upload: Path, repository: str, digest: Digest, stored: Path, length: int, /) -> None:
        """Nothing."""

    def gone(self, upload: Path, /) -> None:
        """Nothing."""
