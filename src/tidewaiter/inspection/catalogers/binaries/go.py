"""Go's build information (`debug/buildinfo`): version of Go, main module, modules that were linked in.

From Go 1.18 on it is a header of 32 bytes and two texts, each with its length before it as a varint. Older programs
hold pointers instead; they are noted as not read.
"""

import re

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage

MAGIC = b"\xff Go buildinf:"
BLOB_BYTES = 2 * limits.MIB
HEADER_BYTES = 32
_INLINE = 2
_MARK = 16
"""Bytes before and after the module text that tell programs where it stands."""
_GO = re.compile(r"(?:devel )?go(\d+\.\d+(?:\.\d+)?(?:(?:rc|beta)\d+)?)")
_PATH = re.compile(r"[A-Za-z0-9.\-_~/+!]{1,400}")
_VERSION = re.compile(r"v[0-9][0-9A-Za-z.+\-]{0,199}|\(devel\)")


def plausible(header: bytes) -> bool:
    """Whether `header` (`HEADER_BYTES` that begin with the magic) is one; Go's own tools hold the magic as a text."""
    return header[14] in {4, 8} and header[15] < 4


def _text(blob: bytes, at: int) -> tuple[bytes, int]:
    """The text at `at` and where it ends; raises ValueError when it is not whole."""
    length = shift = 0
    while True:
        if at >= len(blob) or shift > 28:
            raise ValueError("a length is malformed")
        byte = blob[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if at + length > len(blob):
        raise ValueError(f"a text of {length} bytes is not whole")
    return blob[at : at + length], at + length


def modules(text: str) -> list[tuple[str, str]]:
    """Paths and versions of the lines `mod` and `dep`; a module that was replaced (`=>`) under what replaced it."""
    found: list[tuple[str, str]] = []
    for line in text.split("\n")[: limits.COMPONENTS]:
        fields = line.split("\t")
        if len(fields) < 2:
            continue
        version = fields[2] if len(fields) > 2 and fields[2] else "(devel)"
        if fields[0] in {"mod", "dep"}:
            found.append((fields[1], version))
        elif fields[0] == "=>" and found:
            found[-1] = (fields[1], version)
    return found


def read(path: str, blob: bytes, collector: Collector) -> None:
    """Record the standard library and the modules; versions without the `v`, as advisories write them."""
    if not blob[15] & _INLINE:
        collector.note(path, "a program of Go before 1.18 keeps its build information where it is not read")
        return
    try:
        version, at = _text(blob, HEADER_BYTES)
        text, _ = _text(blob, at)
    except ValueError as error:
        collector.note(path, f"Go's build information is damaged: {error}")
        return
    packages = []
    release = _GO.match(version.decode("utf-8", "replace"))
    if release:
        packages.append(FoundPackage(kind="golang", name="stdlib", version=release[1], location=path))
    else:
        collector.note(path, f"it does not state which Go made it: {clean(version.decode('utf-8', 'replace'), 60)!r}")
    body = text[_MARK:-_MARK].decode("utf-8", "replace") if len(text) > 2 * _MARK else ""
    for name, number in modules(body):
        if _PATH.fullmatch(name) and _VERSION.fullmatch(number):
            packages.append(FoundPackage(kind="golang", name=name, version=number.removeprefix("v"), location=path))
        else:
            collector.note(path, f"it names a module that Go does not allow: {clean(name, 60)!r}")
    collector.add_packages(path, tuple(packages))
