"""Recipes: what a Debian base is made of, as data. The ones in `recipes/` ship with the product."""

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from tidewaiter.assembly import remembered
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import layer
from tidewaiter.oci.digest import Digest

_NAME = r"[a-z0-9][a-z0-9.-]*"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*=.*"
_PACKAGE = r"[a-z0-9][a-z0-9+.-]+"
_SNAPSHOT = r"\d{8}T\d{6}Z|https?://[^\s?#]+"
_EXTENDED = 4
"""Recipes that may extend one another in a row."""

SYSTEM = "project-packages"
"""Group of the packages that a project adds; no recipe may use the name."""

Script = Literal["preinst", "postinst", "triggers"]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Suite(_Table, frozen=True):
    """A suite of an archive, and the keys (names of `keys.toml`) of which one must have signed it."""

    name: str
    archive: str
    keys: tuple[str, ...]
    component: str = "main"


class Link(_Table, frozen=True):
    """A symlink that the recipe adds."""

    path: str
    target: str


class TextFile(_Table, frozen=True):
    """A file that the recipe adds."""

    path: str
    text: str


class Copy(_Table, frozen=True):
    """A file of a package that is also put elsewhere."""

    path: str
    source: str


class Bundle(_Table, frozen=True):
    """A file made by joining files of the packages (a pattern), in the order of their paths."""

    path: str
    sources: str


class Group(_Table, frozen=True):
    """Packages that make one layer, with what they need and no earlier group has."""

    name: str
    title: str
    packages: tuple[str, ...]
    directories: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    files: tuple[TextFile, ...] = ()
    copies: tuple[Copy, ...] = ()
    bundles: tuple[Bundle, ...] = ()


class Drop(_Table, frozen=True):
    """A dependency that is left out, and why that is right."""

    package: str
    reason: str


class Account(_Table, frozen=True):
    """A line of `/etc/passwd` with its group."""

    name: str
    id: int
    home: str
    comment: str
    group: str


class AllowedScript(_Table, frozen=True):
    """A maintainer script that is known, and what the recipe does in its place.

    `fingerprints` are those of `scripts.fingerprint`; without one, any content is allowed.
    """

    package: str
    script: Script
    work: str
    fingerprints: tuple[str, ...] = ()


class _File(_Table, frozen=True, kw_only=True):
    name: str
    title: str
    python: str = ""
    """Minor version of its interpreter; empty when it has none."""
    architecture: str = "amd64"
    """What it is locked for when nothing else is asked."""
    suites: tuple[Suite, ...]
    groups: tuple[Group, ...]
    drops: tuple[Drop, ...] = ()
    accounts: tuple[Account, ...] = ()
    environment: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    allow_scripts: tuple[AllowedScript, ...] = ()
    production: bool = True
    """False marks the base, and every image on it, as not for production."""
    snapshot: str = ""
    """Time of a snapshot (`20260901T000000Z`), or address of an archive that stays as it is; empty: the mirror, now."""


_SHIPPED = Path(__file__).with_name("recipes")
# Keys that came later leave the digest of a recipe that does not use them as it was, and with it every lock.
_LATER: dict[str, object] = {"production": True, "snapshot": ""}


class Recipe(_File, frozen=True, kw_only=True):
    """A recipe as parsed, with the digest of what it says (comments do not count)."""

    digest: Digest

    def drop(self, package: str) -> Drop | None:
        """The drop of that package, if it is dropped."""
        return next((drop for drop in self.drops if drop.package == package), None)

    def layers(self, system: tuple[str, ...] = ()) -> tuple[Group, ...]:
        """The groups, and one more for the packages `system` that a project adds."""
        added = Group(name=SYSTEM, title="Debian packages of the project", packages=system)
        return (*self.groups, added) if system else self.groups


def names(own: Path | None = None) -> tuple[str, ...]:
    """Names of the recipes that ship with the product and of those in the folder `own`, sorted."""
    found = {item.name.removesuffix(".toml") for item in _SHIPPED.iterdir() if item.name.endswith(".toml")}
    if own is not None and own.is_dir():
        found |= {path.stem for path in own.glob("*.toml")}
    return tuple(sorted(found))


def load(name: str, *, own: Path | None = None, known: Path | None = None) -> Recipe:
    """The recipe `name`: from the folder `own` when it is there, else the one shipped.

    In the folder `known` stands what recipes that extend no other were read as.

    Raises:
        NotFoundError: there is none of that name.
        InputError: the file is not TOML, has an unknown key or a wrong value.
    """
    data, source = _read(name, own)
    place = None if known is None else known / f"{remembered.name('recipe', name, digests.of(data))}.json"
    found = None if place is None else remembered.recall(place, Recipe)
    if found is not None:
        return found
    content = _toml(data, source)
    seen = [name]
    while "extends" in content:
        below = content.pop("extends")
        if not isinstance(below, str) or below in seen or len(seen) > _EXTENDED:
            raise InputError(
                f"{source}: extends {below!r}: it names no recipe, or recipes extend one another in a circle",
                next_step="Name one recipe that stands on its own.",
                code="bad_recipe",
            )
        seen.append(below)
        content = _extended(_toml(*_read(below, own)), content)
    found = _recipe(content, name, source)
    if place is not None and len(seen) == 1:
        remembered.remember(place, found)
    return found


def _read(name: str, own: Path | None) -> tuple[bytes, str]:
    """The file of a recipe, at most a byte more than it may have, and how it is called in errors."""
    known = names(own)
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        raise NotFoundError(
            f"there is no base recipe {name!r}",
            next_step=(f"Did you mean {near[0]}? " if near else "") + f"Known recipes: {', '.join(known)}.",
            code="unknown_recipe",
        )
    if own is not None and (own / f"{name}.toml").is_file():
        path = own / f"{name}.toml"
        with path.open("rb") as file:
            return file.read(limits.PROJECT_FILE_BYTES + 1), str(path)
    return (_SHIPPED / f"{name}.toml").read_bytes(), f"recipe {name}"


def _extended(below: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """A recipe on top of another: its lists are appended, its other values replace."""
    merged = dict(below)
    for key, value in content.items():
        known = merged.get(key)
        merged[key] = [*known, *value] if isinstance(known, list) and isinstance(value, list) else value
    return merged


def parse(data: bytes, *, name: str, source: str) -> Recipe:
    """The recipe in `data`, which extends no other; errors as in `load`, naming `source`."""
    return _recipe(_toml(data, source), name, source)


def _toml(data: bytes, source: str) -> dict[str, Any]:
    if len(data) > limits.PROJECT_FILE_BYTES:
        raise LimitError(f"{source} is over {limits.PROJECT_FILE_BYTES} bytes", next_step="Shorten the recipe.")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number too long, nested too deep
        raise InputError(f"{source} is not TOML: {error}", next_step="Mend the line named.") from error


def _recipe(said: dict[str, Any], name: str, source: str) -> Recipe:
    try:
        content = msgspec.convert(said, _File)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{source}: {error}",
            next_step="Write it as the shipped recipes do; a name that is not a key of a recipe is never ignored.",
            code="bad_recipe",
        ) from error
    _check(content, name, source)
    values = msgspec.to_builtins(content)
    named = {key: value for key, value in values.items() if key not in _LATER or value != _LATER[key]}
    return Recipe(
        **{field: getattr(content, field) for field in content.__struct_fields__},
        digest=digests.of(msgspec.json.encode(named)),
    )


def _check(recipe: _File, name: str, source: str) -> None:
    for fault in (_names_fault(recipe, name), _values_fault(recipe)):
        if fault:
            raise InputError(f"{source}: {fault}", next_step="Correct the recipe.", code="bad_recipe")
    for group in recipe.groups:
        added = [item.path for items in (group.links, group.files, group.copies, group.bundles) for item in items]
        for path in (*group.directories, *added):
            layer.check_path(path, source=source)


def _names_fault(recipe: _File, name: str) -> str:
    """What is wrong with the names in the recipe; empty when nothing is."""
    if recipe.name != name or not re.fullmatch(_NAME, name):
        return f"the recipe calls itself {recipe.name!r}, its file {name!r}"
    if not recipe.suites or not recipe.groups or any(not group.packages for group in recipe.groups):
        return "a recipe needs suites, and groups with packages"
    if any(group.name == SYSTEM for group in recipe.groups):
        return f"{SYSTEM!r} is the group of a project's own packages"
    wanted = [package for group in recipe.groups for package in group.packages]
    dropped = [drop.package for drop in recipe.drops]
    for what, values in {
        "group": [group.name for group in recipe.groups],
        "suite": [suite.name for suite in recipe.suites],
        "package": wanted,
        "dropped package": dropped,
    }.items():
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            return f"the {what} {twice!r} is named twice"
    strange = next((package for package in (*wanted, *dropped) if not re.fullmatch(_PACKAGE, package)), None)
    if strange is not None:
        return f"{strange!r} is no package name"
    both = sorted(set(wanted) & set(dropped))
    return f"{both[0]} is wanted and dropped" if both else ""


def _values_fault(recipe: _File) -> str:
    """What is wrong with environment, accounts and snapshot; empty when nothing is."""
    if recipe.snapshot and not re.fullmatch(_SNAPSHOT, recipe.snapshot):
        return f"snapshot {recipe.snapshot!r} is no time like 20260901T000000Z and no address"
    for line in recipe.environment:
        if not re.fullmatch(_VARIABLE, line):
            return f"environment {line!r} is not NAME=value"
    for account in recipe.accounts:
        texts = (account.name, account.home, account.comment, account.group)
        if account.id < 0 or any(":" in text or "\n" in text for text in texts):
            return f"the account {account.name!r} cannot be written to /etc/passwd"
    return ""
