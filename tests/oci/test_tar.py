import io
import tarfile

import pytest

from image_builder import Tar
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci.layer import Reader, read_layer


def names(tar: bytes) -> list[str]:
    return [entry.path for entry, _ in read_layer(io.BytesIO(tar))]


def refused(tar: bytes) -> str:
    with pytest.raises(InputError) as caught:
        names(tar)
    return caught.value.message


def header(
    name: bytes, *, magic: bytes = b"ustar\x0000", size: bytes = b"00000000000\0", kind: bytes = b"0"
) -> bytearray:
    """One header block with the checksum still to come."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[108:116] = block[116:124] = b"0000000\0"
    block[124:136] = size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = magic
    return block


def sealed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(1024)


def test_names_contents_and_attributes_are_what_tarfile_wrote() -> None:
    """A tar in PAX and in GNU format, with long and non-ASCII names, reads back as it was written."""
    long = "d/" + "x" * 180 + "/ü"
    for pax in (True, False):
        tar = Tar(pax=pax).directory("d").file(long, b"12345", mode=0o4755).symlink("l", "y" * 150).hardlink("h", long)
        found = [(entry, file.read() if file else None) for entry, file in read_layer(io.BytesIO(tar.bytes()))]
        assert [(entry.path, entry.kind) for entry, _ in found] == [
            ("d", "directory"),
            (long, "file"),
            ("l", "symlink"),
            ("h", "hardlink"),
        ]
        assert (found[1][0].mode, found[1][0].size, found[1][1]) == (0o4755, 5, b"12345")
        assert (found[2][0].target, found[3][0].target) == ("y" * 150, long)


def test_content_is_gone_once_the_walk_goes_on() -> None:
    """A member's file cannot be read by mistake when the walk has reached the next member."""
    kept = []
    for _, file in read_layer(io.BytesIO(Tar().file("a", b"1").file("b", b"2").bytes())):
        kept.append(file)
    assert kept[0] is not None
    with pytest.raises(ValueError, match="gone"):
        kept[0].read()


def test_a_large_number_in_base_256_is_read() -> None:
    """GNU's base-256 numbers are understood, also negative times."""
    block = header(b"a")
    block[108:116] = b"\x80" + (3_000_000_000).to_bytes(7, "big")
    block[136:148] = (-5 % (1 << 96)).to_bytes(12, "big")
    entry, _ = next(iter(read_layer(io.BytesIO(sealed(block) + END))))
    assert (entry.uid, entry.mtime) == (3_000_000_000, -5)


def test_a_checksum_counts_all_of_its_digits() -> None:
    """A sum is compared as it is, not modulo the number that Adler-32 counts to."""
    block = header(b"\xff" * 100)
    block[157:257] = block[345:445] = b"\xff" * 100
    total = sum(block[:148]) + sum(block[156:]) + 8 * 32
    assert total > 65521
    block[148:156] = b"%06o\0 " % (total - 65521)
    assert "checksum" in refused(bytes(block) + END)


def test_signed_checksums_are_accepted() -> None:
    """Old tars that summed signed bytes are read, as Go reads them."""
    block = header("ü".encode())
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(byte - 256 if byte > 127 else byte for byte in block))
    assert names(bytes(block) + END) == ["ü"]


def test_garbage_between_members_is_refused() -> None:
    """Members behind a damaged header cannot be hidden: tarfile would end in silence there."""
    one, two = Tar().file("a").bytes()[:512], Tar().file("b").bytes()[:512]
    assert "checksum" in refused(one + b"\0" * 511 + b"!" + two + END)


def test_a_single_block_of_zeros_does_not_end_the_archive() -> None:
    """Members behind one block of zeros cannot be hidden: tarfile would end there, Go refuses."""
    one, two = Tar().file("a").bytes()[:512], Tar().file("b").bytes()[:512]
    assert "zeros" in refused(one + bytes(512) + two + END)


def test_a_global_header_names_nothing() -> None:
    """A PAX global header with a path renames no member: Go ignores it, tarfile would obey."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT, pax_headers={"path": "harmless"}) as tar:
        tar.addfile(tarfile.TarInfo("usr/bin/bash"))
    assert names(buffer.getvalue()) == ["usr/bin/bash"]


def test_a_global_header_after_records_is_refused() -> None:
    """Go would forget the records that stand before a global header, so the order is refused."""
    member = Tar().file("a", pax={"path": "b"}).bytes()
    pax, rest = member[:1024], member[1024:]
    glob = sealed(header(b"g", kind=b"g"))
    assert "global header" in refused(pax + glob + rest)


def test_a_prefix_in_a_gnu_header_is_refused_when_it_may_be_a_time() -> None:
    """A GNU header with a time where ustar has a prefix would have two names."""
    block = header(b"var/lib/dpkg/status", magic=b"ustar  \0")
    block[345:357] = b"00000000001\0"
    assert "prefix" in refused(sealed(block) + END)


def test_a_prefix_in_a_header_without_magic_is_refused() -> None:
    """An old header with bytes in the place of a prefix would have two names."""
    block = header(b"a", magic=bytes(8))
    block[345:350] = b"other"
    assert "prefix" in refused(sealed(block) + END)


def test_a_prefix_of_ustar_is_part_of_the_name() -> None:
    """The two parts of a ustar name are joined."""
    block = header(b"b")
    block[345:348] = b"x/y"
    assert names(sealed(block) + END) == ["x/y/b"]


@pytest.mark.parametrize("field", [b"0000_10\0", b"+000010\0", b"0o00010\0", b"0000098\0", b"\xc2\xb2000010"])
def test_numbers_that_only_python_understands_are_refused(field: bytes) -> None:
    """Sizes must be octal digits: Python's `int` would also take underscores, signs and prefixes."""
    block = header(b"a", size=b"0000" + field)
    assert refused(sealed(block) + END)


@pytest.mark.parametrize(
    "pax",
    [
        {"size": "-1"},
        {"size": "1e3"},
        {"size": "9" * 19},
        {"mtime": "nan"},
        {"path": "a\0b"},
        {"GNU.sparse.major": "1"},
    ],
)
def test_malformed_pax_records_are_refused(pax: dict[str, str]) -> None:
    """Records with a number, time or name that Go would not take are refused."""
    assert refused(Tar().file("a", pax=pax).bytes())


@pytest.mark.parametrize(
    "record", [b"5 a=\n", b"99 path=x\n", b"11 path=x\n", b"8 =abcd\n", b"path=x\n\0\0", b"9 path:x\n"]
)
def test_pax_records_with_wrong_lengths_are_refused(record: bytes) -> None:
    """A record must be as long as it says, and hold a key and a value; `5 a=` is the shortest."""
    pax = sealed(header(b"p", kind=b"x", size=b"%011o\0" % len(record))) + record.ljust(512, b"\0")
    tar = pax + sealed(header(b"a")) + END
    if record == b"5 a=\n":
        assert names(tar) == ["a"]
    else:
        assert "PAX" in refused(tar)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (b"9 path=b\n", "b"),
        (b"011 path=b\n", "b"),
        (b"14 path=b=c/d\n", "b=c/d"),
        (b"12 path=b\nc\n", "b\nc"),
        (b"8 path=\n", "a"),
        (b"9 path=b\n9 path=c\n", "c"),
        (b"9 path=b\n11 mtime=1\n", "b"),
        (b"19 path=b\n9 path=c\n", "b\n9 path=c"),
    ],
)
def test_a_name_in_a_pax_record_is_read_whatever_it_holds(record: bytes, name: str) -> None:
    """The length alone says where a name ends; an empty one changes nothing, and the last of several counts."""
    pax = sealed(header(b"p", kind=b"x", size=b"%011o\0" % len(record))) + record.ljust(512, b"\0")
    assert names(pax + sealed(header(b"a")) + END) == [name]


def test_a_record_that_is_like_one_before_is_checked_again() -> None:
    """Headers of records mostly are the same; one with a wrong checksum is refused also after a right one."""
    record = b"9 path=b\n".ljust(512, b"\0")
    pax = sealed(header(b"p", kind=b"x", size=b"%011o\0" % 9))
    member = sealed(header(b"a"))
    assert names((pax + record + member) * 3 + END) == ["b"] * 3
    damaged = b"q" + pax[1:]
    assert "checksum" in refused(pax + record + member + damaged + record + member + END)


def test_the_size_of_a_link_or_folder_is_no_content() -> None:
    """A folder that claims a size has no content, as in Go: what follows is the next member."""
    tar = sealed(header(b"d", kind=b"5", size=b"00000001000\0")) + sealed(header(b"a")) + END
    assert names(tar) == ["d", "a"]


def test_a_long_extended_header_is_refused() -> None:
    """A header of one member may have 1 MiB and not a byte more, so that none is read into memory."""
    for size, fits in ((limits.LAYER_HEADER_BYTES, True), (limits.LAYER_HEADER_BYTES + 1, False)):
        name = sealed(header(b"n", kind=b"L", size=b"%011o\0" % size)) + b"n" * size + bytes(-size % 512)
        tar = name + sealed(header(b"a")) + END
        with pytest.raises(LimitError, match="over 4096" if fits else "claims"):
            names(tar)


def test_an_archive_that_ends_early_is_refused() -> None:
    """An end inside a header, inside a file or before a described member is no end."""
    tar = Tar().file("a", b"x" * 2000).bytes()
    assert "ends inside a header" in refused(tar[:100])
    assert "ends inside a file" in refused(tar[:1000])
    assert "does not follow" in refused(Tar().file("x" * 200).bytes()[:1024] + END)


def test_an_archive_without_the_blocks_of_zeros_is_read() -> None:
    """An archive may end after its last member, as Go allows."""
    assert names(Tar().file("a", b"1").bytes()[:1024]) == ["a"]
    assert names(b"") == []


def test_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many entries as the limit are read, one more is refused."""
    tar = Tar().file("a").file("b").file("c").bytes()
    monkeypatch.setattr(limits, "LAYER_ENTRIES", 3)
    assert len(names(tar)) == 3
    monkeypatch.setattr(limits, "LAYER_ENTRIES", 2)
    with pytest.raises(LimitError, match="more than 2 entries"):
        names(tar)


def test_unpacked_bytes_are_bounded() -> None:
    """A layer may unpack to the limit, and not to one byte more."""
    tar = Tar().file("a", b"x" * 5000).bytes()
    assert [entry.path for entry, _ in Reader(io.BytesIO(tar), limit=len(tar))] == ["a"]
    with pytest.raises(LimitError, match="unpacks to more"):
        list(Reader(io.BytesIO(tar), limit=len(tar) - 1))


def test_a_member_can_be_passed_over_forward() -> None:
    """Seeking forward skips, never past the member's end; every other way, and a member that is gone, is refused."""
    tar = Tar().file("a", bytes(range(200)) * 20_000).file("b", b"next")
    walk = iter(read_layer(io.BytesIO(tar.bytes())))
    _, file = next(walk)
    assert file is not None
    assert file.read(3) == b"\0\1\2"
    assert file.seek(3_000_000 - 3, io.SEEK_CUR) == 3_000_000
    assert file.read(2) == b"\0\1"
    for offset, whence in ((-1, io.SEEK_CUR), (0, io.SEEK_SET), (0, io.SEEK_END)):
        with pytest.raises(io.UnsupportedOperation):
            file.seek(offset, whence)
    assert file.seek(10**9, io.SEEK_CUR) == 4_000_000
    assert file.read(1) == b""
    _, after = next(walk)
    assert after is not None
    with pytest.raises(ValueError, match="gone on"):
        file.seek(0, io.SEEK_CUR)
    assert after.read() == b"next"


def test_a_member_that_is_cut_off_is_refused() -> None:
    """A tar that ends inside a file is damaged for who reads the file, and for who skips it."""
    tar = Tar().file("a", bytes(5000)).bytes()[:2000]
    for size in (5000, 1 << 20):
        _, file = next(iter(read_layer(io.BytesIO(tar))))
        assert file is not None
        with pytest.raises(InputError, match="ends inside a file"):
            file.seek(size, io.SEEK_CUR)
        _, again = next(iter(read_layer(io.BytesIO(tar))))
        assert again is not None
        with pytest.raises(InputError, match="ends inside a file"):
            again.read(size)
