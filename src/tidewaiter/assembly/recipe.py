"""Recipes: what a Debian base is made of, as data. The ones in `recipes/` ship with the product."""

import difflib
import re
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import layer
from tidewaiter.oci.digest import Digest

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")

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


class _File(_Table, frozen=True):
    name: str
    title: str
    python: str
    architecture: str
    suites: tuple[Suite, ...]
    groups: tuple[Group, ...]
    drops: tuple[Drop, ...] = ()
    accounts: tuple[Account, ...] = ()
    environment: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    allow_scripts: tuple[AllowedScript, ...] = ()


class Recipe(_File, frozen=True, kw_only=True):
    """A recipe as parsed, with the digest of what it says (comments do not count)."""

    digest: Digest

    def drop(self, package: str) -> Drop | None:
        """The drop of that package, if it is dropped."""
        return next((drop for drop in self.drops if drop.package == package), None)


def _shipped() -> Traversable:
    return resources.files("tidewaiter.assembly") / "recipes"


def names(own: Path | None = None) -> tuple[str, ...]:
    """Names of the recipes that ship with the product and of those in the folder `own`, sorted."""
    found = {item.name.removesuffix(".toml") for item in _shipped().iterdir() if item.name.endswith(".toml")}
    if own is not None and own.is_dir():
        found |= {path.stem for path in own.glob("*.toml")}
    return tuple(sorted(found))


def load(name: str, *, own: Path | None = None) -> Recipe:
    """The recipe `name`: from the folder `own` when it is there, else the one shipped.

    Raises:
        NotFoundError: there is none of that name.
        InputError: the file is not TOML, has an unknown key or a wrong value.
    """
    known = names(own)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise NotFoundError(
            f"there is no base recipe {name!r}",
            next_step=(f"Did you mean {near[0]}? " if near else "") + f"Known recipes: {', '.join(known)}.",
            code="unknown_recipe",
        )
    if own is not None and (own / f"{name}.toml").is_file():
        path = own / f"{name}.toml"
        with path.open("rb") as file:
            return parse(file.read(limits.PROJECT_FILE_BYTES + 1), name=name, source=str(path))
    return parse((_shipped() / f"{name}.toml").read_bytes(), name=name, source=f"recipe {name}")


def parse(data: bytes, *, name: str, source: str) -> Recipe:
    """The recipe in `data`; errors as in `load`, naming `source`."""
    if len(data) > limits.PROJECT_FILE_BYTES:
        raise LimitError(f"{source} is over {limits.PROJECT_FILE_BYTES} bytes", next_step="Shorten the recipe.")
    try:
        content = msgspec.convert(tomllib.loads(data.decode()), _File)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{source} is not TOML: {error}", next_step="Mend the line named.") from error
    except msgspec.ValidationError as error:
        raise InputError(
            f"{source}: {error}",
            next_step="Write it as the shipped recipes do; a name that is not a key of a recipe is never ignored.",
            code="bad_recipe",
        ) from error
    _check(content, name, source)
    return Recipe(
        **{field: getattr(content, field) for field in content.__struct_fields__},
        digest=digests.of(msgspec.json.encode(content, order="deterministic")),
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
    if recipe.name != name or not _NAME.fullmatch(name):
        return f"the recipe calls itself {recipe.name!r}, its file {name!r}"
    if not recipe.suites or not recipe.groups or any(not group.packages for group in recipe.groups):
        return "a recipe needs suites, and groups with packages"
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
    strange = next((package for package in (*wanted, *dropped) if not _PACKAGE.fullmatch(package)), None)
    if strange is not None:
        return f"{strange!r} is no package name"
    both = sorted(set(wanted) & set(dropped))
    return f"{both[0]} is wanted and dropped" if both else ""


def _values_fault(recipe: _File) -> str:
    """What is wrong with environment and accounts; empty when nothing is."""
    for line in recipe.environment:
        if not _VARIABLE.fullmatch(line):
            return f"environment {line!r} is not NAME=value"
    for account in recipe.accounts:
        texts = (account.name, account.home, account.comment, account.group)
        if account.id < 0 or any(":" in text or "\n" in text for text in texts):
            return f"the account {account.name!r} cannot be written to /etc/passwd"
    return ""
