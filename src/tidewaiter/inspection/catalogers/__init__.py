"""One folder per ecosystem. A cataloger says which files of a layer it wants, and what they mean."""

from collections.abc import Callable
from typing import IO, NamedTuple

from tidewaiter.core import limits
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.oci.layer import Entry


class Cataloger(NamedTuple):
    """`wants` is asked about the files that `among` names; `read` gets the ones it wants."""

    name: str
    among: tuple[str, ...]
    """Names of files (`METADATA`), their endings from the last dot on (`.jar`), and folders at any depth (`etc/x/`)."""
    wants: Callable[[str], bool]
    read: Callable[[str, bytes, Collector], None]
    """Called with path, content and where to put what it finds. Never raises for what the content says."""
    limit: int = limits.METADATA_BYTES
    names_packages: bool = False
    """Whether a file that cannot be read may mean that a package goes unseen."""


def bounded(path: str, entry: Entry, file: IO[bytes], limit: int, collector: Collector) -> bytes:
    """The first `limit` bytes of a file, with a note when there are more."""
    if entry.size > limit:
        collector.note(path, f"only the first {limit} of {entry.size} bytes were read")
    return file.read(limit)
