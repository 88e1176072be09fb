"""Reading `.deb` files, good and hostile."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from little_archive import ar, deb, packed, special, tar
from servers import Tool
from tidewaiter.assembly.debian import deb as debs
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, TidewaiterError
from tidewaiter.oci.layer import Entry

_SAFE = (special("./usr/bin/one", tarfile.SYMTYPE, target="two"),)


def _walked(path: Path) -> dict[str, tuple[Entry, bytes]]:
    found = {}
    with debs.readable(path.name):
        for entry, file in debs.walk_data(path):
            found[entry.path] = entry, file.read() if file else b""
    return found


def _read_whole(path: Path) -> None:
    debs.read_control(path)
    _walked(path)


@pytest.mark.parametrize("pack", [".xz", ".gz", ".zst", ""])
def test_every_packing_of_dpkg_is_read(tmp_path: Path, pack: str) -> None:
    """Control files and data come out the same however the two tars are compressed."""
    path = tmp_path / "a.deb"
    path.write_bytes(deb("one", files={"usr/bin/x": b"x" * 100_000}, members=_SAFE, pack=pack))
    assert debs.read_control(path).fields["package"] == "one"
    found = _walked(path)
    assert found["usr/bin/x"][1] == b"x" * 100_000
    assert found["usr/bin/one"][0].target == "two"


def test_control_is_what_dpkg_deb_prints(tmp_path: Path, tool: Tool) -> None:
    """The control paragraph is byte for byte that of `dpkg-deb --field`, from a package that dpkg-deb built."""
    dpkg_deb = tool("dpkg-deb")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: real\nVersion: 1:2~rc1-3\nArchitecture: all\nMaintainer: T <t@example.org>\n"
        "Description: real\n a longer text\n .\n end\n\n"
    )
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "real").write_text("data")
    (tree / "usr" / "bin" / "again").hardlink_to(tree / "usr" / "bin" / "real")
    subprocess.run([dpkg_deb, "--root-owner-group", "--build", tree, tmp_path / "real.deb"], check=True)
    printed = subprocess.run([dpkg_deb, "--field", tmp_path / "real.deb"], capture_output=True, check=True).stdout
    assert debs.read_control(tmp_path / "real.deb").paragraph == printed
    kinds = {path: entry.kind for path, (entry, _) in _walked(tmp_path / "real.deb").items()}
    assert kinds["usr"] == "directory"
    assert sorted([kinds["usr/bin/real"], kinds["usr/bin/again"]]) == ["file", "hardlink"]


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (("../escape", b"x"), "would leave its folder"),
        (("./usr/../../escape", b"x"), "would leave its folder"),
        (("/etc/passwd", b"x"), "would leave its folder"),
        (("./usr/bin/.wh.python3", b""), "whiteout"),
        (special("./dev/null", tarfile.CHRTYPE), "device"),
        (special("./run/pipe", tarfile.FIFOTYPE), "pipe"),
        (special("./usr/bin/hard", tarfile.LNKTYPE, target="../../etc/shadow"), "would leave its folder"),
    ],
)
def test_unsafe_members_are_refused(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes], complaint: str
) -> None:
    """A path outside the root, a whiteout, a device or a pipe makes the whole package unusable."""
    path = tmp_path / "bad.deb"
    path.write_bytes(deb("bad", members=[member]))
    with pytest.raises(InputError, match=complaint):
        _walked(path)


def test_set_uid_bits_are_left_behind(tmp_path: Path) -> None:
    """A set-uid program arrives as an ordinary one."""
    path = tmp_path / "su.deb"
    path.write_bytes(deb("su", members=[special("./usr/bin/su", tarfile.REGTYPE, mode=0o4755)]))
    assert _walked(path)["usr/bin/su"][0].mode == 0o755


def test_a_package_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """No prefix of a package passes for the package."""
    whole = deb("one", files={"usr/bin/x": bytes(range(256)) * 400})
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        path = tmp_path / "cut.deb"
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            _read_whole(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 not ar",
        ar([("other", b"2.0\n")]),
        ar([("debian-binary", b"3.0\n")]),
        ar([("debian-binary", b"2.0\n"), ("control.tar.lzma", b"")]),
        ar([("debian-binary", b"2.0\n"), ("control.tar.xz", b"no xz")]),
        ar([("debian-binary", b"2.0\n"), ("control.tar.xz", packed(".xz", tar([("./other", b"")])))]),
        ar([("debian-binary", b"2.0\n"), ("control.tar.gz", packed(".gz", tar([("./control", b"no field")])))]),
        ar([("debian-binary", b"2.0\n"), ("control.tar.gz", packed(".gz", tar([("./control", b"\xff: x")])))]),
        b"!<arch>\n" + b"debian-binary".ljust(58) + b"`\n2.0\n",
    ],
)
def test_what_is_no_package_is_refused(tmp_path: Path, data: bytes) -> None:
    """Any other file is an error that names it, never a crash."""
    path = tmp_path / "odd.deb"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"odd\.deb"):
        debs.read_control(path)


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    """A package with any one byte changed is read or refused, with an error of ours."""
    whole = bytearray(deb("one", files={"usr/bin/x": b"x" * 600}, pack=".gz"))
    path = tmp_path / "flipped.deb"
    for position in range(0, len(whole), 3):
        changed = whole.copy()
        changed[position] ^= 0x41
        path.write_bytes(changed)
        try:
            _read_whole(path)
        except TidewaiterError:
            continue


def test_bounds_hold_from_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked size and number of files are accepted at the limit and refused beyond it."""
    path = tmp_path / "big.deb"
    path.write_bytes(deb("big", files={"usr/bin/x": bytes(50_000)}))
    exact = len(tar([("./usr/share/doc/big/copyright", b"License: MIT\n"), ("./usr/bin/x", bytes(50_000))]))
    monkeypatch.setattr(limits, "DEB_UNPACKED_BYTES", exact)
    monkeypatch.setattr(limits, "DEB_MEMBERS", 2)
    assert len(_walked(path)) == 2
    monkeypatch.setattr(limits, "DEB_UNPACKED_BYTES", exact - 1)
    with pytest.raises(LimitError):
        _walked(path)
    monkeypatch.setattr(limits, "DEB_UNPACKED_BYTES", exact)
    monkeypatch.setattr(limits, "DEB_MEMBERS", 1)
    with pytest.raises(LimitError):
        _walked(path)
    monkeypatch.setattr(limits, "DEB_CONTROL_BYTES", 1000)
    with pytest.raises(LimitError):
        debs.read_control(path)


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    """A long-name header larger than the bound is refused before it is read into memory."""
    info = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = limits.LAYER_HEADER_BYTES + 1
    data = info.tobuf() + bytes(1 << 21)
    path = tmp_path / "long.deb"
    path.write_bytes(ar([("debian-binary", b"2.0\n"), ("data.tar.xz", packed(".xz", data))]))
    with pytest.raises(InputError, match="claims"):
        _walked(path)


@pytest.mark.skipif(not shutil.which("xz"), reason="xz, which makes the file, is not installed")
def test_xz_may_not_take_all_memory(tmp_path: Path) -> None:
    """A stream whose dictionary needs more memory than the bound is refused."""
    packed_data = subprocess.run(
        ["xz", "--format=xz", "--lzma2=dict=1GiB", "-T1", "--stdout"],
        input=tar([("./control", b"")]),
        capture_output=True,
        check=False,
    )
    if packed_data.returncode:
        pytest.skip(f"xz cannot make such a stream here: {packed_data.stderr.decode()}")
    path = tmp_path / "greedy.deb"
    path.write_bytes(ar([("debian-binary", b"2.0\n"), ("control.tar.xz", packed_data.stdout)]))
    with pytest.raises(InputError, match="not a readable Debian package"):
        debs.read_control(path)
