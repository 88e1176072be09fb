"""Ruby gems: `specifications/NAME-VERSION.gemspec`, which RubyGems writes for what it installs and what Ruby brings.

The files are Ruby code, written by rule: one attribute to a line. They are never run.
"""

import re

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.sbom.licenses import expression

_FOLDER = "/specifications/"
_ATTRIBUTE = re.compile(r"\s*s\.(?P<key>name|version|summary|licenses?|authors)\s*=\s*(?P<value>.+)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DEPENDENCY = re.compile(r"\s*s\.add_(?:runtime_)?dependency\(%q<([^<>]{1,200})>")
_VALUE_CHARACTERS = 2000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._\-]{0,199}")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.\-]{0,199}")


def wants(path: str) -> bool:
    """The specification of an installed gem."""
    return path.endswith(".gemspec") and _FOLDER in path


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record the gem."""
    fields: dict[str, list[str]] = {}
    needs = set[str]()
    for line in data.decode("utf-8", "replace").split("\n"):
        attribute, dependency = _ATTRIBUTE.match(line), _DEPENDENCY.match(line)
        if attribute and (key := attribute["key"].removesuffix("s")) not in fields:
            fields[key] = _TEXT.findall(attribute["value"][:_VALUE_CHARACTERS])
        elif dependency and len(needs) < limits.REQUIREMENTS:
            needs.add(clean(dependency[1], 200))
    name, version = (next(iter(fields.get(key, ())), "") for key in ("name", "version"))
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        collector.note(path, "it does not state a name and version that RubyGems allows")
        return
    licenses = {clean(text, limits.LICENSE_CHARACTERS) for text in fields.get("license", [])[:20]} - {""}
    package = FoundPackage(
        kind="gem",
        name=name,
        version=version,
        location=path,
        licenses=tuple(sorted(expression(text) or text for text in licenses)),
        supplier=clean(", ".join(fields.get("author", [])[:20]), 200),
        description=clean(next(iter(fields.get("summary", ())), ""), 200),
        depends=tuple(sorted(needs)),
    )
    collector.add_packages(path, (package,))


CATALOGER = Cataloger("gems", (".gemspec",), wants, read, 1 * limits.MIB, names_packages=True)
