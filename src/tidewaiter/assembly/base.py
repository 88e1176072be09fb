"""Building a Debian base: one layer per group of the recipe, and the interpreter that compiles for the image.

Nothing of a package is run but its Python interpreter, started by `bytecode` for `.pyc` files.
"""

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING

import msgspec

from tidewaiter.assembly import base_lock, bytecode, debian, image
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.foundation import NOT_FOR_PRODUCTION
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.recipe import SYSTEM, Group, Recipe
from tidewaiter.core import clock, durable, leases
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci import layer
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layer import Entry, LayerInfo, Sink
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Platform, RunConfig

if TYPE_CHECKING:
    from tidewaiter.assembly.debian.tree import Item
    from tidewaiter.transport.client import Client

_STAMP = "2 "
"""What stamps begin with; another number when they say something else."""

Connect = Callable[[], "Client"]
"""Gives the HTTP client; asked for when something has to be fetched."""


class Base(msgspec.Struct, frozen=True):
    """A built base: what images stand on."""

    name: str
    parts: tuple[Part, ...]
    system: tuple[Part, ...]
    """Layers of packages that the project adds; they lie on the base and are no part of it."""
    interpreter: Interpreter | None
    environment: tuple[str, ...]
    """`NAME=value`, for the image's config."""
    lock_digest: Digest
    """Of the base alone, without what the project adds."""


def _digest(value: object) -> str:
    return digests.hexadecimal(digests.of(msgspec.json.encode(value, order="deterministic")))


def interpreter_identity(recipe: Recipe, lock: BaseLock) -> str:
    """Digest that names the interpreter: the packages that hold it and its standard library; empty without one.

    Libraries beside it (OpenSSL, time zones) do not change bytecode, so that their updates keep all wheels' layers.
    """
    if not recipe.python:
        return ""
    names = {f"python{recipe.python}-minimal", f"libpython{recipe.python}-minimal", f"libpython{recipe.python}-stdlib"}
    return "sha256:" + _digest([package.sha256 for package in lock.packages if package.name in names])


class _Builder:
    def __init__(
        self,
        recipe: Recipe,
        lock: BaseLock,
        *,
        settings: Settings,
        connect: Connect,
        progress: Progress,
        bytecode: bool,
    ) -> None:
        self._recipe = recipe
        self._lock = lock
        self._settings = settings
        self._connect = connect
        self._progress = progress
        self._bytecode = bytecode
        self._turn = Lock()
        self._prepared = False
        self._debs = [package.sha256 for package in lock.alone.packages]
        self._unpacking = {group.name: Lock() for group in (*recipe.groups, *recipe.layers(lock.system))}
        self._unpacked: dict[str, list[Item]] | None = None
        """By group, while `sharing`."""
        self._files: dict[str, list[Path]] = {}

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """What is unpacked within the block, for a layer or for the interpreter, is unpacked once. Not re-entrant."""
        import shutil
        import tempfile

        work = self._settings.home.cache / "work"
        try:
            work.mkdir(parents=True, exist_ok=True)
            self._staging = Path(tempfile.mkdtemp(dir=work))
        except OSError as error:
            raise durable.storage_error(error, str(work)) from error
        self._unpacked = {}
        try:
            yield
        finally:
            self._unpacked = None
            shutil.rmtree(self._staging, ignore_errors=True)

    def fetch(self, group: Group) -> list[Path]:
        """The group's packages, each with its locked SHA-256."""
        from tidewaiter.assembly.debian import pool

        if group.name not in self._files:
            packages = self._lock.group(group.name)
            self._files[group.name] = pool.obtain(packages, self._lock, self._settings, self._connect(), self._progress)
        return self._files[group.name]

    def _items(self, group: Group) -> "list[Item]":
        from tidewaiter.assembly.debian import tree

        assert self._unpacked is not None  # noqa: S101  # whoever asks is sharing
        with self._unpacking[group.name]:
            if group.name not in self._unpacked:
                packages = zip(self._lock.group(group.name), self.fetch(group), strict=True)
                self._unpacked[group.name] = tree.group_items(self._recipe, group, packages, self._staging)
            return self._unpacked[group.name]

    # The interpreter

    @cached_property
    def interpreter(self) -> Interpreter:
        """The image's interpreter, unpacked in the cache before it is first run."""
        root = self._settings.home.cache / "rootfs" / _digest([debian.TREE_VERSION, self._recipe.digest, self._debs])
        leases.claim(root)
        return Interpreter(
            rootfs=root,
            version=self._recipe.python,
            identity=interpreter_identity(self._recipe, self._lock),
            architecture=self._lock.platform,
            prepare=partial(self._prepare, root),
        )

    def _prepare(self, root: Path) -> None:
        """Unpack the packages to `root`, unless they lie there as they were unpacked; asked once for each builder."""
        with self._turn:
            if self._prepared:
                return
            stamp = root.with_name(f"{root.name}.stamp")
            with durable.exclusive(root.with_name(f"{root.name}.lock")):
                if not _unchanged(root, stamp):
                    if _is_stamped(stamp):
                        self._progress.note("the unpacked base in the cache is damaged and is unpacked again")
                    self._unpack(root)
                    durable.write_atomically(stamp, _stamp(root).encode())
            self._prepared = True

    def _unpack(self, root: Path) -> None:
        import shutil

        from tidewaiter.assembly.debian import tree

        temporary = root.with_name(f".{root.name}.{os.urandom(4).hex()}")
        try:
            with nullcontext() if self._unpacked is not None else self.sharing():
                items = [item for group in self._recipe.groups for item in self._items(group)]
                tree.materialise(items, temporary)
            if root.exists():
                root.replace(temporary.with_name(temporary.name + ".old"))
            temporary.replace(root)
        except OSError as error:
            raise durable.storage_error(error, str(root)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(temporary.with_name(temporary.name + ".old"), ignore_errors=True)

    # Layers

    def key(self, group: Group) -> dict[str, object]:
        """Everything that the bytes of the group's layer depend on."""
        return {
            "maker": "debian",
            "tree": debian.TREE_VERSION,
            "layer": layer.FORMAT_VERSION,
            "bytecode": bytecode.FORMAT_VERSION,
            "recipe": self._recipe.digest,
            "group": group.name,
            "debs": [package.sha256 for package in self._lock.group(group.name)],
            "interpreter": interpreter_identity(self._recipe, self._lock),
            **({} if self._bytecode else {"bytecode": None}),
        }

    def write(self, group: Group, sink: Sink) -> LayerInfo:
        """Write the group's layer, its standard library compiled."""
        items = self._items(group)
        if self._recipe.python and self._bytecode:
            items = [*items, *self._compiled(items)]
        with self._progress.task(f"layer {group.title}", total=len(items)) as task:
            info = layer.write_layer(sink, ((item.entry, _content(item)) for item in items))
            task.advance(len(items))
        return info

    def _compiled(self, items: "list[Item]") -> "list[Item]":
        from tidewaiter.assembly import bytecode_processes
        from tidewaiter.assembly.debian.tree import Item

        library = f"usr/lib/python{self._recipe.python}/"
        contents = {item.entry.path: item.content for item in items}
        sources = []
        for item in items:
            path = item.entry.path
            if path.startswith(library) and path.endswith(".py"):
                # `sitecustomize.py` is a link into /etc; Python looks for bytecode beside the link.
                place = posixpath.join("/", posixpath.dirname(path), item.entry.target)
                real = path if item.entry.kind == "file" else posixpath.normpath(place).lstrip("/")
                content = contents.get(real)
                if content is not None:
                    sources.append((f"/{path}", content))
        if not sources:
            return []
        compiled = bytecode_processes.compile_tree(
            self.interpreter,
            sources,
            threads=self._settings.threads,
            progress=self._progress,
            title="Compiling the standard library",
        )
        return [
            Item(Entry(path=path.lstrip("/"), kind="file", size=len(data)), data)
            for path, data in sorted(compiled.items())
        ]


def _content(item: "Item") -> layer.Opener | bytes | None:
    if isinstance(item.content, Path):
        return partial(_open, item.content)
    return item.content


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _stamp(root: Path) -> str:
    """Digest of path, permissions, size, time and inode of everything below `root`.

    Below `usr/share`, where most files are, time zones and licences, paths alone count.
    """
    found = hashlib.sha256()
    shared = f"{root}/usr/share"
    todo = [str(root)]
    while todo:
        folder = todo.pop()
        named = folder == shared or folder.startswith(f"{shared}/")
        folders, rows = [], []
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=attrgetter("name")):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif named:
                    rows.append(f"{entry.path}\n")
                else:
                    status = entry.stat(follow_symlinks=False)
                    said = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino)
                    rows.append(f"{entry.path}\0{said}\n")
        found.update(os.fsencode("".join(rows)))
        todo += reversed(folders)
    return _STAMP + found.hexdigest()


def _unchanged(root: Path, stamp: Path) -> bool:
    try:
        return root.is_dir() and stamp.read_bytes() == _stamp(root).encode()
    except OSError:
        return False


def _is_stamped(stamp: Path) -> bool:
    """Whether this version has stamped what it unpacked, and not an older one that knew less."""
    try:
        return stamp.read_bytes().startswith(_STAMP.encode())
    except OSError:
        return False


def _layers(builder: _Builder, groups: Sequence[Group], layers: LayerCache) -> list[tuple[LayerInfo, bool]]:
    """The layer of each group, and whether it was to be had already; those that were not are made side by side."""
    keys = [builder.key(group) for group in groups]
    known = layers.find_all(keys)
    missing = [group for group, info in zip(groups, known, strict=True) if info is None]
    if not missing:
        return [(info, True) for info in known if info is not None]
    from concurrent.futures import ThreadPoolExecutor

    for group in missing:
        builder.fetch(group)  # in this thread, as it may take long and be interrupted
    with builder.sharing(), ThreadPoolExecutor(len(groups), "base") as pool:
        made = [
            pool.submit(layers.obtain, key, partial(builder.write, group))
            for group, key in zip(groups, keys, strict=True)
        ]
        return [future.result() for future in made]


def build(
    recipe: Recipe,
    lock: BaseLock,
    *,
    layers: LayerCache,
    settings: Settings,
    connect: Connect,
    progress: Progress,
    bytecode: bool = True,
) -> Base:
    """The base that `lock` names: layers in the store, made only when they are not there.

    Without `bytecode` the standard library is not compiled and nothing of a package is run.

    Raises:
        StaleLockError: the lock was made from another recipe, or an older form of it.
        IntegrityError: a package does not have its locked SHA-256.
        InputError: a package is damaged or unsafe, or has a maintainer script that is not known.
        NotFoundError, NetworkError: a package could not be fetched.
        StorageError: the disk refused; nothing half-written is visible.
    """
    base_lock.require_fresh(lock, recipe, lock.system)
    builder = _Builder(recipe, lock, settings=settings, connect=connect, progress=progress, bytecode=bytecode)
    # The project's own layer is left out when the base has all of its packages.
    groups = [group for group in recipe.layers(lock.system) if group.name != SYSTEM or lock.group(group.name)]
    parts: list[Part] = []
    system: list[Part] = []
    for group, (info, reused) in zip(groups, _layers(builder, groups, layers), strict=True):
        contents = tuple(f"{package.name} {package.version}" for package in lock.group(group.name))
        part = Part(info=info, kind="base", title=group.title, contents=contents, reused=reused)
        (system if group.name == SYSTEM else parts).append(part)
    return Base(
        name=recipe.name,
        parts=tuple(parts),
        system=tuple(system),
        interpreter=builder.interpreter if recipe.python else None,
        environment=recipe.environment,
        lock_digest=lock.alone.digest,
    )


class BaseImage(msgspec.Struct, frozen=True):
    """A base as an image of its own: manifest, platform, and how a container of it starts."""

    manifest: Descriptor
    platform: Platform
    config: RunConfig


def write_image(made: Base, recipe: Recipe, lock: BaseLock, store: Layout) -> BaseImage:
    """The base alone, without what a project adds, as an image of the store; the same lock gives the same digest."""
    config = RunConfig(user=image.USER, env=list(made.environment) or None, working_dir="/")
    platform = Platform(architecture=lock.platform, os="linux")
    annotations = {"org.opencontainers.image.title": recipe.name}
    if not recipe.production:
        annotations[NOT_FOR_PRODUCTION] = "false"
    manifest = image.write(
        store,
        made.parts,
        config=config,
        created=max(clock.parse_rfc3339(suite.date) for suite in lock.suites),
        annotations=annotations,
        platform=platform,
    )
    return BaseImage(manifest=manifest, platform=platform, config=config)
