"""npm packages: `node_modules/NAME/package.json` and `node_modules/@SCOPE/NAME/package.json`, wherever they lie.

A `package.json` elsewhere counts when it states name and version: an application, or what a Python distribution or
another package brings without npm (JupyterLab's extensions, copies that a bundler has packed in).
"""

import base64
import contextlib
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

_DIGEST_BYTES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}


def wants(path: str) -> bool:
    """The package file of an installed package, not of a folder inside one."""
    if not path.endswith(_FILE):
        return False
    parts = path.rsplit("/", 4)
    if len(parts) > 2 and parts[-3] == _FOLDER:
        return True
    return len(parts) > 3 and parts[-4] == _FOLDER and parts[-3].startswith("@")


def wants_elsewhere(path: str) -> bool:
    """Any other package file."""
    return (path.endswith(_FILE) or path == _FILE[1:]) and not wants(path)


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


def _hashes(integrity: object) -> tuple[str, ...]:
    """Of the archive: what npm before version 7 wrote into the installed file (Subresource Integrity)."""
    algorithm, dash, value = integrity.partition("-") if isinstance(integrity, str) else ("", "", "")
    if not dash or algorithm not in _DIGEST_BYTES or len(value) > 200:
        return ()
    try:
        digest = base64.b64decode(value, validate=True)
    except ValueError:
        return ()
    return (f"{algorithm}:{digest.hex()}",) if len(digest) == _DIGEST_BYTES[algorithm] else ()


def _package(path: str, data: bytes) -> FoundPackage | None:
    """The package that a package file states; None without name or version: npm ignores such folders too.

    Raises ValueError when the file is no JSON, or states what npm does not allow.
    """
    try:
        document = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {clean(str(error), 100)}") from error
    if not isinstance(document, dict) or "name" not in document or "version" not in document:
        return None  # a marker such as {"type": "module"}
    name, version = document["name"], document["version"]
    if not (
        isinstance(name, str) and _NAME.fullmatch(name) and isinstance(version, str) and _VERSION.fullmatch(version)
    ):
        raise ValueError("it does not state a name and version that npm allows")
    needs = document.get("dependencies")
    names = (
        [item for item in list(needs)[: limits.REQUIREMENTS] if _NAME.fullmatch(item)]
        if isinstance(needs, dict)
        else []
    )
    description = document.get("description")
    return FoundPackage(
        kind="npm",
        name=name,
        version=version.removeprefix("v"),
        location=path,
        licenses=_licenses(document),
        supplier=_author(document.get("author")),
        description=clean(description, 200) if isinstance(description, str) else "",
        depends=tuple(sorted(names)),
        hashes=_hashes(document.get("_integrity")),
    )


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record the package."""
    try:
        package = _package(path, data)
    except ValueError as error:
        collector.note(path, str(error))
        return
    if package is not None:
        collector.add_packages(path, (package,))


def read_elsewhere(path: str, data: bytes, collector: Collector) -> None:
    """Record the package; anything may be called `package.json`, so one that names none goes unmentioned."""
    with contextlib.suppress(ValueError):
        package = _package(path, data)
        if package is not None:
            collector.add_packages(path, (package,))


CATALOGER = Cataloger("npm", (_FILE[1:],), wants, read, names_packages=True)
ELSEWHERE = Cataloger("npm-elsewhere", (_FILE[1:],), wants_elsewhere, read_elsewhere)
