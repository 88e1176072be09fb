"""Trivy's vulnerability database in miniature, so that the real Trivy finds something without a network.

The database is a bbolt file (https://github.com/etcd-io/bbolt, `internal/common`): buckets in one leaf page, those
inside them inline.
"""

import json
import struct
from pathlib import Path
from typing import Any

Bucket = dict[str, Any]
"""Names to buckets, or to JSON values as text."""

_PAGE = 4096
_LEAF, _META, _FREELIST = 0x02, 0x04, 0x10
_PAGE_HEADER, _ELEMENT = 16, 16
_MASK = (1 << 64) - 1


def _header(number: int, flags: int, count: int, overflow: int = 0) -> bytes:
    return struct.pack("<QHHI", number, flags, count, overflow)


def _leaf(bucket: Bucket) -> bytes:
    """Elements, keys and values of a leaf page, after its header."""
    elements, data = b"", b""
    items = sorted((key.encode(), value) for key, value in bucket.items())
    for number, (key, value) in enumerate(items):
        inside = isinstance(value, dict)
        stored = struct.pack("<QQ", 0, 0) + _header(0, _LEAF, len(value)) + _leaf(value) if inside else value.encode()
        distance = (len(items) - number) * _ELEMENT + len(data)
        elements += struct.pack("<IIII", int(inside), distance, len(key), len(stored))
        data += key + stored
    return elements + data


def _checksum(data: bytes) -> int:
    """FNV-1a, 64 bit."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & _MASK
    return value


def _meta(number: int, pages: int) -> bytes:
    body = struct.pack("<IIII", 0xED0CDAED, 2, _PAGE, 0) + struct.pack("<QQQQQ", 3, 0, 2, pages, number)
    return _header(number, _META, 0) + body + struct.pack("<Q", _checksum(body))


def bolt(buckets: Bucket) -> bytes:
    """A bbolt file of `buckets`."""
    leaf = _leaf(buckets)
    pages = -(-(_PAGE_HEADER + len(leaf)) // _PAGE)
    parts = [
        _meta(0, 3 + pages),
        _meta(1, 3 + pages),
        _header(2, _FREELIST, 0),
        _header(3, _LEAF, len(buckets), pages - 1) + leaf,
    ]
    return b"".join(part.ljust(-(-len(part) // _PAGE) * _PAGE, b"\0") for part in parts)


def write(cache: Path, *, python: dict[str, Bucket], debian: dict[str, Bucket], severities: dict[str, str]) -> None:
    """Put a database into Trivy's cache folder.

    Args:
        cache: the folder.
        python: by package and id, what Trivy keeps of an advisory: `VulnerableVersions`, `PatchedVersions`.
        debian: by source package and id, `FixedVersion`, of Debian 12.
        severities: by id.
    """
    source = "pip::GitHub Security Advisory Pip"
    said = {"ID": "ghsa", "Name": "GitHub Security Advisory Pip", "URL": "https://github.com/advisories"}
    tracker = {"ID": "debian", "Name": "Debian Security Tracker", "URL": "https://security-tracker.debian.org"}

    def packages(found: dict[str, Bucket]) -> Bucket:
        return {name: {id_: json.dumps(one) for id_, one in ids.items()} for name, ids in found.items()}

    buckets: Bucket = {
        source: packages(python),
        "debian 12": packages(debian),
        "data-source": {source: json.dumps(said), "debian 12": json.dumps(tracker)},
        "vulnerability": {
            id_: json.dumps({"Title": f"About {id_}", "Severity": word}) for id_, word in severities.items()
        },
    }
    folder = cache / "db"
    folder.mkdir(parents=True)
    (folder / "trivy.db").write_bytes(bolt(buckets))
    never = "2999-01-01T00:00:00Z"
    (folder / "metadata.json").write_text(
        json.dumps({"Version": 2, "NextUpdate": never, "UpdatedAt": "2026-01-01T00:00:00Z", "DownloadedAt": never})
    )
