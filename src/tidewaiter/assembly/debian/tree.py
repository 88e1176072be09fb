"""From packages to the files of a layer: merged-usr, what is left out, `status.d`, and what the recipe adds."""

import fnmatch
import posixpath
import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import msgspec

from tidewaiter.assembly.base_lock import LockedPackage
from tidewaiter.assembly.debian import deb, scripts
from tidewaiter.assembly.debian.first_install import Alternative
from tidewaiter.assembly.recipe import Group, Recipe
from tidewaiter.core import durable
from tidewaiter.core.errors import InputError, IntegrityError
from tidewaiter.oci.layer import Entry, directory_entry, with_parents

STATUS = "var/lib/dpkg/status.d"
_ALTERNATIVES = "etc/alternatives"
# Folders that the loader of Debian searches without a cache.
_SEARCHED = re.compile(r"usr/lib(?:64)?(?:/[a-z0-9_]+-linux-gnu)?")


class Item(msgspec.Struct, frozen=True):
    """One path of a layer and where its content is."""

    entry: Entry
    content: bytes | Path | None = None

    def read(self) -> bytes:
        """The content of a file."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content or b""


class _Rules:
    """How paths of packages become paths of the image."""

    def __init__(self, recipe: Recipe) -> None:
        links = [link for group in recipe.groups for link in group.links]
        # Merged-usr: where the recipe makes /lib a link to usr/lib, files of /lib go to /usr/lib, because a folder
        # entry over the link would replace it.
        self._merged = {link.path for link in links if "/" not in link.path and link.target == f"usr/{link.path}"}
        self._exclude = recipe.exclude
        self._keep = recipe.keep

    def place(self, path: str) -> str:
        """Path in the image."""
        return f"usr/{path}" if path.partition("/")[0] in self._merged else path

    def wanted(self, entry: Entry) -> bool:
        """Whether the entry, placed already, goes into the image."""
        if not any(fnmatch.fnmatchcase(entry.path, pattern) for pattern in self._exclude):
            return True
        if any(fnmatch.fnmatchcase(entry.path, pattern) for pattern in self._keep):
            return True
        # Packages of one source share a documentation folder, and with it their copyright file.
        return entry.kind == "symlink" and posixpath.dirname(entry.path) == "usr/share/doc"


def _file(path: str, content: bytes, mode: int = 0o644) -> Item:
    return Item(Entry(path=path, kind="file", mode=mode, size=len(content)), content)


def _require_locked(found: deb.Control, package: LockedPackage) -> None:
    actual = tuple(found.fields.get(field, "") for field in ("package", "version", "architecture"))
    if actual != (package.name, package.version, package.architecture):
        raise IntegrityError(
            f"base.lock says {package.name} {package.version} {package.architecture}, but the file with its SHA-256 "
            f"is {' '.join(actual)}",
            next_step="Run `tidewaiter base update PROJECT` to write the lock anew; it was edited by hand.",
        )


def _package_items(package: LockedPackage, path: Path, found: deb.Control, rules: _Rules, staging: Path) -> list[Item]:
    items: list[Item] = []
    folders: list[str] = []
    inhabited: set[str] = set()
    with deb.readable(path.name):
        for entry, file in deb.walk_data(path):
            placed = msgspec.structs.replace(entry, path=rules.place(entry.path))
            if entry.kind == "hardlink":
                placed = msgspec.structs.replace(placed, target=rules.place(entry.target))
            inhabited.add(posixpath.dirname(placed.path))
            if not rules.wanted(placed):
                continue
            if file is not None:
                content = staging / f"{package.name}-{len(items)}"
                with content.open("xb") as out:
                    while data := file.read(1 << 20):
                        out.write(data)
                items.append(Item(placed, content))
            elif entry.kind == "directory":
                folders.append(placed.path)
            else:
                items.append(Item(placed))
    # Folders that the package ships empty stay; those emptied by leaving things out do not.
    items += [Item(directory_entry(folder)) for folder in folders if folder not in inhabited]
    present = {item.entry.path for item in items if item.entry.kind == "file"}
    sums = {rules.place(name): md5 for name, md5 in found.md5sums.items()}
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums) if name in present]
    items.append(_file(f"{STATUS}/{package.name}", found.paragraph))
    items.append(_file(f"{STATUS}/{package.name}.md5sums", "".join(lines).encode()))
    return items


def _link(link: str, name: str, path: str) -> list[Item]:
    return [
        Item(Entry(path=link, kind="symlink", target=f"/{_ALTERNATIVES}/{name}")),
        Item(Entry(path=f"{_ALTERNATIVES}/{name}", kind="symlink", target=f"/{path}")),
    ]


def _alternatives(found: Sequence[Alternative], rules: _Rules, present: Container[str]) -> list[Item]:
    """The links that update-alternatives makes in automatic mode: the highest priority wins, its slaves come along.

    What the recipe leaves out (manuals) gets no link. A later layer's choice covers that of an earlier one.
    """
    best: dict[str, Alternative] = {}
    for one in found:
        known = best.get(one.name)
        if rules.place(one.path) in present and (known is None or one.priority > known.priority):
            best[one.name] = one
    items: list[Item] = []
    for name, one in sorted(best.items()):
        items += _link(rules.place(one.link), name, rules.place(one.path))
        for link, slave, path in one.slaves:
            if rules.place(path) in present:
                items += _link(rules.place(link), slave, rules.place(path))
    return items


def _require_found_by_loader(items: Sequence[Item], recipe: Recipe) -> None:
    """Refuse libraries in folders that the loader searches only with a cache (ld.so(8)): the image has none."""
    for item in items:
        if not fnmatch.fnmatchcase(item.entry.path, "etc/ld.so.conf.d/*.conf") or item.entry.kind != "file":
            continue
        for line in item.read().decode(errors="replace").splitlines():
            folder = line.partition("#")[0].strip().strip("/")
            placed = folder if folder.startswith("usr/") else f"usr/{folder}"
            if not folder or _SEARCHED.fullmatch(placed):
                continue
            if any(posixpath.dirname(one.entry.path) == placed and ".so" in one.entry.path for one in items):
                raise InputError(
                    f"a package puts libraries into /{folder} ({item.entry.path}), which the loader finds with a cache "
                    "only, and an image has none",
                    next_step=f"Add links to them in /usr/lib in a recipe that extends {recipe.name}, exclude "
                    f"{item.entry.path} there, or leave the package out.",
                    code="unknown_script",
                )


def _accounts(recipe: Recipe) -> list[Item]:
    users = [f"{one.name}:x:{one.id}:{one.id}:{one.comment}:{one.home}:/sbin/nologin\n" for one in recipe.accounts]
    groups = [f"{one.group}:x:{one.id}:\n" for one in recipe.accounts]
    return [_file("etc/passwd", "".join(users).encode()), _file("etc/group", "".join(groups).encode())]


def _added(recipe: Recipe, group: Group, packaged: Sequence[Item]) -> list[Item]:
    files = {item.entry.path: item for item in packaged if item.entry.kind == "file"}
    items = [Item(directory_entry(path)) for path in group.directories]
    items += [Item(Entry(path=link.path, kind="symlink", target=link.target)) for link in group.links]
    items += [_file(file.path, file.text.encode()) for file in group.files]
    for copy in group.copies:
        if copy.source not in files:
            raise _missing(recipe, copy.source)
        items.append(_file(copy.path, files[copy.source].read()))
    for bundle in group.bundles:
        parts = [files[path].read() for path in sorted(files) if fnmatch.fnmatchcase(path, bundle.sources)]
        if not parts:
            raise _missing(recipe, bundle.sources)
        items.append(_file(bundle.path, b"".join(part.rstrip(b"\n") + b"\n" for part in parts)))
    return items


def _missing(recipe: Recipe, path: str) -> InputError:
    return InputError(
        f"recipe {recipe.name}: no package of the group has {path}",
        next_step="Correct the path in the recipe.",
        code="bad_recipe",
    )


def group_items(
    recipe: Recipe, group: Group, packages: Iterable[tuple[LockedPackage, Path]], staging: Path
) -> list[Item]:
    """Everything in the layer of `group`; contents of packages are put into the folder `staging`.

    Raises:
        InputError: a package is damaged, unsafe, or has a maintainer script that is not known.
        IntegrityError: a file is not the package that the lock says.
        StorageError: the disk refused.
    """
    items: list[Item] = []
    alternatives: list[Alternative] = []
    rules = _Rules(recipe)
    try:
        for package, path in packages:
            found = deb.read_control(path)
            _require_locked(found, package)
            alternatives += scripts.effects(found, recipe)
            items += _package_items(package, path, found, rules, staging)
    except OSError as error:
        raise durable.storage_error(error, str(staging)) from error
    _require_found_by_loader(items, recipe)
    items += _alternatives(alternatives, rules, {item.entry.path for item in items})
    items += _added(recipe, group, items)
    if group.name == recipe.groups[0].name:
        items += _accounts(recipe)
    return items


def materialise(items: Sequence[Item], root: Path) -> None:
    """Make the files of `items` below the new folder `root`.

    Raises:
        InputError: two items share a path, or one lies below something that is no folder.
        StorageError: the disk refused.
    """
    contents = {item.entry.path: item for item in items}
    try:
        root.mkdir(parents=True)
        # Sorted, and every parent is a folder made here: no write goes through a link.
        for entry in with_parents(item.entry for item in items):
            path = root / entry.path
            if entry.kind == "directory":
                path.mkdir()
            elif entry.kind == "symlink":
                path.symlink_to(entry.target)
            elif entry.kind == "hardlink":
                path.hardlink_to(root / entry.target)
            else:
                path.write_bytes(contents[entry.path].read())
                path.chmod(0o755 if entry.mode & 0o111 else 0o644)
    except OSError as error:
        raise durable.storage_error(error, str(root)) from error
