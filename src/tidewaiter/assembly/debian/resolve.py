"""Which packages a recipe needs: the closure of its packages under Depends and Pre-Depends.

Per name the highest version of all suites is the candidate, as apt takes it. An alternative that is dropped is
passed over; a dependency whose alternatives are all dropped is left out. There is no backtracking: the recipes'
packages have one sensible answer, and anything else is an error that says what to name in the recipe.
"""

import re
from collections.abc import Iterable

import msgspec

from tidewaiter.assembly.debian import archive
from tidewaiter.assembly.debian.archive import Package
from tidewaiter.assembly.debian.control import Relation
from tidewaiter.assembly.recipe import SYSTEM, Recipe, Suite
from tidewaiter.core.errors import InputError
from tidewaiter.sbom.versions import dpkg

# An index has 64,000 paragraphs, of which a base needs a few dozen: the rest is only glanced at.
_GLANCE = re.compile(rb"^(Package|Version|Architecture|Provides): *([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)


class Chosen(msgspec.Struct, frozen=True):
    """A package and the group whose layer it goes to."""

    package: Package
    group: str


class Universe:
    """All candidates. Paragraphs are understood only when a package is asked for."""

    def __init__(self, architecture: str) -> None:
        self._architecture = architecture
        self._best: dict[str, tuple[dpkg.Key, Suite, bytes]] = {}
        self._providers: dict[str, set[str]] = {}

    def add(self, suite: Suite, paragraphs: Iterable[bytes]) -> None:
        """Take in the index of one suite; raises `InputError` when a paragraph is malformed."""
        for paragraph in paragraphs:
            fields = {match[1]: match[2].decode(errors="replace") for match in _GLANCE.finditer(paragraph)}
            if fields.get(b"Architecture") not in {self._architecture, "all"}:
                continue
            name = fields.get(b"Package", "")
            version = dpkg.key(fields.get(b"Version", ""))
            known = self._best.get(name)
            if known is not None and known[0] >= version:
                continue
            self._best[name] = (version, suite, paragraph)
            for item in fields.get(b"Provides", "").split(","):
                provided = item.split("(")[0].strip().split(":")[0]
                if provided:
                    self._providers.setdefault(provided, set()).add(name)

    def package(self, name: str) -> Package | None:
        """The candidate of that name."""
        known = self._best.get(name)
        return None if known is None else archive.package(known[2], known[1])

    def satisfying(self, relation: Relation) -> list[Package]:
        """Candidates that satisfy `relation`: the package itself first, then providers by name."""
        own = self.package(relation.name)
        found = [own] if own is not None and relation.accepts(own.version) else []
        for name in sorted(self._providers.get(relation.name, ())):
            candidate = self.package(name)
            if candidate is not None and candidate.name != relation.name and provides(candidate, relation):
                found.append(candidate)
        return found


def provides(package: Package, relation: Relation) -> bool:
    """Whether `package` satisfies `relation` by itself or by what it provides (Policy 7.5)."""
    if package.name == relation.name:
        return relation.accepts(package.version)
    for provided in package.provides:
        if provided.name == relation.name:
            # An unversioned Provides never satisfies a versioned relation.
            if relation.operator is None:
                return True
            if provided.version and relation.accepts(provided.version):
                return True
    return False


def closure(recipe: Recipe, universe: Universe, system: tuple[str, ...] = ()) -> tuple[Chosen, ...]:
    """Packages of the recipe, and of the project's `system`, with all that they need, sorted by name.

    Groups are gone through in order, so that what a project adds changes nothing of the recipe's own.

    Raises:
        InputError: a package does not exist, a dependency cannot be met, or two chosen packages conflict.
    """
    chosen: dict[str, Chosen] = {}
    for group in recipe.layers(system):
        for name in group.packages:
            package = universe.package(name)
            if package is None:
                raise InputError(
                    f"recipe {recipe.name}: the package {name} is in none of its suites",
                    next_step=f"Correct the name in {_place(group.name)}, or add the suite that has it.",
                    code="unknown_package",
                )
            _choose(package, group.name, recipe, universe, chosen)
    _refuse_conflicts(chosen, recipe)
    return tuple(chosen[name] for name in sorted(chosen))


def _place(group: str) -> str:
    return "[system] packages" if group == SYSTEM else "the recipe"


def _choose(start: Package, group: str, recipe: Recipe, universe: Universe, chosen: dict[str, Chosen]) -> None:
    waiting = [start]
    while waiting:
        package = waiting.pop(0)
        if package.name in chosen:
            continue
        chosen[package.name] = Chosen(package, group)
        for alternatives in package.depends:
            found = _meet(package, group, alternatives, recipe, universe, chosen)
            if found is not None:
                waiting.append(found)


def _dropped(name: str, group: str, recipe: Recipe) -> bool:
    """Whether a dependency is left out.

    The libraries that a recipe drops are those that its own packages can do without; a project's may need them.
    """
    return recipe.drop(name) is not None and not (group == SYSTEM and name.startswith("lib"))


def _meet(  # noqa: PLR0917  # all of them are the same in every call but two
    package: Package,
    group: str,
    alternatives: tuple[Relation, ...],
    recipe: Recipe,
    universe: Universe,
    chosen: dict[str, Chosen],
) -> Package | None:
    """The package to add for one dependency; None when it is met already or dropped."""
    open_to_us = [relation for relation in alternatives if not _dropped(relation.name, group, recipe)]
    if not open_to_us:
        return None
    if any(provides(other.package, relation) for relation in open_to_us for other in chosen.values()):
        return None
    for relation in open_to_us:
        for candidate in universe.satisfying(relation):
            if not _dropped(candidate.name, group, recipe):
                return candidate
    raise InputError(
        f"recipe {recipe.name}: {package.name} {package.version} needs "
        f"{' | '.join(str(relation) for relation in alternatives)}, which no suite offers",
        next_step="Add the suite that has it, or drop the dependency in the recipe with the reason.",
        code="unmet_dependency",
    )


def _refuse_conflicts(chosen: dict[str, Chosen], recipe: Recipe) -> None:
    for one in chosen.values():
        for relation in one.package.conflicts:
            for other in chosen.values():
                if other is not one and provides(other.package, relation):
                    raise InputError(
                        f"recipe {recipe.name}: {one.package.name} conflicts with {other.package.name} "
                        f"{other.package.version} ({relation})",
                        next_step="Leave one of the two out of the recipe.",
                        code="conflict",
                    )
