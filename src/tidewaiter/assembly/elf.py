"""What an ELF file says that it needs: libraries, symbol versions, search paths, its loader.

System V ABI, and the GNU extension for symbol versions. Only headers and the dynamic section are read, each part under
a bound; nothing is believed to lie where the file says unless it does.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError

_MAGIC = b"\x7fELF"
_LOAD, _DYNAMIC, _INTERP = 1, 2, 3
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_BASE, _WEAK = 1, 2


class Elf(msgspec.Struct, frozen=True, kw_only=True):
    """A program or a library."""

    machine: tuple[int, int, int]
    """Class, byte order and machine: only files that agree in all three can be loaded together."""
    interpreter: str = ""
    """The loader that the kernel starts; empty for libraries and static programs."""
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    requires: dict[str, tuple[str, ...]] = {}
    """Symbol versions by the library that must define them; weak ones are left out."""
    defines: frozenset[str] = frozenset()
    """Symbol versions that it defines."""


class _Broken(Exception):  # noqa: N818  # `read` says which file
    pass


class _File:
    """Reads structures and strings at places that the file itself names."""

    def __init__(self, handle: int, order: str) -> None:
        self._handle = handle
        self._order = order
        self.segments: list[tuple[int, int, int, int]] = []

    def unpack(self, form: str, offset: int) -> tuple[int, ...]:
        size = struct.calcsize(self._order + form)
        data = os.pread(self._handle, size, offset) if 0 <= offset < 2**63 - size else b""
        if len(data) != size:
            raise _Broken
        return struct.unpack(self._order + form, data)

    def text(self, offset: int) -> str:
        data = os.pread(self._handle, limits.PATH_BYTES, offset) if 0 <= offset < 2**62 else b""
        head, end, _ = data.partition(b"\0")
        if not end:
            raise _Broken
        try:
            return head.decode()
        except UnicodeDecodeError as error:
            raise _Broken from error

    def offset(self, address: int) -> int:
        """Where the byte that is loaded at `address` lies in the file."""
        for kind, start, virtual, size in self.segments:
            if kind == _LOAD and virtual <= address < virtual + size:
                return start + address - virtual
        raise _Broken


def read(path: Path) -> Elf | None:
    """What the file at `path` says of itself; None when it is no ELF file.

    Raises:
        InputError: it is one and malformed.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        ident = os.pread(handle, 16, 0)
        if ident[:4] != _MAGIC:
            return None
        try:
            return _read(handle, ident)
        except (_Broken, struct.error, OSError) as error:
            raise InputError(f"/{path.name} is a malformed ELF file", next_step="Do not use this image.") from error
    finally:
        os.close(handle)


def _read(handle: int, ident: bytes) -> Elf:
    if len(ident) != 16 or ident[4] not in {1, 2} or ident[5] not in {1, 2}:
        raise _Broken
    wide = ident[4] == 2
    file = _File(handle, "<" if ident[5] == 1 else ">")
    (machine,) = file.unpack("H", 18)
    (start,) = file.unpack("Q" if wide else "I", 32 if wide else 28)
    size, count = file.unpack("HH", 54 if wide else 42)
    if count > limits.ELF_SEGMENTS:
        raise _Broken
    for index in range(count):
        at = start + index * size
        if wide:
            kind, _, offset, virtual, _, length = file.unpack("IIQQQQ", at)
        else:
            kind, offset, virtual, _, length = file.unpack("IIIII", at)
        file.segments.append((kind, offset, virtual, length))
    interpreter = next((file.text(one[1]) for one in file.segments if one[0] == _INTERP), "")
    kind_of_machine = (ident[4], ident[5], machine)
    dynamic = next((one for one in file.segments if one[0] == _DYNAMIC), None)
    if dynamic is None:
        return Elf(machine=kind_of_machine, interpreter=interpreter)
    return _dynamic(file, Elf(machine=kind_of_machine, interpreter=interpreter), dynamic[1], dynamic[3], wide=wide)


def _dynamic(file: _File, head: Elf, start: int, length: int, *, wide: bool) -> Elf:
    step = 16 if wide else 8
    found: dict[int, list[int]] = {}
    for index in range(min(length // step, limits.ELF_DYNAMIC)):
        tag, value = file.unpack("QQ" if wide else "II", start + index * step)
        if tag == 0:
            break
        found.setdefault(tag, []).append(value)
    if _STRTAB not in found:
        return head
    strings = file.offset(found[_STRTAB][0])

    def texts(tag: int) -> tuple[str, ...]:
        return tuple(file.text(strings + value) for value in found.get(tag, ()))

    def places(tag: int) -> tuple[str, ...]:
        return tuple(part for text in texts(tag) for part in text.split(":") if part)

    requires: dict[str, tuple[str, ...]] = {}
    if _VERNEED in found:
        for library, versions in _needs(file, file.offset(found[_VERNEED][0]), found.get(_VERNEEDNUM, [0])[0], strings):
            requires[library] = (*requires.get(library, ()), *versions)
    defines: frozenset[str] = frozenset()
    if _VERDEF in found:
        defines = frozenset(_defines(file, file.offset(found[_VERDEF][0]), found.get(_VERDEFNUM, [0])[0], strings))
    return msgspec.structs.replace(
        head,
        soname=next(iter(texts(_SONAME)), ""),
        needed=texts(_NEEDED),
        rpath=places(_RPATH),
        runpath=places(_RUNPATH),
        requires=requires,
        defines=defines,
    )


def _needs(file: _File, at: int, count: int, strings: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    left = limits.ELF_VERSIONS
    for _ in range(min(count, limits.ELF_VERSIONS)):
        _, number, name, first, following = file.unpack("HHIII", at)
        versions = []
        auxiliary = at + first
        for _ in range(number):
            left -= 1
            if left < 0:
                raise _Broken
            _, flags, _, version, further = file.unpack("IHHII", auxiliary)
            if not flags & _WEAK:
                versions.append(file.text(strings + version))
            if not further:
                break
            auxiliary += further
        yield file.text(strings + name), tuple(versions)
        if not following:
            break
        at += following


def _defines(file: _File, at: int, count: int, strings: int) -> Iterator[str]:
    for _ in range(min(count, limits.ELF_VERSIONS)):
        _, flags, _, _, _, first, following = file.unpack("HHHHIII", at)
        (name,) = file.unpack("I", at + first)
        if not flags & _BASE:  # the base entry is the library's own name
            yield file.text(strings + name)
        if not following:
            break
        at += following
