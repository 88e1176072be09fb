"""A layer whose tar somebody else wrote, compressed as our own layers are: the same tar gives the same blob."""

import hashlib
from typing import IO

from tidewaiter.core.errors import IntegrityError
from tidewaiter.oci.compression import Compression, Compressor, Gzip, Zstd
from tidewaiter.oci.digest import Digest, from_sha256
from tidewaiter.oci.layer import LayerInfo, Sink

_CHUNK = 1 << 20


def pack(tar: IO[bytes], diff_id: Digest, sink: Sink, *, compression: Compression) -> LayerInfo:
    """Compress the stream `tar` into `sink`; raises `IntegrityError` when its digest is not `diff_id`."""
    compressor: Compressor = Gzip() if compression == "gzip" else Zstd()
    plain, blob = hashlib.sha256(), hashlib.sha256()
    plain_size = blob_size = 0

    def emit(data: bytes) -> None:
        nonlocal blob_size
        blob.update(data)
        blob_size += len(data)
        sink.write(data)

    while data := tar.read(_CHUNK):  # blocks of this size, so that the blob depends on the tar alone
        plain.update(data)
        plain_size += len(data)
        emit(compressor.block(data))
    emit(compressor.end())
    found = from_sha256(plain.hexdigest())
    if found != diff_id:
        raise IntegrityError(f"the builder handed out a layer {found} instead of {diff_id}", next_step="Build again.")
    return LayerInfo(digest=from_sha256(blob.hexdigest()), size=blob_size, diff_id=found, tar_size=plain_size)
