"""Private keys and tokens that were left in an image: which rule, which file, which line, never the secret.

Few rules, each for a text that means one thing only. Text files up to 1 MB are read, except what packages bring: below
Python's package folders, `node_modules`, `usr/share`, `usr/include` and `usr/lib` there are test keys and examples
by the hundred.
"""

import re
from typing import IO

from tidewaiter.core import limits
from tidewaiter.inspection.layer_facts import Collector, Exposure
from tidewaiter.oci.layer import Entry

_OF_PACKAGES = (
    *("usr/share/", "usr/include/", "usr/lib/", "usr/lib64/", "usr/bin/", "usr/sbin/", "lib/", "bin/", "sbin/"),
    *("usr/local/share/", "usr/local/include/", "var/lib/dpkg/", "var/lib/apt/", "var/cache/"),
)
_PACKED = (".gz", ".xz", ".zst", ".bz2", ".zip", ".whl", ".png", ".jpg", ".npy", ".npz", ".h5", ".pyc", ".a", ".mo")
_HEAD = 1024
_SHORTEST = 20
"""Bytes of the shortest text that a rule knows."""
RULES: dict[str, re.Pattern[bytes]] = {
    "private-key": re.compile(
        rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,2}PRIVATE KEY(?: BLOCK)?-----\s{1,4}"
        rb"(?:[A-Za-z-]{1,30}: [^\n]{1,200}\n\s{0,4}){0,4}"
        rb"[A-Za-z0-9+/=\s]{60}"
    ),
    "aws-access-key": re.compile(rb"(?<![A-Za-z0-9])(?:AKIA|ASIA)(?!IOSFODNN7EXAMPLE)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    "github-token": re.compile(
        rb"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{82})(?![A-Za-z0-9_])"
    ),
    "gitlab-token": re.compile(rb"(?<![A-Za-z0-9_-])glpat-[A-Za-z0-9_-]{20}(?![A-Za-z0-9_-])"),
    "slack-token": re.compile(rb"(?<![A-Za-z0-9])xox[abprs]-[0-9]{8,14}-[0-9A-Za-z-]{10,80}"),
    "hugging-face-token": re.compile(rb"(?<![A-Za-z0-9_])hf_[A-Za-z]{34}(?![A-Za-z0-9_])"),
    "google-api-key": re.compile(rb"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    "pypi-token": re.compile(rb"(?<![A-Za-z0-9_-])pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,200}"),
    "npm-token": re.compile(rb"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])"),
}
_MARKS = (b"PRIVATE KEY", b"AKIA", b"ASIA", b"gh", b"glpat-", b"xox", b"hf_", b"AIza", b"pypi-", b"npm_")


def _in_package(path: str) -> bool:
    # Asked of every file; five searches for a text are faster than one for a pattern, or than `any`.
    return (
        "/site-packages/" in path
        or "/dist-packages/" in path
        or "/node_modules/" in path
        or "/testdata/" in path
        or "/lib/python3" in path
    )


def wants(path: str, entry: Entry) -> bool:
    """A file of a size that is read, outside of what packages bring."""
    return (
        _SHORTEST <= entry.size <= limits.SECRET_FILE_BYTES
        and not path.startswith(_OF_PACKAGES)
        and not path.endswith(_PACKED)
        and not _in_package(path)
    )


def found(data: bytes) -> list[tuple[str, int]]:
    """(rule, line) of the first match of each rule, sorted."""
    for mark in _MARKS:
        if mark in data:
            break
    else:
        return []
    hits = []
    for rule, pattern in RULES.items():
        match = pattern.search(data)
        if match:
            hits.append((rule, data.count(b"\n", 0, match.start()) + 1))
    return sorted(hits)


def read(path: str, entry: Entry, head: bytes, file: IO[bytes], collector: Collector) -> None:
    """Record which rules a text file matches; `head` was read from `file` before."""
    head += file.read(min(_HEAD, entry.size) - len(head))
    if b"\0" in head:
        return
    for rule, line in found(head + file.read(entry.size - len(head))):
        collector.add_exposure(Exposure(path, "secret", rule, line))
