"""cargo-auditable's `.dep-v0` section: the crates of a Rust program, as JSON in zlib (its PARSING.md)."""

import re
import zlib

import msgspec

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage

ZLIB = re.compile(rb"x[\x01\x5e\x9c\xda]")
"""The first bytes of a zlib stream."""
HEAD_BYTES = 512
"""Enough packed bytes to see how the list begins."""
PACKED_BYTES = 1 * limits.MIB
_JSON_BYTES = 8 * limits.MIB
_BEGINNING = re.compile(rb'\s*\{\s*"packages"\s*:\s*\[')
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,199}")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+\-]{0,199}")


class _Crate(msgspec.Struct, frozen=True):
    name: str
    version: str
    source: str = ""
    kind: str = "runtime"
    dependencies: tuple[int, ...] = ()


class _List(msgspec.Struct, frozen=True):
    packages: tuple[_Crate, ...]


def plausible(head: bytes) -> bool:
    """Whether these packed bytes begin the list."""
    try:
        return _BEGINNING.match(zlib.decompressobj().decompress(head, 64)) is not None
    except zlib.error:
        return False


def read(path: str, packed: bytes, collector: Collector) -> None:
    """Record the crates that are part of the program; what only its build needed is not in it."""
    try:
        data = zlib.decompressobj().decompress(packed, _JSON_BYTES)
        crates = msgspec.json.decode(data, type=_List).packages
    except (zlib.error, ValueError, RecursionError) as error:
        collector.note(path, f"cargo-auditable's list of crates is damaged: {clean(str(error), 100)}")
        return
    packages = []
    for crate in crates[: limits.COMPONENTS]:
        if crate.kind == "build":
            continue
        if not _NAME.fullmatch(crate.name) or not _VERSION.fullmatch(crate.version):
            collector.note(path, f"it names a crate that cargo does not allow: {clean(crate.name, 60)!r}")
            continue
        needs = {
            f"{crates[index].name}@{crates[index].version}"
            for index in crate.dependencies[: limits.REQUIREMENTS]
            if 0 <= index < len(crates)
        }
        packages.append(
            FoundPackage(
                kind="cargo",
                name=crate.name,
                version=crate.version,
                location=path,
                supplier="" if crate.source in {"", "crates.io"} else clean(f"source: {crate.source}", 60),
                depends=tuple(sorted(needs)),
                provides=(f"{crate.name}@{crate.version}",),
            )
        )
    collector.add_packages(path, tuple(packages))
