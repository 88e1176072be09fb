"""How a Python distribution came to be where it is: from an archive, editable (code elsewhere), or vendored."""

import re
from typing import Any, Literal

import msgspec

from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.layer_facts import Collector

Install = Literal["", "editable", "vendored"]
DIRECT_URL = "direct_url.json"
_POINTER = re.compile(r"__editable__\.(?P<stem>[^/]+)\.pth")
_HEX = re.compile(r"[0-9a-f]+")
_HEX_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}
_VENDORED = re.compile(r"(?:^|/)(?:_vendor|_vendored|vendored)/")


def wants(path: str) -> bool:
    """What pip (PEP 610) or setuptools leave for an editable installation."""
    return path.endswith(f".dist-info/{DIRECT_URL}") or (path.endswith(".pth") and "/__editable__." in path)


def folder_of(path: str) -> str:
    """The metadata folder that a file taken by `wants` speaks about."""
    folder, _, name = path.rpartition("/")
    pointer = _POINTER.fullmatch(name)
    return f"{folder}/{pointer['stem']}.dist-info" if pointer else folder


def _part(data: bytes, name: str) -> dict[str, Any]:
    """The object `name` of a `direct_url.json`; empty when there is none."""
    try:
        document = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return {}
    part = document.get(name) if isinstance(document, dict) else None
    return part if isinstance(part, dict) else {}


def is_editable(data: bytes) -> bool:
    """Whether a `direct_url.json` says `dir_info.editable`."""
    return _part(data, "dir_info").get("editable") is True


def archive_hashes(data: bytes) -> tuple[str, ...]:
    """`ALGORITHM:HEX` of the archive that a `direct_url.json` names (`archive_info`, PEP 610), sorted."""
    archive = _part(data, "archive_info")
    stated = archive.get("hashes")
    found = dict(stated) if isinstance(stated, dict) else {}
    old = archive.get("hash")
    if not found and isinstance(old, str) and "=" in old:
        found = dict([old.split("=", 1)])
    return tuple(
        sorted(
            f"{algorithm}:{value}"
            for algorithm, value in found.items()
            if isinstance(value, str) and len(value) == _HEX_DIGITS.get(algorithm) and _HEX.fullmatch(value)
        )
    )


def is_vendored(location: str) -> bool:
    """Whether metadata at `location` belongs to a copy inside another package."""
    return _VENDORED.search(location) is not None


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record that the distribution is editable, or the hashes of its archive."""
    if path.endswith(".pth") or is_editable(data):
        collector.keep(path)
        collector.editable.add(path)
    elif hashes := archive_hashes(data):
        collector.keep(path, *hashes)
        collector.archives[path] = hashes


CATALOGER = Cataloger("python-editable", (DIRECT_URL, ".pth"), wants, read, 64 * 1024)
