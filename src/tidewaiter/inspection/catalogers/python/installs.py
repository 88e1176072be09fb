"""How a Python distribution came to be where it is: installed, editable (its code lies elsewhere), or vendored."""

import re
from typing import Literal

import msgspec

from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.layer_facts import Collector

Install = Literal["", "editable", "vendored"]
_DIRECT_URL = ".dist-info/direct_url.json"
_POINTER = re.compile(r"__editable__\.(?P<stem>[^/]+)\.pth")
_VENDORED = re.compile(r"(?:^|/)(?:_vendor|_vendored|vendored)/")


def wants(path: str) -> bool:
    """What pip (PEP 610) or setuptools leave for an editable installation."""
    return path.endswith(_DIRECT_URL) or (path.endswith(".pth") and "/__editable__." in path)


def folder_of(path: str) -> str:
    """The metadata folder that a file taken by `wants` speaks about."""
    folder, _, name = path.rpartition("/")
    pointer = _POINTER.fullmatch(name)
    return f"{folder}/{pointer['stem']}.dist-info" if pointer else folder


def is_editable(data: bytes) -> bool:
    """Whether a `direct_url.json` says `dir_info.editable`."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    folder = document.get("dir_info") if isinstance(document, dict) else None
    return isinstance(folder, dict) and folder.get("editable") is True


def is_vendored(location: str) -> bool:
    """Whether metadata at `location` belongs to a copy inside another package."""
    return _VENDORED.search(location) is not None


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record that the distribution is editable."""
    if path.endswith(".pth") or is_editable(data):
        collector.keep(path)
        collector.editable.add(path)


CATALOGER = Cataloger("python-editable", wants, read, 64 * 1024)
