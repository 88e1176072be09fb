"""`conda-meta/NAME-VERSION-BUILD.json`: packages that conda put into an environment."""

import re
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger, ownership
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.sbom.licenses import expression

_FOLDER = "conda-meta"
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.\-]{0,199}")
_HEX = re.compile(r"[0-9a-f]+")
_VERSION = re.compile(r"[A-Za-z0-9_.+!]{1,200}")
RECORD_BYTES = 32 * limits.MIB
"""A record lists every file of its package."""


class _Record(msgspec.Struct, frozen=True):
    """What matters of a record; the list of files is passed over without being built."""

    name: str
    version: str
    license: Any = None
    depends: Any = None
    subdir: Any = None
    channel: Any = None
    sha256: Any = None
    md5: Any = None


def wants(path: str) -> bool:
    """A record of an installed package."""
    return path.endswith(".json") and path.rsplit("/", 2)[-2:-1] == [_FOLDER]


def _hashes(record: _Record) -> tuple[str, ...]:
    """Of the package's archive."""
    return tuple(
        f"{algorithm}:{value}"
        for algorithm, length, value in (("md5", 32, record.md5), ("sha256", 64, record.sha256))
        if isinstance(value, str) and len(value) == length and _HEX.fullmatch(value)
    )


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record the package."""
    try:
        record = msgspec.json.decode(data, type=_Record)
    except (ValueError, RecursionError) as error:
        collector.note(path, f"it is no record of a conda package: {clean(str(error), 100)}")
        return
    if not _NAME.fullmatch(record.name) or not _VERSION.fullmatch(record.version):
        collector.note(path, "it does not state a name and version that conda allows")
        return
    license_ = clean(record.license, limits.LICENSE_CHARACTERS) if isinstance(record.license, str) else ""
    needs = [item for item in record.depends if isinstance(item, str)] if isinstance(record.depends, list) else []
    package = FoundPackage(
        kind="conda",
        name=record.name,
        version=record.version,
        location=path,
        architecture=clean(record.subdir, 40) if isinstance(record.subdir, str) else "",
        licenses=(expression(license_) or license_,) if license_ else (),
        supplier=clean(record.channel, 200) if isinstance(record.channel, str) else "",
        depends=tuple(sorted({clean(item.partition(" ")[0], 200) for item in needs[: limits.REQUIREMENTS]})),
        hashes=_hashes(record),
    )
    collector.add_packages(path, (package,))
    ownership.conda(path, data, collector)


CATALOGER = Cataloger("conda", (".json",), wants, read, RECORD_BYTES, names_packages=True)
