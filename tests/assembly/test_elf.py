"""ELF headers against GNU readelf, and against damage."""

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers import Tool
from tidewaiter.assembly import elf
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError


def _module() -> Path:
    """A small real library: a module of this interpreter, or the interpreter itself."""
    for name in ("_csv", "_json", "_bisect", "mmap"):
        found = importlib.util.find_spec(name)
        if found is not None and found.origin and found.origin.endswith(".so"):
            return Path(found.origin).resolve()
    return Path(sys.executable).resolve()


def _c_library() -> Path:
    maps = Path("/proc/self/maps").read_text()
    found = re.search(r"(/\S*/libc[.-]\S*)", maps)
    assert found is not None
    return Path(found[1]).resolve()


@pytest.mark.interop
@pytest.mark.parametrize("path", [_module(), _c_library(), Path(sys.executable).resolve()])
def test_it_says_what_readelf_says(tool: Tool, path: Path) -> None:
    """Needed libraries, own name, loader, required and defined versions are those that binutils find."""
    found = elf.read(path)
    assert found is not None
    told = subprocess.run(
        [tool("readelf"), "-W", "-d", "-l", "-V", path], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", told)
    assert [found.soname] * bool(found.soname) == re.findall(r"\(SONAME\).*\[(.*)\]", told)
    assert [found.interpreter] * bool(found.interpreter) == re.findall(r"interpreter: (\S+)\]", told)
    needs = told.partition("Version needs section")[2]
    required = re.findall(r"Name: (\S+)\s+Flags: none", needs)
    assert sorted(one for versions in found.requires.values() for one in versions) == sorted(required)
    defined = told.partition("Version definition section")[2].partition("Version needs section")[0]
    assert found.defines == set(re.findall(r"Flags: (?!BASE).*Cnt: \d+\s+Name: (\S+)", defined))


def test_other_files_are_no_elf(tmp_path: Path) -> None:
    """A script, an empty file and a file that only begins like one are told apart."""
    for content in (b"", b"#!/bin/sh\n", b"\x7fEL"):
        (tmp_path / "x").write_bytes(content)
        assert elf.read(tmp_path / "x") is None
    (tmp_path / "x").write_bytes(b"\x7fELF")
    with pytest.raises(InputError, match="malformed ELF"):
        elf.read(tmp_path / "x")


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link in the place of a file is not read through."""
    (tmp_path / "x").symlink_to(_module())
    with pytest.raises(OSError, match="symbolic"):
        elf.read(tmp_path / "x")


def test_damage_is_an_input_error(tmp_path: Path) -> None:
    """Cut and altered files are read or refused, whatever their headers say; nothing else happens."""
    data = _module().read_bytes()[: 1 << 16]
    chance = random.Random(7)
    path = tmp_path / "x"
    refused = 0
    for _ in range(400):
        damaged = bytearray(data[: chance.choice([len(data), chance.randrange(16, len(data))])])
        for _ in range(chance.randrange(6)):
            damaged[chance.randrange(4, min(len(damaged), 4096))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            elf.read(path)
        except InputError:
            refused += 1
    assert refused > 0


def test_many_segments_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with more program headers than the bound is refused; at the bound it is read."""
    data = _module().read_bytes()
    count = int.from_bytes(data[56:58], sys.byteorder)
    (tmp_path / "x").write_bytes(data)
    monkeypatch.setattr(limits, "ELF_SEGMENTS", count)
    assert elf.read(tmp_path / "x") is not None
    monkeypatch.setattr(limits, "ELF_SEGMENTS", count - 1)
    with pytest.raises(InputError):
        elf.read(tmp_path / "x")
