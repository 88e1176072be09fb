import contextlib
import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.inspection.catalogers import zips

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00/\\"), min_size=1, max_size=20)
FILES = st.dictionaries(NAMES, st.tuples(st.binary(max_size=2000), st.booleans()), max_size=8)


def written(files: dict[str, tuple[bytes, bool]], comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (data, packed) in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
        archive.comment = comment
    return buffer.getvalue()


@given(FILES, st.binary(max_size=50), st.binary(max_size=50))
def test_what_zipfile_writes_is_read_back(files: dict[str, tuple[bytes, bool]], before: bytes, comment: bytes) -> None:
    """Names and contents are those that were written, stored or deflated, with anything before the archive."""
    if b"PK\x05\x06" in comment:
        return
    data = before + written(files, comment)
    file = io.BytesIO(data)
    found = {member.name: zips.content(file, member, 2000) for member in zips.members(file, len(data))}
    assert found == {name: content for name, (content, _) in files.items()}


@given(st.binary(max_size=300), st.integers(0, 200), st.integers(0, 255))
def test_nothing_but_broken_is_raised(noise: bytes, at: int, value: int) -> None:
    """Damaged archives, and bytes that are none, are broken: never a crash."""
    damaged = bytearray(written({"a": (b"1" * 50, True), "b": (noise, False)}))
    damaged[at % len(damaged)] = value
    for data in (noise, bytes(damaged)):
        file = io.BytesIO(data)
        with contextlib.suppress(zips.Broken):
            for member in zips.members(file, len(data)):
                assert len(zips.content(file, member, 1000)) <= 1000


def test_a_member_that_states_a_small_size_and_unpacks_to_more_is_broken() -> None:
    """The bound counts what comes out, not what the directory says."""
    data = bytearray(written({"a": (b"1" * 100_000, True)}))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 10)
    file = io.BytesIO(bytes(data))
    (member,) = zips.members(file, len(data))
    assert member.size == 10
    with pytest.raises(zips.Broken, match="more than 99999 bytes"):
        zips.content(file, member, 99_999)
