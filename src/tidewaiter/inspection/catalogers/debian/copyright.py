"""`/usr/share/doc/NAME/copyright`: licences of a Debian package (DEP-5, copyright-format 1.0).

Short names are turned into SPDX identifiers where the meaning is certain. Files that are not machine-readable
give the names of the licences that they point to (`common-licenses/GPL-2`), which are no SPDX expressions
because the file may mean "or later".
"""

import re

from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.catalogers.text import clean, paragraphs
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.sbom.licenses import expression

_PREFIX = "usr/share/doc/"
_SUFFIX = "/copyright"
_COMMON = re.compile(rb"/usr/share/common-licenses/([A-Za-z0-9][A-Za-z0-9.+\-]{0,40})")

# https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-short-name
_SHORT_NAMES = {
    "expat": "MIT",
    "artistic-2.0": "Artistic-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later",
    "zope-1.1": "ZPL-1.1",
    "zope-2.0": "ZPL-2.0",
    "zope-2.1": "ZPL-2.1",
}
_GNU = re.compile(r"(a?gpl|lgpl|gfdl)-(\d(?:\.\d)?)(\+?)", re.IGNORECASE)


def _identifier(short_name: str) -> str | None:
    """SPDX expression of one DEP-5 short name, when there is exactly one meaning."""
    known = _SHORT_NAMES.get(short_name.lower())
    if known:
        return known
    gnu = _GNU.fullmatch(short_name)
    if gnu:
        version = gnu[2] if "." in gnu[2] else gnu[2] + ".0"
        return expression(f"{gnu[1].upper()}-{version}-{'or-later' if gnu[3] else 'only'}")
    if short_name.lower() in {"and", "or", "with"}:
        return None
    return expression(short_name)


def spdx(text: str) -> str | None:
    """SPDX expression of a DEP-5 licence synopsis such as `GPL-2+ or Expat, and BSD-3-clause`; None if uncertain."""
    conjuncts = []
    for part in re.split(r",\s+and\s+", text):
        words = part.split()
        names, operators = words[0::2], words[1::2]
        identifiers = [_identifier(name) for name in names]
        if len(names) != len(operators) + 1 or not set(map(str.lower, operators)) <= {"and", "or"}:
            return None
        if any(identifier is None for identifier in identifiers):
            return None
        atoms = [f"({identifier})" if " " in (identifier or "") else identifier or "" for identifier in identifiers]
        joined = atoms[0]
        for operator, atom in zip(operators, atoms[1:], strict=True):
            joined += f" {operator.upper()} {atom}"
        conjuncts.append(joined)
    if len(conjuncts) > 1:
        conjuncts = [f"({part})" for part in conjuncts]
    return expression(" AND ".join(conjuncts))


def licenses(data: bytes) -> tuple[str, ...]:
    """Licences of a copyright file, sorted: SPDX expressions where certain, else as written."""
    stanzas = iter(paragraphs(data, spaces_separate=True))
    head = dict(next(stanzas, []))
    if "copyright-format" not in head.get("format", ""):
        names = {f"common-licenses/{match.decode().rstrip('.')}" for match in _COMMON.findall(data)}
        return tuple(sorted(names))
    found: set[str] = set()
    for fields in (head, *map(dict, stanzas)):
        synopsis = clean(fields.get("license", "").partition("\n")[0], 200)
        if synopsis:
            found.add(spdx(synopsis) or synopsis)
    return tuple(sorted(found))


def wants(path: str) -> bool:
    """A package's copyright file."""
    return path.endswith(_SUFFIX) and path.startswith(_PREFIX) and path.count("/") == 4


def path_of(package: str) -> str:
    """Where the copyright file of a package lies."""
    return f"{_PREFIX}{package}{_SUFFIX}"


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record the licences that the file names."""
    found = licenses(data)
    collector.keep(path, *found)
    collector.copyrights[path] = found


CATALOGER = Cataloger("debian-copyright", (_SUFFIX[1:],), wants, read)
