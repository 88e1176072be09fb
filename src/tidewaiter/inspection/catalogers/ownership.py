"""Which files packages call their own: dpkg's lists, Python's RECORD, what Alpine and conda write into their records.

A claim counts only for files that the layer holds; sizes are those of the layer, never those of a list.
"""

import io
import re
from itertools import chain
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.inspection.paths import readable

_LISTS = "var/lib/dpkg/info/"
_SUMS = "var/lib/dpkg/status.d/"
_MERGED = ("bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/")
"""Folders that are links into `usr` today; lists name files as they were packed."""
# RECORD is CSV: path, hash, size. Paths with a comma, a quote or a way out of the folder are read one by one.
# No pattern may look at a line more than twice: a list may be one line of megabytes.
_PLAIN = re.compile(r"^(?!\.\./)([^,\"\r\n]+),[^\n]*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"^(?:(\.\./[^,\"\r\n]*)|\"((?:[^\"\r\n]|\"\"){1,4096})\"),", re.MULTILINE)


def _printable(names: str) -> str:
    """Lines of paths as `paths.readable` writes them."""
    if "\\" not in names and names.replace("\n", "").isprintable():
        return names
    return "\n".join(map(readable, names.split("\n")))


def _text(data: bytes) -> str:
    """The lines of a list, no more than one package may have."""
    if data.count(b"\n") > limits.PACKAGE_FILES:
        data = b"\n".join(data.split(b"\n", limits.PACKAGE_FILES)[: limits.PACKAGE_FILES])
    return data.decode("utf-8", "surrogateescape")


def _inside(folder: str, path: str) -> str | None:
    """`path`, relative to `folder`, from the root; None when it leads out of the image."""
    parts = [] if path.startswith("/") else folder.split("/")
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def claim(collector: Collector, owner: str, paths: list[str]) -> None:
    """Say that files are those of `owner`; `paths` are relative to the root, as written."""
    names = _printable("\n".join(path for path in paths if path and "\n" not in path))
    if names:
        collector.listing.claim(readable(owner), "", names)


def _in_both(paths: list[str]) -> list[str]:
    """Paths, those in merged folders under both of their names."""
    return [*paths, *(f"usr/{path}" for path in paths if path.startswith(_MERGED))]


def _dpkg(path: str, data: bytes, collector: Collector) -> None:
    package = path.removeprefix(_LISTS).removesuffix(".list")
    claim(collector, f"deb {package}", _in_both([line[1:] for line in _text(data).split("\n") if len(line) > 2]))


def _sums(path: str, data: bytes, collector: Collector) -> None:
    """A line is an MD5 sum, two spaces and a path."""
    package = path.removeprefix(_SUMS).removesuffix(".md5sums")
    lines = (line.partition("  ")[2] for line in _text(data).split("\n"))
    claim(collector, f"deb {package}", _in_both([line.removeprefix("./").lstrip("/") for line in lines]))


def _record(path: str, data: bytes, collector: Collector) -> None:
    folder, _, _ = path.rpartition("/")
    site = folder.rpartition("/")[0]
    owner = f"{folder}/METADATA"
    text = _text(data)
    names = _printable("\n".join(_PLAIN.findall(text)))
    if names:
        collector.listing.claim(owner, site, names)
    if text.startswith(("../", '"')) or "\n../" in text or '\n"' in text:
        others = [_inside(site, out or quoted.replace('""', '"')) for out, quoted in _ELSEWHERE.findall(text)]
        claim(collector, owner, [one for one in others if one is not None])


def apk(data: bytes, collector: Collector) -> None:
    """Alpine's database: `F:` names a folder, `R:` a file in it, for the package whose `P:` came before."""
    package, folder, names = "", "", list[str]()
    for raw in chain(io.BytesIO(data), (b"\n",)):
        line = raw.rstrip(b"\n").decode("utf-8", "surrogateescape")
        key, value = line[:2], line[2:]
        if key == "P:":
            package = value
        elif key == "F:":
            folder = value
        elif key == "R:" and len(names) < limits.PACKAGE_FILES:
            names.append(f"{folder}/{value}" if folder else value)
        elif not line:
            if package and names:
                claim(collector, f"apk {package}", names)
            package, folder, names = "", "", []


class _CondaFiles(msgspec.Struct, frozen=True):
    files: Any = None


def conda(path: str, data: bytes, collector: Collector) -> None:
    """A record of conda: `files`, relative to the environment."""
    if data.count(b",") > limits.PACKAGE_FILES:
        return
    try:
        files = msgspec.json.decode(data, type=_CondaFiles).files
    except (ValueError, RecursionError):
        return  # the cataloger of conda has said so
    root = path.rpartition("/")[0].rpartition("/")[0]
    if isinstance(files, list):
        found = (_inside(root, name) for name in files if name and isinstance(name, str))
        claim(collector, path, [name for name in found if name])


CATALOGERS = (
    Cataloger(
        "dpkg-files",
        (".list",),
        lambda path: path.endswith(".list") and path.startswith(_LISTS),
        _dpkg,
        limits.WHEEL_METADATA_BYTES,
    ),
    Cataloger(
        "dpkg-sums",
        (".md5sums",),
        lambda path: path.endswith(".md5sums") and path.startswith(_SUMS),
        _sums,
        limits.WHEEL_METADATA_BYTES,
    ),
    Cataloger(
        "python-files",
        ("RECORD",),
        lambda path: path.endswith(".dist-info/RECORD"),
        _record,
        limits.WHEEL_METADATA_BYTES,
    ),
)
