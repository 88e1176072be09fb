"""Alpine's database of installed packages: `/lib/apk/db/installed` (apk-tools, version 2 of the format).

A paragraph is a package; a line is one letter, a colon and a value. Lines about files (`F`, `R`, `Z`, …) are passed
over.
"""

import base64
import re

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger, ownership
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.sbom.licenses import expression

# The second is where images of Wolfi and of newer Alpine releases keep it.
_DATABASES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,199}")
_VERSION = re.compile(r"[A-Za-z0-9_.+~\-]{1,200}")
_WORD = re.compile(r"!?([^\s<>=~!]+)")
_KEPT = frozenset("CPVAoLmTDp")


def wants(path: str) -> bool:
    """The database."""
    return path in _DATABASES


def _words(text: str) -> tuple[str, ...]:
    """Names in a list of dependencies or of what is provided (`so:libc.musl-x86_64.so.1`), without their versions."""
    found = {
        match[1] for word in text.split()[: limits.REQUIREMENTS] if (match := _WORD.match(word)) and word[0] != "!"
    }
    return tuple(sorted(clean(name, 200) for name in found))


def _hashes(checksum: str) -> tuple[str, ...]:
    """`C:` is `Q1` and the base64 of the SHA-1 of the package's control part."""
    if not checksum.startswith("Q1"):
        return ()
    try:
        digest = base64.b64decode(checksum[2:], validate=True)
    except ValueError:
        return ()
    return (f"sha1:{digest.hex()}",) if len(digest) == 20 else ()


def _package(path: str, fields: dict[str, str]) -> FoundPackage | None:
    name, version = fields.get("P", ""), fields.get("V", "")
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        return None
    origin = fields.get("o", "").strip()
    license_ = clean(fields.get("L", ""), limits.LICENSE_CHARACTERS)
    return FoundPackage(
        kind="apk",
        name=name,
        version=version,
        location=path,
        architecture=clean(fields.get("A", ""), 40),
        source_name=origin if origin != name and _NAME.fullmatch(origin) else "",
        licenses=(expression(license_) or license_,) if license_ else (),
        supplier=clean(fields.get("m", ""), 200),
        description=clean(fields.get("T", ""), 200),
        depends=_words(fields.get("D", "")),
        provides=_words(fields.get("p", "")),
        hashes=_hashes(fields.get("C", "").strip()),
    )


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record every package of the database."""
    packages = []
    for paragraph in data.split(b"\n\n"):
        fields: dict[str, str] = {}
        for line in paragraph.split(b"\n"):
            if line[1:2] == b":" and chr(line[0]) in _KEPT:
                fields[chr(line[0])] = line[2:].decode("utf-8", "replace")
        if not fields:
            continue
        package = _package(path, fields)
        if package is None:
            collector.note(path, f"a paragraph names no package and version: {clean(fields.get('P', ''), 60)!r}")
        else:
            packages.append(package)
    collector.add_packages(path, tuple(packages))
    ownership.apk(data, collector)


CATALOGER = Cataloger("apk", ("installed",), wants, read, limits.DPKG_STATUS_BYTES, names_packages=True)
