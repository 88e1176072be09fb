"""Compressed layers: what other programs read, and that the same input gives the same bytes."""

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
import zlib
from collections.abc import Iterator

import pytest
import zstandard

from tidewaiter.core.errors import IntegrityError
from tidewaiter.oci import compression
from tidewaiter.oci import digest as digests
from tidewaiter.oci.compression import Compression
from tidewaiter.oci.layer import Content, Deflated, Entry, LayerInfo, Reader, write_layer

LARGE = os.urandom(200_000) + b"text " * 100_000


def _deflated(data: bytes, *, chunk: int = 1 << 16) -> Deflated:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = compressor.compress(data) + compressor.flush()

    def pieces() -> Iterator[tuple[bytes, bytes]]:
        inflate = zlib.decompressobj(-15)
        for start in range(0, len(packed), chunk):
            part = packed[start : start + chunk]
            yield part, inflate.decompress(part)

    return Deflated(size=len(packed), open=lambda: io.BytesIO(data), pieces=pieces)


def _written(*items: tuple[str, bytes, Content], compressor: Compression = "gzip") -> tuple[bytes, LayerInfo]:
    sink = io.BytesIO()
    entries = [(Entry(path=path, kind="file", size=len(data)), content) for path, data, content in items]
    info = write_layer(sink, entries, compressor)
    return sink.getvalue(), info


def _files(blob: bytes) -> dict[str, bytes]:
    return {entry.path: file.read() for entry, file in Reader(io.BytesIO(blob)) if file is not None}


def test_deflated_content_enters_a_gzip_layer_as_it_is() -> None:
    """Every reader sees one tar; the deflate data of the file stands in the blob unchanged."""
    content = _deflated(LARGE)
    blob, info = _written(("a", b"1", b"1"), ("large", LARGE, content), ("z", b"2", b"2"))
    plain = gzip.decompress(blob)
    assert info == LayerInfo(digests.of(blob), len(blob), digests.of(plain), len(plain))
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert tar.getnames() == ["a", "large", "z"]
    assert _files(blob) == {"a": b"1", "large": LARGE, "z": b"2"}
    assert b"".join(packed for packed, _ in content.pieces()) in blob
    piped = subprocess.run(["gzip", "-dc"], input=blob, capture_output=True, check=True)
    assert piped.stdout == plain


def test_where_a_file_comes_from_shows_in_the_blob_only() -> None:
    """The diff ID is that of the plain content, and the cut of the pieces changes nothing."""
    blob, info = _written(("large", LARGE, _deflated(LARGE)))
    assert _written(("large", LARGE, LARGE))[1].diff_id == info.diff_id
    assert _written(("large", LARGE, _deflated(LARGE, chunk=777)))[0] == blob


def test_little_deflated_content_is_compressed_with_its_neighbours() -> None:
    """A member of its own costs more than it saves for a small file; such a layer has one member."""
    data = b"text " * 1000
    blob, _ = _written(("a", b"1", b"1"), ("small", data, _deflated(data)))
    assert blob == _written(("a", b"1", b"1"), ("small", data, data))[0]
    reader = zlib.decompressobj(31)
    reader.decompress(blob)
    assert reader.eof
    assert not reader.unused_data


@pytest.mark.parametrize("size", [len(LARGE) - 1, len(LARGE) + 1])
def test_deflated_content_of_another_size_is_an_error(size: int) -> None:
    """A file that is shorter or longer than its header says never becomes a layer."""
    with pytest.raises(IntegrityError):
        write_layer(io.BytesIO(), [(Entry(path="large", kind="file", size=size), _deflated(LARGE))])


def test_an_empty_deflated_file_is_written() -> None:
    """No bytes are no member."""
    assert _files(_written(("empty", b"", _deflated(b"")))[0]) == {"empty": b""}


def test_zstd_layers_hold_the_same_tar() -> None:
    """The tar and its diff ID do not depend on the compression; zstd reads it as one frame."""
    blob, info = _written(("large", LARGE, _deflated(LARGE)), ("z", b"2", b"2"), compressor="zstd")
    assert info.diff_id == _written(("large", LARGE, LARGE), ("z", b"2", b"2"))[1].diff_id
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(blob)) as reader:
        assert digests.of(reader.read()) == info.diff_id
    assert _files(blob) == {"large": LARGE, "z": b"2"}


def test_the_bytes_of_a_zstd_layer_are_pinned() -> None:
    """The compressed bytes stay what they were while the compressor's identity does."""
    blob, _ = _written(("etc/hello", b"hello " * 1000, b"hello " * 1000), compressor="zstd")
    if zstandard.ZSTD_VERSION != (1, 5, 7):
        pytest.skip(f"pinned for zstd 1.5.7, here is {zstandard.ZSTD_VERSION}")
    assert compression.identity("zstd") == "zstd 1.5.7 level 3"
    assert hashlib.sha256(blob).hexdigest() == "c4eea21458593190b4209f4e69dab1eac829dbb1be6ea7dd4f9b2ea7a451cddc"
