"""The advisories that ship with the program: the facts of one OSV export, without its prose.

The file is JSON lines packed with zstd: a header, then one `Advisory` a line, ordered by id. The same export
gives the same bytes. `tools/make-advisory-snapshot` writes it.
"""

import importlib.resources
from collections.abc import Iterable, Iterator

import msgspec
import zstandard

from tidewaiter.advisories.advisory import Advisory
from tidewaiter.core.errors import StorageError

FILE = "osv-pypi.jsonl.zst"
ATTRIBUTION = "ATTRIBUTION.md"
FORMAT = "tidewaiter-advisories/1"
_LEVEL = 19
_CHUNK = 1 << 16


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


def decode(data: bytes) -> tuple[Header, Iterator[Advisory]]:
    """Header of a snapshot file, and its entries one after the other: together they take much memory.

    Raises:
        StorageError: it is damaged, which may only be seen after the last entry.
    """
    lines = _lines(data)
    try:
        header = msgspec.json.decode(next(lines), type=Header)
    except (StopIteration, ValueError, RecursionError) as error:
        raise _damaged(str(error)) from error
    return header, _entries(header, lines)


def _entries(header: Header, lines: Iterator[bytes]) -> Iterator[Advisory]:
    decoder = msgspec.json.Decoder(Advisory)
    count = 0
    try:
        for line in lines:
            yield decoder.decode(line)
            count += 1
    except (ValueError, RecursionError) as error:
        raise _damaged(str(error)) from error
    if header.format != FORMAT or header.entries != count:
        raise _damaged(f"it says {header.format!r} with {header.entries} entries and holds {count}")


def _damaged(why: str) -> StorageError:
    return StorageError(
        f"the advisories shipped with tidewaiter are damaged: {why}", next_step="Install tidewaiter again."
    )


def _file(name: str) -> bytes:
    try:
        return (importlib.resources.files("tidewaiter.advisories") / "data" / name).read_bytes()
    except OSError as error:
        raise _damaged(f"{name} cannot be read: {error}") from error


def shipped() -> tuple[Header, Iterator[Advisory]]:
    """The snapshot of this release, as `decode` gives it."""
    return decode(_file(FILE))


def shipped_header() -> Header:
    """Header of the snapshot of this release, without decoding the rest."""
    return shipped()[0]


def _lines(data: bytes) -> Iterator[bytes]:
    unpack = zstandard.ZstdDecompressor().decompressobj()
    rest = b""
    try:
        for start in range(0, len(data), _CHUNK):
            *lines, rest = (rest + unpack.decompress(data[start : start + _CHUNK])).split(b"\n")
            yield from lines
    except zstandard.ZstdError as error:
        raise _damaged(str(error)) from error
    if rest or not unpack.eof:
        raise _damaged("it is cut")
