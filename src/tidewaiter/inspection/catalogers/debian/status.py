"""dpkg's database: `/var/lib/dpkg/status`, and `status.d/NAME` of images that are made without dpkg."""

import re

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.catalogers.text import clean, paragraphs
from tidewaiter.inspection.layer_facts import Collector, FoundPackage

_STATUS = "var/lib/dpkg/status"
_STATUS_D = "var/lib/dpkg/status.d/"
# Debian policy 5.6.1 and 5.6.12, with room for what dpkg itself tolerates.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.\-]{0,199}")
_VERSION = re.compile(r"[A-Za-z0-9.+\-:~]{1,200}")
_SOURCE = re.compile(r"(\S+)(?:\s+\(([^)]*)\))?")
_DEPENDENCY = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9+.\-]*)")


def wants(path: str) -> bool:
    """The status file, or a file of `status.d` that is no checksum list."""
    return path.startswith(_STATUS) and (
        path == _STATUS or (path.startswith(_STATUS_D) and not path.endswith(".md5sums"))
    )


def dependency_names(text: str) -> tuple[str, ...]:
    """Package names in a `Depends` or `Provides` field, alternatives apart, sorted."""
    names = set()
    for item in re.split(r"[,|]", text)[: limits.REQUIREMENTS]:
        match = _DEPENDENCY.match(item)
        if match:
            names.add(match[1])
    return tuple(sorted(names))


def _package(path: str, fields: dict[str, str]) -> FoundPackage | None:
    """The package of one paragraph; None when name or version are not what Debian allows."""
    name, version = fields.get("package", ""), fields.get("version", "")
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        return None
    source = _SOURCE.fullmatch(fields.get("source", "").strip())
    source_name = source[1] if source and _NAME.fullmatch(source[1]) else name
    source_version = source[2] if source and source[2] and _VERSION.fullmatch(source[2]) else version
    return FoundPackage(
        kind="deb",
        name=name,
        version=version,
        location=path,
        architecture=clean(fields.get("architecture", ""), 40),
        source_name="" if source_name == name else source_name,
        source_version="" if source_version == version else source_version,
        supplier=clean(fields.get("maintainer", ""), 200),
        description=clean(fields.get("description", "").partition("\n")[0], 200),
        depends=dependency_names(f"{fields.get('pre-depends', '')},{fields.get('depends', '')}"),
        provides=dependency_names(fields.get("provides", "")),
    )


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record every package of the file that is unpacked in the image."""
    packages = []
    for paragraph in paragraphs(data, spaces_separate=True):
        fields = dict(paragraph)
        # "want flag status"; without the field (status.d) the package is there.
        status = fields.get("status", "install ok installed").split()
        if status and status[-1] in {"not-installed", "config-files"}:
            continue
        package = _package(path, fields)
        if package is None:
            collector.note(path, f"a paragraph names no package and version: {clean(fields.get('package', ''), 60)!r}")
        else:
            packages.append(package)
    collector.add_packages(path, tuple(packages))


CATALOGER = Cataloger("dpkg", ("status", _STATUS_D), wants, read, limits.DPKG_STATUS_BYTES, names_packages=True)
