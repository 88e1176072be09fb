"""The advisories that ship with the program: the facts of one OSV export, without its prose.

The file is JSON lines packed with zstd: a header, then one `Advisory` a line, ordered by id. The same export
gives the same bytes. `tools/make-advisory-snapshot` writes it.
"""

import importlib.resources
from collections.abc import Iterable, Iterator

import msgspec
import zstandard

from tidewaiter.advisories.advisory import Advisory
from tidewaiter.core import limits
from tidewaiter.core.errors import StorageError

FILE = "osv-pypi.jsonl.zst"
ATTRIBUTION = "ATTRIBUTION.md"
FORMAT = "tidewaiter-advisories/1"
_LEVEL = 19


class Header(msgspec.Struct, frozen=True):
    """What the snapshot is: `as_of` is the newest change in it (RFC 3339), `source` names repository and commit."""

    format: str
    ecosystem: str
    as_of: str
    source: str
    license: str
    entries: int


def encode(advisories: Iterable[Advisory], *, ecosystem: str, source: str, license_id: str) -> bytes:
    """The snapshot file that holds `advisories`."""
    ordered = sorted(advisories, key=lambda advisory: advisory.id)
    header = Header(
        format=FORMAT,
        ecosystem=ecosystem,
        as_of=max((advisory.modified for advisory in ordered), default=""),
        source=source,
        license=license_id,
        entries=len(ordered),
    )
    encoder = msgspec.json.Encoder()
    lines = b"".join(encoder.encode(item) + b"\n" for item in (header, *ordered))
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True).compress(lines)


def decode(data: bytes) -> tuple[Header, list[Advisory]]:
    """Header and entries of a snapshot file.

    Raises:
        StorageError: it is damaged.
    """
    try:
        lines = zstandard.ZstdDecompressor().decompress(data, max_output_size=limits.FEED_BYTES).splitlines()
        header = msgspec.json.decode(lines[0], type=Header)
        decoder = msgspec.json.Decoder(Advisory)
        advisories = [decoder.decode(line) for line in lines[1:]]
    except (zstandard.ZstdError, IndexError, ValueError, RecursionError) as error:
        raise _damaged(str(error)) from error
    if header.format != FORMAT or header.entries != len(advisories):
        raise _damaged(f"it says {header.format!r} with {header.entries} entries and holds {len(advisories)}")
    return header, advisories


def _damaged(why: str) -> StorageError:
    return StorageError(
        f"the advisories shipped with tidewaiter are damaged: {why}", next_step="Install tidewaiter again."
    )


def _file(name: str) -> bytes:
    try:
        return (importlib.resources.files("tidewaiter.advisories") / "data" / name).read_bytes()
    except OSError as error:
        raise _damaged(f"{name} cannot be read: {error}") from error


def shipped() -> tuple[Header, list[Advisory]]:
    """The snapshot of this release; raises `StorageError` when the installation is damaged."""
    return decode(_file(FILE))


def shipped_header() -> Header:
    """Header of the snapshot of this release, without decoding the rest."""
    return msgspec.json.decode(next(_lines(_file(FILE))), type=Header)


def _lines(data: bytes) -> Iterator[bytes]:
    import io

    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            yield from io.BufferedReader(reader)
    except zstandard.ZstdError as error:
        raise _damaged(str(error)) from error
