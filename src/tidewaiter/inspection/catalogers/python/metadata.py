"""`NAME-VERSION.dist-info/METADATA` of wheels, and `PKG-INFO` of the egg-info that older installers leave."""

import re

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.catalogers.python.licenses import licenses
from tidewaiter.inspection.catalogers.text import clean, paragraphs
from tidewaiter.inspection.layer_facts import Collector, FoundPackage

# core-metadata specification, Name
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9.+!_\-]{1,200}")
# Folder or file name: the version may hold no `-` in it (binary distribution format), an egg's Python tag follows.
_FOLDER = re.compile(r"(?P<name>[^/]+?)-(?P<version>[^/-]+)(?:-py[0-9.]+)?\.(?:dist|egg)-info")


def wants(path: str) -> bool:
    """Metadata of a distribution, wherever it lies: vendored copies are as vulnerable as installed ones."""
    return path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO", ".egg-info", "/EGG-INFO/PKG-INFO"))


def _named_by_path(path: str) -> tuple[str, str]:
    for part in path.split("/")[-2:]:
        match = _FOLDER.fullmatch(part)
        if match:
            return match["name"], match["version"]
    return "", ""


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record the distribution, under the name of its folder where the metadata does not say."""
    fields: dict[str, list[str]] = {}
    for name, value in next(paragraphs(data, spaces_separate=False), []):
        fields.setdefault(name, []).append(value)

    def first(key: str) -> str:
        return fields.get(key, [""])[0].strip()

    name, version = first("name"), first("version")
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        collector.note(path, "it does not state name and version")
        name, version = _named_by_path(path)
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            return
    supplier = first("author") or first("author-email") or first("maintainer") or first("maintainer-email")
    requirements = fields.get("requires-dist", [])
    if len(requirements) > limits.REQUIREMENTS:
        collector.note(path, f"only the first {limits.REQUIREMENTS} of {len(requirements)} requirements were read")
    package = FoundPackage(
        kind="python",
        name=name,
        version=version,
        location=path,
        licenses=licenses(
            fields.get("license-expression", []), fields.get("classifier", []), fields.get("license", [])
        ),
        supplier=clean(supplier, 200),
        description=clean(first("summary"), 200),
        depends=tuple(clean(text, 500) for text in requirements[: limits.REQUIREMENTS]),
    )
    collector.add_packages(path, (package,))


CATALOGER = Cataloger("python", ("METADATA", "PKG-INFO", ".egg-info"), wants, read, names_packages=True)
