"""Which distributions of an image another one needs, from its `Requires-Dist`."""

import re
from collections.abc import Iterator
from functools import lru_cache

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from tidewaiter.inspection.layer_facts import FoundPackage

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_PYTHON = re.compile(r"/python(3\.\d{1,2})/")
# What an image does not tell: a marker that asks for one of these is taken to hold.
_UNKNOWN = re.compile(r"\b(platform_release|platform_version|python_full_version|implementation_version)\b")


@lru_cache(maxsize=8192)
def _parsed(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def environment(location: str, architecture: str) -> dict[str, str]:
    """Marker environment of a distribution at `location`: Linux, CPython, no extra."""
    known = {
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": _MACHINES.get(architecture, architecture),
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }
    python = _PYTHON.search(location)
    if python:
        known["python_version"] = python[1]
    return known


def _holds(marker: Marker, known: dict[str, str]) -> bool:
    """Whether the marker holds, or might."""
    text = str(marker)
    if _UNKNOWN.search(text) or ("python_version" in text and "python_version" not in known):
        return "extra ==" not in text
    try:
        return marker.evaluate(known)
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
        return True


def needed(package: FoundPackage, architecture: str) -> Iterator[str]:
    """Normalised names of what the package needs here, without its extras; a marker that cannot be decided counts."""
    known = environment(package.location, architecture)
    for text in package.depends:
        requirement = _parsed(text)
        if requirement is not None and (requirement.marker is None or _holds(requirement.marker, known)):
            yield canonicalize_name(requirement.name)
