"""Compressing a tar that somebody else wrote."""

import gzip
import io
from pathlib import Path
from typing import get_args

import pytest

from tidewaiter.assembly import layer_pack
from tidewaiter.core.errors import IntegrityError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import layer, rootfs
from tidewaiter.oci.compression import Compression
from tidewaiter.oci.layer import Entry


def _tar() -> bytes:
    sink = io.BytesIO()
    layer.write_layer(sink, [(Entry(path="a/b", kind="file", size=3_000_000), b"x" * 3_000_000)])
    return gzip.decompress(sink.getvalue())


@pytest.mark.parametrize("compression", get_args(Compression))
def test_tar_is_kept_to_the_byte(tmp_path: Path, compression: Compression) -> None:
    """The blob unpacks to the same files, digests and sizes are those of its bytes, twice the same."""
    tar = _tar()
    first, second = io.BytesIO(), io.BytesIO()
    info = layer_pack.pack(io.BytesIO(tar), digests.of(tar), first, compression=compression)
    assert info == layer_pack.pack(io.BytesIO(tar), digests.of(tar), second, compression=compression)
    assert first.getvalue() == second.getvalue()
    assert (info.digest, info.size) == (digests.of(first.getvalue()), len(first.getvalue()))
    assert (info.diff_id, info.tar_size) == (digests.of(tar), len(tar))
    rootfs.unpack([lambda: io.BytesIO(first.getvalue())], tmp_path / "root")
    assert (tmp_path / "root/a/b").read_bytes() == b"x" * 3_000_000


def test_another_tar_is_refused() -> None:
    """A layer that is not the one promised does not get a digest."""
    with pytest.raises(IntegrityError, match="instead of"):
        layer_pack.pack(io.BytesIO(_tar()), digests.of(b"other"), io.BytesIO(), compression="gzip")
