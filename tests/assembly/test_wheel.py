import csv
import hashlib
import io
import stat
import zipfile
from pathlib import Path

import pytest
from little_wheels import SITE, VERSION, locked, record_hash, write_wheel

from tidewaiter.assembly.wheel import Wheel
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.oci.layer import Reader, write_layer

EXECUTABLE = f"/usr/bin/python{VERSION}"


def _open(path: Path) -> Wheel:
    return Wheel(path, locked(path), python=VERSION, executable=EXECUTABLE)


def _layer(path: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file of the layer that the wheel at `path` becomes."""
    sink = io.BytesIO()
    with _open(path) as wheel:
        write_layer(sink, wheel.items({}))
    sink.seek(0)
    return {entry.path: (entry.mode, file.read()) for entry, file in Reader(sink) if file is not None}


def test_files_lie_where_the_installation_scheme_says(tmp_path: Path) -> None:
    """Modules, scripts, headers, data and generated scripts go to their fixed folders, executable where they must."""
    data = "sample-1.0.data"
    path = write_wheel(
        tmp_path,
        files={
            "sample/__init__.py": "",
            "sample/tool.so": b"\x7fELF",
            f"{data}/purelib/pure.py": "",
            f"{data}/platlib/plat.py": "",
            f"{data}/scripts/run": "#!python\nprint(1)\n",
            f"{data}/scripts/binary": b"\x7fELF...",
            f"{data}/headers/sample.h": "",
            f"{data}/data/share/doc/sample.txt": "",
            "sample-1.0.dist-info/entry_points.txt": "[console_scripts]\nsample-cli = sample:main\n[other]\nx = y\n",
        },
        modes={"sample/tool.so": stat.S_IFREG | 0o755},
    )
    found = _layer(path)
    assert {name: mode for name, (mode, _) in found.items() if "dist-info" not in name} == {
        f"{SITE}/sample/__init__.py": 0o644,
        f"{SITE}/sample/tool.so": 0o755,
        f"{SITE}/pure.py": 0o644,
        f"{SITE}/plat.py": 0o644,
        "usr/local/bin/run": 0o755,
        "usr/local/bin/binary": 0o755,
        "usr/local/bin/sample-cli": 0o755,
        f"usr/local/include/python{VERSION}/sample/sample.h": 0o644,
        "usr/local/share/doc/sample.txt": 0o644,
    }
    assert found["usr/local/bin/run"][1] == f"#!{EXECUTABLE}\nprint(1)\n".encode()
    assert found["usr/local/bin/sample-cli"][1].startswith(f"#!{EXECUTABLE}\n".encode())
    assert b"from sample import main" in found["usr/local/bin/sample-cli"][1]


def test_record_is_sorted_complete_and_true(tmp_path: Path) -> None:
    """RECORD names every installed file with its hash, bytecode without, in byte order."""
    path = write_wheel(
        tmp_path,
        files={
            "sample/b.py": "b",
            "sample/a.py": "a",
            "sample-1.0.dist-info/entry_points.txt": "[console_scripts]\nsample-cli = sample:main\n",
        },
    )
    sink = io.BytesIO()
    compiled = {f"/{SITE}/sample/__pycache__/a.cpython-{VERSION.replace('.', '')}.pyc": (3, lambda: io.BytesIO(b"pyc"))}
    with _open(path) as wheel:
        write_layer(sink, wheel.items(compiled))
    sink.seek(0)
    found = {entry.path: file.read() for entry, file in Reader(sink) if file is not None}
    rows = list(csv.reader(io.StringIO(found[f"{SITE}/sample-1.0.dist-info/RECORD"].decode())))
    assert rows == sorted(rows, key=lambda row: row[0].encode())
    listed = {row[0]: row[1:] for row in rows}
    assert listed["sample/a.py"] == [record_hash(b"a"), "1"]
    assert listed["sample-1.0.dist-info/RECORD"] == ["", ""]
    assert listed[f"sample/__pycache__/a.cpython-{VERSION.replace('.', '')}.pyc"] == ["", ""]
    script = found["usr/local/bin/sample-cli"]
    assert listed["../../../bin/sample-cli"] == [record_hash(script), str(len(script))]
    assert len(listed) == len(found)


def test_the_layer_does_not_tell_how_it_was_installed(tmp_path: Path) -> None:
    """INSTALLER is fixed; REQUESTED, direct_url.json, signatures of RECORD and bytecode of the wheel are left out."""
    info = "sample-1.0.dist-info"
    path = write_wheel(
        tmp_path,
        files={
            "sample/__init__.py": "",
            "sample/__pycache__/__init__.cpython-311.pyc": b"evil",
            f"{info}/INSTALLER": "pip",
            f"{info}/REQUESTED": "",
            f"{info}/direct_url.json": "{}",
        },
        raw=[(f"{info}/RECORD.jws", b"signature")],
    )
    found = _layer(path)
    assert {name.removeprefix(f"{SITE}/") for name in found} == {
        "sample/__init__.py",
        f"{info}/INSTALLER",
        f"{info}/METADATA",
        f"{info}/RECORD",
        f"{info}/WHEEL",
    }
    assert found[f"{SITE}/{info}/INSTALLER"][1] == b"tidewaiter\n"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_contents_survive_whatever_their_size(tmp_path: Path, method: int) -> None:
    """Empty, small and large files come out as they went in, stored or deflated."""
    files: dict[str, bytes | str] = {
        "sample/empty": b"",
        "sample/one": b"x",
        "sample/large": bytes(range(256)) * 20_000,
    }
    found = _layer(write_wheel(tmp_path, files=files, method=method))
    assert {name: found[f"{SITE}/{name}"][1] for name in files} == files


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "sample/../../evil.py",
        "/etc/passwd",
        "sample//evil.py",
        "sample/./evil.py",
        "sample\\..\\evil.py",
        "sample/.wh.numpy",
        ".wh..wh..opq",
        "sample/new\nline.py",
    ],
)
def test_paths_that_would_leave_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    """A member that climbs, is absolute, uses backslashes or would delete base files is named and refused."""
    path = write_wheel(tmp_path, raw=[(name, b"x")])
    with pytest.raises(InputError, match=r"sample-1\.0-py3-none-any\.whl") as caught:
        _open(path)
    assert caught.value.code == "unsafe_path"


def test_a_name_cut_by_a_null_is_refused(tmp_path: Path) -> None:
    """A member whose name hides a part behind a null byte is refused, not shortened."""
    path = write_wheel(tmp_path, raw=[("sample/evilX.py", b"x")])
    path.write_bytes(path.read_bytes().replace(b"sample/evilX.py", b"sample/evil\x00.py"))
    with pytest.raises(InputError, match=r"malformed|control character"):
        _open(path)


@pytest.mark.parametrize(
    "data",
    ["sample-1.0.data/scripts/../evil", "sample-1.0.data/data/../../etc/passwd"],
)
def test_data_folders_do_not_climb(tmp_path: Path, data: str) -> None:
    """Neither do the folders for scripts and data lead out."""
    with pytest.raises(InputError) as caught:
        _open(write_wheel(tmp_path, files={data: "x"}))
    assert caught.value.code == "unsafe_path"


def test_an_entry_point_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    """A generated script cannot be written outside its folder."""
    points = "[console_scripts]\n../../../etc/evil = sample:main\n"
    with pytest.raises(InputError, match="entry point"):
        _open(write_wheel(tmp_path, files={"sample-1.0.dist-info/entry_points.txt": points}))


@pytest.mark.parametrize("points", ["[console_scripts]\nx\n", "no section", "[console_scripts]\nx = nonsense here\n"])
def test_malformed_entry_points_are_refused(tmp_path: Path, points: str) -> None:
    """entry_points.txt that cannot be read is an error that names the wheel."""
    with pytest.raises(InputError, match=r"sample-1\.0.*entry_points"):
        _open(write_wheel(tmp_path, files={"sample-1.0.dist-info/entry_points.txt": points}))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: int) -> None:
    """A wheel holds plain files only."""
    path = write_wheel(tmp_path, files={"sample/x": "/etc/passwd"}, modes={"sample/x": kind | 0o777})
    with pytest.raises(InputError, match="link or a special file"):
        _open(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Two members of one name would mean different files to different readers."""
    path = write_wheel(tmp_path, raw=[("sample/__init__.py", b"other")])
    with pytest.raises(InputError, match="twice"):
        _open(path)


def test_two_files_for_one_place_are_refused(tmp_path: Path) -> None:
    """A file of the root and one of `purelib` cannot both be installed to the same path."""
    path = write_wheel(tmp_path, files={"a.py": "1", "sample-1.0.data/purelib/a.py": "2"})
    with pytest.raises(InputError, match="two of its files"):
        _open(path)


def test_a_file_cannot_also_be_a_folder(tmp_path: Path) -> None:
    """`a` and `a/b` cannot both be files."""
    path = write_wheel(tmp_path, files={"a": "1", "a/b": "2"})
    with pytest.raises(InputError, match="a file and a folder at once"):
        _open(path)


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    """What nobody can read cannot be verified."""
    path = write_wheel(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="encrypted"):
        _open(path)


def test_unknown_compression_is_refused(tmp_path: Path) -> None:
    """Wheels are stored or deflated."""
    with pytest.raises(InputError, match="compressed by method 12"):
        _open(write_wheel(tmp_path, method=zipfile.ZIP_BZIP2))


def test_a_wheel_without_record_is_refused(tmp_path: Path) -> None:
    """No RECORD, nothing to verify against."""
    with pytest.raises(InputError, match="no RECORD"):
        _open(write_wheel(tmp_path, without=["sample-1.0.dist-info/RECORD"]))


def test_a_file_that_record_does_not_know_is_refused(tmp_path: Path) -> None:
    """A file slipped into the zip is found before anything is written."""
    with pytest.raises(IntegrityError, match=r"sample/extra\.py is not in RECORD"):
        _open(write_wheel(tmp_path, raw=[("sample/extra.py", b"x")]))


@pytest.mark.parametrize("row", [",", ",10", "md5=AAAA,10", "sha256=AAAA,10", "sha1=" + "A" * 27 + ",10"])
def test_weak_or_missing_hashes_are_refused(tmp_path: Path, row: str) -> None:
    """Only SHA-256 and longer count as a hash of a file."""
    with pytest.raises(IntegrityError, match="no strong hash"):
        _open(write_wheel(tmp_path, record={"sample/__init__.py": row}))


def test_a_size_that_record_contradicts_is_refused(tmp_path: Path) -> None:
    """RECORD's size and the zip's must agree."""
    with pytest.raises(IntegrityError, match="instead of 11"):
        _open(write_wheel(tmp_path, record={"sample/__init__.py": f"{record_hash(b'VALUE = 1')},11"}))


def test_content_that_is_not_what_record_says_stops_the_layer(tmp_path: Path) -> None:
    """A file with another hash is found while it is read, before its layer gets a name."""
    path = write_wheel(tmp_path, record={"sample/__init__.py": f"{record_hash(b'other')},10"})
    with pytest.raises(IntegrityError, match=r"sample/__init__\.py has sha256 .* as RECORD says"):
        _layer(path)


def test_a_damaged_deflate_stream_stops_the_layer(tmp_path: Path) -> None:
    """Bytes that do not inflate are an integrity error that names wheel and file."""
    noise = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(100))
    path = write_wheel(tmp_path, files={"sample/x": noise})
    data = bytearray(path.read_bytes())
    start = data.index(b"sample/x") + len(b"sample/x")
    data[start : start + 400] = b"\xff" * 400
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"sample-1\.0.*sample/x"):
        _layer(path)


def test_a_file_that_is_longer_than_the_zip_says_is_refused(tmp_path: Path) -> None:
    """A member may not inflate to more than its declared size: a bomb stops at the first byte too many."""
    path = write_wheel(tmp_path, files={"sample/x": b"x" * 100_000}, record={"sample/x": f"{record_hash(b'x')},1"})
    data = bytearray(path.read_bytes())
    central = data.rindex(b"sample/x", 0, data.index(b"PK\x05\x06")) - 46
    while data[central : central + 4] != b"PK\x01\x02":
        central = data.rindex(b"sample/x", 0, central + 46) - 46
    data[central + 24 : central + 28] = (1).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="sample/x is longer than 1 bytes"):
        _layer(path)


def test_a_local_header_that_names_another_file_is_refused(tmp_path: Path) -> None:
    """Both headers of a zip member must say the same name."""
    path = write_wheel(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"sample/__init__.py", b"simple/__init__.py", 1))
    with pytest.raises(InputError, match="names another file"):
        _layer(path)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + bytes(10)], ids=["empty", "text", "cut"])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    """A file that is not a zip is named, not a traceback."""
    path = tmp_path / "sample-1.0-py3-none-any.whl"
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a readable zip"):
        _open(path)


def test_a_cut_wheel_is_refused(tmp_path: Path) -> None:
    """The last bytes of a zip hold its directory."""
    path = write_wheel(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="not a readable zip"):
        _open(path)


def test_the_number_of_members_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`WHEEL_MEMBERS` members are taken, one more is not."""
    path = write_wheel(tmp_path)  # four members
    monkeypatch.setattr(limits, "WHEEL_MEMBERS", 4)
    _open(path).__exit__(None, None, None)
    monkeypatch.setattr(limits, "WHEEL_MEMBERS", 3)
    with pytest.raises(LimitError, match="4 members"):
        _open(path)


def test_the_unpacked_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`WHEEL_UNPACKED_BYTES` holds before anything is inflated."""
    path = write_wheel(tmp_path, files={"sample/x": bytes(1_000_000)})
    with zipfile.ZipFile(path) as archive:
        total = sum(info.file_size for info in archive.infolist())
    monkeypatch.setattr(limits, "WHEEL_UNPACKED_BYTES", total)
    _open(path).__exit__(None, None, None)
    monkeypatch.setattr(limits, "WHEEL_UNPACKED_BYTES", total - 1)
    with pytest.raises(LimitError, match="unpacks to more"):
        _open(path)


def test_the_directory_of_the_zip_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A central directory over `WHEEL_DIRECTORY_BYTES` is not read into memory."""
    path = write_wheel(tmp_path, files={f"sample/{number:0200}": b"" for number in range(300)})
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    size = int.from_bytes(data[end + 12 : end + 16], "little")
    assert size > 22 + 65536  # what zipfile reads to find the directory
    monkeypatch.setattr(limits, "WHEEL_DIRECTORY_BYTES", size)
    _open(path).__exit__(None, None, None)
    monkeypatch.setattr(limits, "WHEEL_DIRECTORY_BYTES", size - 1)
    with pytest.raises(LimitError, match="directory claims"):
        _open(path)


def test_metadata_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is read whole must be under `WHEEL_METADATA_BYTES`."""
    path = write_wheel(tmp_path, files={"sample-1.0.dist-info/entry_points.txt": "[a]\n" + "#" * 5000})
    monkeypatch.setattr(limits, "WHEEL_METADATA_BYTES", 5004)
    _open(path).__exit__(None, None, None)
    monkeypatch.setattr(limits, "WHEEL_METADATA_BYTES", 5003)
    with pytest.raises(LimitError, match="5004 bytes"):
        _open(path)


def test_a_wheel_of_another_package_is_refused(tmp_path: Path) -> None:
    """What METADATA calls itself must be what the lock asked for."""
    path = write_wheel(tmp_path, metadata_name="other")
    with pytest.raises(IntegrityError, match=r"says that it is other 1\.0, the lock says sample 1\.0"):
        _open(path)


def test_two_dist_info_folders_are_refused(tmp_path: Path) -> None:
    """One wheel is one package."""
    with pytest.raises(InputError, match=r"2 \.dist-info folders"):
        _open(write_wheel(tmp_path, files={"other-1.0.dist-info/METADATA": ""}))


def test_a_wheel_of_a_later_format_is_refused(tmp_path: Path) -> None:
    """Wheel-Version 2 may mean anything."""
    path = write_wheel(
        tmp_path, files={"sample.py": ""}, without=["sample-1.0.dist-info/WHEEL"],
        raw=[("sample-1.0.dist-info/WHEEL", b"Wheel-Version: 2.0\n")],
        record={"sample-1.0.dist-info/WHEEL": f"{record_hash(b'Wheel-Version: 2.0' + bytes([10]))},19"},
    )  # fmt: skip
    with pytest.raises(InputError, match="Wheel-Version"):
        _open(path)
