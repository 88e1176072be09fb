import io
import random
import subprocess
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.core.errors import InputError
from tidewaiter.oci.layer import read_layer
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.zstd_frames import Frames

TAR = Tar().file("a", random.Random(1).randbytes(200_000)).file("b", b"b" * 300_000).bytes()


def packed(data: bytes, *, level: int = 3, checksum: bool = True, content_size: bool = True) -> bytes:
    """One frame."""
    made = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=content_size)
    return made.compress(data)


def streamed(data: bytes) -> bytes:
    """One frame by a compressor that does not know the size beforehand."""
    made = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return made.compress(data) + made.flush()


def skippable(data: bytes) -> bytes:
    """A frame that inflates to nothing."""
    return b"\x5a\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def whole(stream: bytes, size: int) -> bool:
    """Whether it ends where a frame ends, read in pieces of `size`."""
    frames = Frames(io.BytesIO(stream))
    while frames.read(size):
        pass
    return frames.whole


DATA = [
    b"",
    b"a",
    b"ab" * 200,
    bytes(70_000),
    random.Random(2).randbytes(140_000),
    bytes(200_000) + random.Random(3).randbytes(70_000),
]
BOTH = (False, True)
STREAMS = [
    *(packed(data, checksum=checksum, content_size=size) for data in DATA for checksum in BOTH for size in BOTH),
    *(packed(data, level=19) for data in DATA),
    *map(streamed, DATA),
]


@pytest.mark.parametrize("stream", STREAMS, ids=range(len(STREAMS)))
def test_whole_frames_are_whole_and_cut_ones_are_not(stream: bytes) -> None:
    """However a frame is made and read: it ends at its last byte and nowhere before."""
    for size in (1, 4096, len(stream)):
        assert whole(stream, size)
    assert whole(skippable(b"xyz") + stream + skippable(b"") + stream, 4096)
    for cut in {1, 2, 3, 4, 5, len(stream) // 2, len(stream) - 1} - {0, len(stream)}:
        assert not whole(stream[:-cut], 4096), cut
        assert not whole(stream + stream[:-cut], 4096), cut


@given(st.binary(max_size=2000), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_what_is_no_zstd_does_not_disturb(data: bytes, size: int) -> None:
    """Anything is passed on as it is."""
    frames = Frames(io.BytesIO(data))
    assert b"".join(iter(lambda: frames.read(size), b"")) == data


def cut_behind_the_tar() -> bytes:
    """A frame that lacks its checksum and no byte of the tar."""
    blob = packed(TAR)
    assert zstandard.ZstdDecompressor().stream_reader(blob[:-2]).read() == TAR
    return blob[:-2]


def test_a_layer_without_the_end_of_its_frame_is_refused() -> None:
    """Though the whole tar can be inflated."""
    with pytest.raises(InputError, match="middle of a frame"):
        list(read_layer(io.BytesIO(cut_behind_the_tar())))


@pytest.mark.interop
@pytest.mark.parametrize(
    ("blob", "accepted"),
    [
        (packed(TAR), True),
        (packed(TAR[:100_000]) + skippable(b"123") + packed(TAR[100_000:], checksum=False), True),
        (cut_behind_the_tar(), False),
        (packed(TAR) + packed(b"")[:3], False),
        (packed(TAR) + bytes(512), False),
    ],
    ids=["one", "several", "cut", "begun", "zeros"],
)
def test_skopeo_is_of_the_same_opinion(tmp_path: Path, tool: Tool, blob: bytes, *, accepted: bool) -> None:
    """What Go's reader of zstd accepts is accepted, what it refuses is refused."""
    media_type = "application/vnd.oci.image.layer.v1.tar+zstd"
    put_image(Layout(tmp_path / "layout"), [TAR], blobs=[blob], media_type=media_type, name="x")
    command = [tool("skopeo"), "--insecure-policy", "copy", "--dest-decompress", f"oci:{tmp_path}/layout:x"]
    done = subprocess.run([*command, f"dir:{tmp_path}/out"], capture_output=True, check=False, timeout=60)
    assert (done.returncode == 0) == accepted, done.stderr
    if accepted:
        assert [entry.path for entry, _ in read_layer(io.BytesIO(blob))] == ["a", "b"]
    else:
        with pytest.raises(InputError):
            list(read_layer(io.BytesIO(blob)))
