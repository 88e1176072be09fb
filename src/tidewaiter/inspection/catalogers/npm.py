"""npm packages: `node_modules/NAME/package.json` and `node_modules/@SCOPE/NAME/package.json`, wherever they lie."""

import re
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.sbom.licenses import expression

_FILE = "/package.json"
_FOLDER = "node_modules"
# What the registry has ever accepted: old names may hold capitals.
_NAME = re.compile(r"(?:@[A-Za-z0-9~][A-Za-z0-9._~-]{0,99}/)?[A-Za-z0-9_~][A-Za-z0-9._~-]{0,199}")
_VERSION = re.compile(r"v?[0-9][0-9A-Za-z.+\-]{0,199}")


def wants(path: str) -> bool:
    """The package file of an installed package, not of a folder inside one."""
    if not path.endswith(_FILE):
        return False
    parts = path.rsplit("/", 4)
    if len(parts) > 2 and parts[-3] == _FOLDER:
        return True
    return len(parts) > 3 and parts[-4] == _FOLDER and parts[-3].startswith("@")


def _licenses(document: dict[str, Any]) -> tuple[str, ...]:
    """Licences of `license` (a text, or an object of old packages) or `licenses` (a list of such objects)."""
    given = document.get("license") or document.get("licenses")
    items = given if isinstance(given, list) else [given]
    texts = set()
    for item in items[:20]:
        text = item.get("type") if isinstance(item, dict) else item
        if isinstance(text, str) and text.strip():
            stated = clean(text, limits.LICENSE_CHARACTERS)
            texts.add(expression(stated) or stated)
    return tuple(sorted(texts))


def _author(given: object) -> str:
    name = given.get("name") if isinstance(given, dict) else given
    return clean(name, 200) if isinstance(name, str) else ""


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record the package; a file without name or version names none (npm ignores such folders too)."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        collector.note(path, f"it is no JSON: {clean(str(error), 100)}")
        return
    if not isinstance(document, dict) or "name" not in document or "version" not in document:
        return  # a marker such as {"type": "module"}
    name, version = document["name"], document["version"]
    if not (
        isinstance(name, str) and _NAME.fullmatch(name) and isinstance(version, str) and _VERSION.fullmatch(version)
    ):
        collector.note(path, "it does not state a name and version that npm allows")
        return
    needs = document.get("dependencies")
    names = (
        [item for item in list(needs)[: limits.REQUIREMENTS] if _NAME.fullmatch(item)]
        if isinstance(needs, dict)
        else []
    )
    description = document.get("description")
    package = FoundPackage(
        kind="npm",
        name=name,
        version=version.removeprefix("v"),
        location=path,
        licenses=_licenses(document),
        supplier=_author(document.get("author")),
        description=clean(description, 200) if isinstance(description, str) else "",
        depends=tuple(sorted(names)),
    )
    collector.add_packages(path, (package,))


CATALOGER = Cataloger("npm", wants, read, names_packages=True)
