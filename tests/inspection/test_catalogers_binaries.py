import io
import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import binaries
from tidewaiter.inspection.catalogers.binaries import go, rust
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.oci.layer import Entry

MARK = bytes(range(16))


def elf(data: bytes = b"", tail: bytes = b"", *, wide: bool = True, order: str = "<", pad: int = 4096) -> bytes:
    """An ELF file of one writable segment with `data`, and `tail` where sections that are not loaded lie."""
    at = pad
    sections = at + len(data) + len(tail)
    head = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + bytes(9)
    if wide:
        head += struct.pack(order + "HHIQQQIHHHHHH", 2, 62, 1, 0, 64, sections, 0, 64, 56, 1, 64, 0, 0)
        head += struct.pack(order + "IIQQQQQQ", 1, 6, at, 0, 0, len(data), len(data), 4096)
    else:
        head += struct.pack(order + "HHIIIIIHHHHHH", 2, 3, 1, 0, 52, sections, 0, 52, 32, 1, 40, 0, 0)
        head += struct.pack(order + "IIIIIIII", 1, at, 0, 0, len(data), len(data), 6, 4096)
    return head.ljust(at, b"\0") + data + tail + b"sections"


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def build_info(version: str, modules: str, *, flags: int = 2) -> bytes:
    texts = [version.encode(), MARK + modules.encode() + MARK]
    return go.MAGIC + bytes([8, flags]) + bytes(16) + b"".join(varint(len(text)) + text for text in texts)


def auditable(document: object) -> bytes:
    return zlib.compress(json.dumps(document).encode())


def read(data: bytes, path: str = "app/x") -> tuple[list[tuple[str, str, str]], list[str]]:
    collector = Collector()
    entry = Entry(path=path, kind="file", mode=0o755, size=len(data))
    file = io.BytesIO(data)
    binaries.read(path, entry, file.read(4), file, collector)
    packages = [(str(item.kind), item.name, item.version) for item in collector.packages.get(path, ())]
    return packages, sorted(note.reason for note in collector.unread)


MODULES = (
    "path\tx.org/a\nmod\tx.org/a\t(devel)\t\n"
    "dep\tgithub.com/b/c\tv1.2.3\th1:=\ndep\td.org/e\tv1\n=>\tf.org/g\tv2.0.0\t\n"
)


@pytest.mark.parametrize(("wide", "order"), [(True, "<"), (True, ">"), (False, "<"), (False, ">")])
def test_modules_of_a_go_program(wide: bool, order: str) -> None:
    """Either word size and byte order: the standard library, the main module, dependencies, and what replaced them."""
    assert read(elf(b"x" * 48 + build_info("go1.22.1", MODULES), wide=wide, order=order)) == (
        [("golang", "stdlib", "1.22.1"), ("golang", "x.org/a", "(devel)"), ("golang", "github.com/b/c", "1.2.3"),
         ("golang", "f.org/g", "2.0.0")],
        [],
    )  # fmt: skip


@pytest.mark.parametrize("before", [(1 << 20) - 4096 - 33, (1 << 20) - 4096 - 8, (1 << 20) - 8, (1 << 20) + 5])
def test_build_information_across_a_window_is_found(before: int) -> None:
    """Where the information begins near the end of what is read at once, it is found all the same."""
    data = b"\xff Go buildinf: text".ljust(before, b"y") + build_info("go1.20", "mod\ta.b/c\tv1.0.0\n" + "#" * 3000)
    assert read(elf(data)) == ([("golang", "stdlib", "1.20"), ("golang", "a.b/c", "1.0.0")], [])


@pytest.mark.parametrize(
    ("blob", "noted"),
    [
        (build_info("go1.20", MODULES)[:60], "damaged"),
        (go.MAGIC + bytes([8, 2]) + bytes(16) + b"\xff" * 30, "damaged"),
        (go.MAGIC + bytes([8, 0]) + bytes(64), "before 1.18"),
        (build_info("devel x", ""), "which Go made it"),
        (build_info("go1.20", "dep\tb ad\tv1\n"), "module that Go does not allow"),
    ],
    ids=range(5),
)
def test_go_information_that_cannot_be_read_is_noted(blob: bytes, noted: str) -> None:
    """A Go program of which the modules stay unknown is never taken for one without modules."""
    _, notes = read(elf(blob + bytes(8)))
    assert [noted in note for note in notes] == [True]


CRATES = {
    "packages": [
        {"name": "demo", "version": "0.1.0", "source": "local", "root": True, "dependencies": [1, 99]},
        {"name": "itoa", "version": "1.0.18", "source": "crates.io"},
        {"name": "cc", "version": "1.0.0", "source": "crates.io", "kind": "build"},
    ]
}


@pytest.mark.parametrize("before", [0, 5000, (1 << 20) - 20, (1 << 20) + 3])
@pytest.mark.parametrize("after", [0, 2000])
def test_crates_of_a_rust_program(before: int, after: int) -> None:
    """cargo-auditable's section is found wherever it lies behind the loaded part; crates of the build are left out."""
    tail = b"x\x9cx\xda".ljust(before, b"x") + auditable(CRATES) + bytes(after)
    assert read(elf(bytes(100), tail)) == ([("cargo", "demo", "0.1.0"), ("cargo", "itoa", "1.0.18")], [])


def test_a_damaged_list_of_crates_is_noted() -> None:
    """A list that begins well and ends early, or that names odd crates, is said to be unread."""
    assert [len(read(elf(bytes(9), auditable(CRATES)[:-30]))[1])] == [1]
    odd = {"packages": [{"name": "a b", "version": "1"}, {"name": "ok", "version": "1.0.0"}]}
    packages, notes = read(elf(bytes(9), auditable(odd)))
    assert (packages, len(notes)) == ([("cargo", "ok", "1.0.0")], 1)


def test_a_bomb_in_a_list_of_crates_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that unpacks to more than the bound is noted, and not unpacked further."""
    monkeypatch.setattr(rust, "_JSON_BYTES", 1000)
    packages, notes = read(elf(bytes(9), zlib.compress(b'{"packages":[' + b" " * 10**6 + b"]}")))
    assert (packages, len(notes)) == ([], 1)


@pytest.mark.parametrize(
    "data",
    [b"\x7fELF", b"\x7fELF" + bytes(5000), b"\x7fELF" + b"\xff" * 5000, b"\x7fELF\x02\x01" + b"\xff" * 5000,
     elf(bytes(100))[:4100], elf()],
    ids=range(6),
)  # fmt: skip
def test_odd_programs_say_nothing(data: bytes) -> None:
    """Headers that lie, and programs without information, give no package and do not fail."""
    assert read(data) == ([], [])


def test_only_a_bounded_part_of_a_program_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind the bound is not looked at, so a huge program costs no more than the bound."""
    monkeypatch.setattr(limits, "BINARY_SCAN_BYTES", 4096)
    assert read(elf(build_info("go1.20", "").rjust(5000, b"y"))) == ([], [])
    assert read(elf(build_info("go1.20", "").rjust(3000, b"y")))[0] == [("golang", "stdlib", "1.20")]


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("go") is None, reason="no Go toolchain: go is not on the path")
def test_a_program_that_go_built(tmp_path: Path) -> None:
    """What the local Go toolchain links is read as `go version -m` reads it."""
    (tmp_path / "go.mod").write_text("module example.com/demo\n\ngo 1.20\n")
    (tmp_path / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    program = tmp_path / "demo"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    said = subprocess.run(
        ["go", "version", str(program)], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    packages, notes = read(program.read_bytes())
    assert packages[0] == ("golang", "stdlib", said.split()[1].removeprefix("go"))
    assert packages[1][1] == "example.com/demo"
    assert notes == []
