"""Which distributions of an image another one needs, from its `Requires-Dist`.

Nearly all of these lines have one of a few forms, which are read here; the others are for `packaging`, which is only
loaded for them.
"""

import operator
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tidewaiter.inspection.layer_facts import FoundPackage

if TYPE_CHECKING:
    from packaging.markers import Marker
    from packaging.requirements import Requirement

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_SEPARATORS = re.compile(r"[-_.]+")
_PYTHON = re.compile(r"/python(3\.\d{1,2})/")
# What an image does not tell: a marker that asks for one of these is taken to hold.
_UNKNOWN = re.compile(r"\b(platform_release|platform_version|python_full_version|implementation_version)\b")


# What is valid (PEP 508, PEP 440) whatever else may be.
_VERSIONS = r"(?:[<>]=?\s?\d+(?:\.\d+)*|[=!]=\s?\d+(?:\.\d+)*(?:\.\*)?)"
_LIST = rf"{_VERSIONS}(?:,\s?{_VERSIONS})*"
_SIMPLE = re.compile(
    rf"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:\[[a-z0-9]+(?:,[a-z0-9]+)*\])?\s?(?:{_LIST}|\({_LIST}\))?\s?"
    r"(?:;\s?([^;]+))?"
)
_EXTRA = re.compile(r"extra == ([\"'])[A-Za-z0-9_.-]+\1\s?")
_PYTHON_VERSION = re.compile(r"python_version ?([<>]=?|[=!]=) ?([\"'])(\d{1,3})\.(\d{1,3})\2\s?")
# The values have no digits, else they may be versions, which compare in a way of their own.
_SYSTEM = re.compile(r"(sys_platform|platform_system|os_name) ?([=!]=) ?([\"'])([A-Za-z]{1,20}|win32)\3\s?")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def _simple_holds(marker: str, known: dict[str, str]) -> bool | None:
    """Whether a marker of comparisons joined by `and` holds; None when it is not as simple as that."""
    holds = True
    for part in marker.split(" and "):
        python, system = _PYTHON_VERSION.fullmatch(part), _SYSTEM.fullmatch(part)
        if _EXTRA.fullmatch(part):
            holds = False
        elif python and "python_version" in known:
            own = tuple(map(int, known["python_version"].split(".")))
            holds &= _COMPARISONS[python[1]](own, (int(python[3]), int(python[4])))
        elif system:
            holds &= _COMPARISONS[system[2]](known[system[1]], system[4])
        else:
            return None
    return holds


@lru_cache(maxsize=8192)
def _parsed(text: str) -> "Requirement | None":
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def normalised(name: str) -> str:
    """The name as indexes compare it (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower()


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


def _holds(marker: "Marker", known: dict[str, str]) -> bool:
    """Whether the marker holds, or might."""
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
    from packaging.version import InvalidVersion

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
        simple = _SIMPLE.fullmatch(text)
        holds = simple and (not simple[2] or _simple_holds(simple[2], known))
        if simple and holds is not None:
            if holds:
                yield normalised(simple[1])
            continue
        requirement = _parsed(text)
        if requirement is not None and (requirement.marker is None or _holds(requirement.marker, known)):
            yield normalised(requirement.name)
