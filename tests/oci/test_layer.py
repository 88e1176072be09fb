import gzip
import hashlib
import io
import subprocess
import tarfile
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layer import (
    Entry,
    LayerInfo,
    Reader,
    check_path,
    directory_entry,
    normalise,
    read_layer,
    with_parents,
    write_layer,
)
from tidewaiter.oci.layout import Layout


def written(*items: tuple[Entry, bytes | None]) -> tuple[bytes, LayerInfo]:
    sink = io.BytesIO()
    info = write_layer(sink, [(entry, data) for entry, data in items])
    return sink.getvalue(), info


def file(path: str, data: bytes, **more: int) -> tuple[Entry, bytes]:
    return Entry(path=path, kind="file", size=len(data), **more), data  # type: ignore[arg-type]  # the numbers of Entry


def test_what_is_written_is_what_gzip_and_tarfile_read() -> None:
    """Independent readers find the same files, and the digests and sizes that were reported."""
    blob, info = written(
        file("b/c.txt", b"hello", mode=0o755), file("a", b""), (Entry(path="l", kind="symlink", target="a"), None)
    )
    plain = gzip.decompress(blob)
    assert info == LayerInfo(digests.of(blob), len(blob), digests.of(plain), len(plain))
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert [(member.name, member.mode, member.mtime, member.uname) for member in tar] == [
            ("a", 0o644, 315532800, ""),
            ("b", 0o755, 315532800, ""),
            ("b/c.txt", 0o755, 315532800, ""),
            ("l", 0o777, 315532800, ""),
        ]
        content = tar.extractfile("b/c.txt")
        assert content is not None
        assert content.read() == b"hello"


def test_the_same_input_gives_the_same_bytes_in_any_order() -> None:
    """A layer does not depend on the order in which its files were named."""
    items = [file("x/b", b"2"), file("x/a", b"1"), file("a", b"3" * 3_000_000)]
    assert written(*items) == written(*reversed(items))


def test_the_bytes_of_a_layer_are_pinned() -> None:
    """The compressed bytes stay what they were: other bytes need a new FORMAT_VERSION."""
    blob, info = written(file("etc/hello", b"hello " * 1000), file("ü", b"x"))
    assert info.diff_id == "sha256:d1b9d28c9a0dbcd2aa5c1bcf2795b0ebbe22aefc24cf20d98769aeef987c494d"
    assert hashlib.sha256(blob).hexdigest() == "f719ad64401c64d7216518e19c41d4141418d065480ae6f870a2ae40ba2f3753"


def test_a_large_file_is_cut_into_the_same_blocks_however_it_is_read() -> None:
    """The blob does not depend on how many bytes a read returns."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 1, 777))

    data = bytes(range(256)) * 10_000
    entry = Entry(path="a", kind="file", size=len(data))
    blobs = []
    for kind in (io.BytesIO, Slow):
        sink = io.BytesIO()
        write_layer(sink, [(entry, lambda kind=kind: kind(data))])  # type: ignore[misc]  # mypy cannot infer a lambda's default
        blobs.append(sink.getvalue())
    assert blobs[0] == blobs[1]


def test_a_file_that_is_shorter_than_promised_is_an_error() -> None:
    """A file that shrank while it was read does not become a layer."""
    with pytest.raises(IntegrityError, match="2 bytes early"):
        written((Entry(path="a", kind="file", size=3), b"1"))


def test_missing_folders_are_added_from_the_one_table() -> None:
    """Every layer carries its parents, with the attributes that all layers share."""
    entries = with_parents([Entry(path="tmp/x/y", kind="file")])
    assert entries[:2] == [directory_entry("tmp"), directory_entry("tmp/x")]
    assert directory_entry("tmp").mode == 0o1777
    assert (directory_entry("home/nonroot").uid, directory_entry("home/nonroot").mode) == (65532, 0o700)
    assert directory_entry("usr/lib").mode == 0o755


def test_two_files_of_one_path_are_refused() -> None:
    """No path stands twice in a layer."""
    with pytest.raises(InputError, match="two files claim"):
        with_parents([Entry(path="a", kind="file"), Entry(path="a", kind="file")])


def test_a_path_below_a_file_is_refused() -> None:
    """A file is no folder."""
    with pytest.raises(InputError, match="lies below"):
        with_parents([Entry(path="a", kind="file"), Entry(path="a/b", kind="file")])


def test_a_hard_link_follows_its_target() -> None:
    """Hard links stand after all files, also when their name sorts first."""
    entries = with_parents([Entry(path="a", kind="hardlink", target="b"), Entry(path="b", kind="file")])
    assert [entry.path for entry in entries] == ["b", "a"]


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b", "x" * 4097])
def test_paths_that_leave_or_are_malformed_are_refused(path: str) -> None:
    """No such path is ever written."""
    with pytest.raises(InputError, match="would leave its folder or is malformed"):
        check_path(path, source="wheel")


@pytest.mark.parametrize("path", [".wh.a", "a/.wh..wh..opq", ".wh./a"])
def test_whiteouts_from_outside_are_refused(path: str) -> None:
    """A package cannot delete files of the base."""
    with pytest.raises(InputError, match="whiteout"):
        check_path(path, source="wheel")


def test_a_path_of_exactly_the_limit_is_written() -> None:
    """The bound of a path is inclusive."""
    path = "/".join(["x" * 240] * 17)[: limits.PATH_BYTES]
    assert check_path(path, source="wheel") == path
    blob, _ = written(file(path, b"1"))
    assert [entry.path for entry, _ in read_layer(io.BytesIO(blob))][-1] == path


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, zstandard.compress])
def test_plain_gzip_and_zstd_layers_are_read(compress: "type[bytes]") -> None:
    """The three compressions are told apart by their first bytes and give the same diff ID."""
    tar = Tar().file("a", b"1" * 100_000).bytes()
    reader = read_layer(io.BytesIO(compress(tar)))
    assert [(entry.path, content.read() if content else None) for entry, content in reader] == [("a", b"1" * 100_000)]
    assert (reader.diff_id, reader.tar_size) == (digests.of(tar), len(tar))


@pytest.mark.parametrize(
    ("compression", "damage"),
    [("gzip", "cut"), ("gzip", "flip"), ("gzip", "crc"), ("zstd", "cut"), ("zstd", "flip"), ("zstd", "crc")],
)
def test_damaged_compression_is_an_input_error(compression: str, damage: str, tmp_path: Path) -> None:
    """A truncated or altered blob is bad input, never a crash."""
    tar = Tar().file("a", bytes(range(256)) * 4000).bytes()
    packed = (
        gzip.compress(tar) if compression == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress(tar)
    )
    blob = bytearray(packed)
    if damage == "cut":
        del blob[len(blob) // 2 :]
    elif damage == "flip":
        for place in range(40, 60):
            blob[place] ^= 0xFF
    else:
        blob[-6] ^= 0xFF
    (tmp_path / "blob").write_bytes(blob)
    with pytest.raises(InputError), (tmp_path / "blob").open("rb") as stream:
        list(read_layer(stream))


GZIP_TAR = Tar().file("a", b"1" * 5000).bytes()
FIRST, SECOND = gzip.compress(GZIP_TAR[:3000]), gzip.compress(GZIP_TAR[3000:])
ODD_GZIP = [
    pytest.param(FIRST + SECOND, True, True, id="two members"),
    pytest.param(FIRST + SECOND + bytes(512), True, False, id="zeros behind"),
    pytest.param(FIRST + SECOND + b"\0", True, False, id="a zero behind"),
    pytest.param(FIRST + bytes(512) + SECOND, True, False, id="zeros between"),
    pytest.param(FIRST + SECOND + b"garbage", False, False, id="garbage behind"),
    pytest.param(FIRST + SECOND + FIRST[:5], False, False, id="a member that is cut off"),
]


@pytest.mark.parametrize(("blob", "accepted", "in_go"), ODD_GZIP)
def test_zeros_around_the_members_of_a_gzip_file_are_passed_over(blob: bytes, *, accepted: bool, in_go: bool) -> None:
    """They hold nothing: the tar and its diff ID are the same. Anything else behind a member is refused."""
    assert accepted or not in_go  # nothing is refused that Go accepts
    reader = read_layer(io.BytesIO(blob))
    if accepted:
        assert [entry.path for entry, _ in reader] == ["a"]
        assert reader.diff_id == digests.of(GZIP_TAR)
    else:
        with pytest.raises(InputError):
            list(reader)


@pytest.mark.interop
@pytest.mark.parametrize(("blob", "accepted", "in_go"), ODD_GZIP)
def test_what_is_refused_here_is_refused_by_skopeo_and_umoci(
    tmp_path: Path, tool: Tool, blob: bytes, *, accepted: bool, in_go: bool
) -> None:
    """Go's reader of gzip accepts less than ours: no zeros around members."""
    put_image(Layout(tmp_path / "layout"), [GZIP_TAR], blobs=[blob], name="x")
    name = f"{tmp_path}/layout:x"
    unpack = [tool("umoci"), "raw", "unpack", "--rootless", "--image", name, f"{tmp_path}/bundle"]
    copy = [tool("skopeo"), "--insecure-policy", "copy", "--dest-decompress", f"oci:{name}", f"dir:{tmp_path}/out"]
    for command in (unpack, copy):
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert (done.returncode == 0) == in_go, done.stderr
    if not accepted:
        with pytest.raises(InputError):
            list(read_layer(io.BytesIO(blob)))


def test_random_bytes_are_an_input_error() -> None:
    """What is no tar at all is refused with a sentence."""
    with pytest.raises(InputError, match="not a readable tar"):
        list(read_layer(io.BytesIO(zlib.compress(b"x") * 100)))


@pytest.mark.parametrize("name", ["../a", "a/../../b", "..", "a/.."])
def test_names_that_leave_the_image_are_refused(name: str) -> None:
    """A layer from outside may not speak of what is above the root."""
    with pytest.raises(InputError) as caught:
        list(read_layer(io.BytesIO(Tar().file(name).bytes())))
    assert caught.value.code == "unsafe_path"


def test_hard_links_that_leave_the_image_are_refused() -> None:
    """A hard link's target is a path of the image, too."""
    with pytest.raises(InputError) as caught:
        list(read_layer(io.BytesIO(Tar().hardlink("a", "../../etc/shadow").bytes())))
    assert caught.value.code == "unsafe_path"


def test_symlinks_may_point_anywhere() -> None:
    """A symlink's target is only text until somebody follows it."""
    entry, _ = next(iter(read_layer(io.BytesIO(Tar().symlink("a", "../../etc/shadow").bytes()))))
    assert entry.target == "../../etc/shadow"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("./a", "a"),
        ("/a", "a"),
        ("a/", "a"),
        ("./", ""),
        (".", ""),
        ("a/./b", "a/b"),
        ("a//b", "a/b"),
        (".a", ".a"),
        ("a.", "a."),
    ],
)
def test_names_are_normalised(name: str, path: str) -> None:
    """The spellings that tools use for one path become one."""
    assert normalise(name) == path


def test_devices_are_left_out() -> None:
    """Devices and pipes are no entries."""
    tar = Tar().other("null", tarfile.CHRTYPE).other("pipe", tarfile.FIFOTYPE).file("a").bytes()
    assert [entry.path for entry, _ in read_layer(io.BytesIO(tar))] == ["a"]


def test_an_empty_tar_has_no_entries() -> None:
    """A layer of zero entries is read, with its digest."""
    reader = read_layer(io.BytesIO(bytes(1024)))
    assert list(reader) == []
    assert reader.diff_id == digests.of(bytes(1024))


def test_a_name_that_is_not_utf_8_is_kept() -> None:
    """Bytes that are no UTF-8 survive as surrogates, so that the file can be found on disk again."""
    tar = Tar(pax=False).file("caf\udce9", b"1").bytes()
    entry, _ = next(iter(read_layer(io.BytesIO(tar))))
    assert entry.path.encode(errors="surrogateescape") == b"caf\xe9"


_names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda name: name not in {".", ".."} and not name.startswith(".wh.")
)
_trees = st.dictionaries(st.tuples(_names, _names).map("/".join), st.binary(max_size=2000), max_size=8)


@given(_trees)
def test_a_layer_reads_back_as_it_was_written(tree: dict[str, bytes]) -> None:
    """Round trip: whatever the names and contents are, reading gives what was written, in the order of bytes."""
    blob, info = written(*(file(path, data) for path, data in tree.items()))
    reader = read_layer(io.BytesIO(blob))
    found = [(entry, content.read() if content else None) for entry, content in reader]
    assert {entry.path: data for entry, data in found if entry.kind == "file"} == tree
    paths = [entry.path.encode() for entry, _ in found]
    assert paths == sorted(set(paths))
    assert (reader.diff_id, reader.tar_size) == (info.diff_id, info.tar_size)


def test_a_bomb_is_stopped() -> None:
    """A layer that unpacks to far more than it weighs is cut off at the limit."""
    bomb = gzip.compress(Tar().file("a", bytes(20_000_000)).bytes())
    with pytest.raises(LimitError, match="unpacks to more than 10000000 bytes"):
        list(Reader(io.BytesIO(bomb), limit=10_000_000))
