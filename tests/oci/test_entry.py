"""Headers of tar members."""

import tarfile

from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.oci.entry import Entry, Kind, header

_COMPONENTS = st.builds(
    lambda character, count: character * count, st.sampled_from("aü"), st.sampled_from([1, 60, 101])
)


@given(
    st.lists(_COMPONENTS, min_size=1, max_size=5),
    st.sampled_from(["file", "directory", "symlink", "hardlink"]),
    st.sampled_from(["", "x", "y" * 100, "z" * 101, "ü"]),
    st.sampled_from([0, 65532, 0o7777777, 0o10000000]),
    st.sampled_from([0, 1, 8**11 - 1, 8**11]),
)
def test_headers_are_those_of_tarfile(parts: list[str], kind: Kind, target: str, owner: int, size: int) -> None:
    """What is written by hand for speed is what the standard library writes, at every bound of ustar."""
    entry = Entry(path="/".join(parts), kind=kind, uid=owner, gid=owner, size=size, target=target)
    info = tarfile.TarInfo(entry.path + ("/" if kind == "directory" else ""))
    info.type = {"file": b"0", "hardlink": b"1", "symlink": b"2", "directory": b"5"}[kind]
    info.mode, info.uid, info.gid, info.mtime = 0o777 if kind == "symlink" else entry.mode, owner, owner, entry.mtime
    info.size, info.linkname = size if kind == "file" else 0, target
    try:
        plain = info.name.isascii() and target.isascii()
        expected = info.tobuf(tarfile.USTAR_FORMAT) if plain else None
    except ValueError:
        expected = None
    assert header(entry) == (expected or info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
