"""Another base below an image that exists: its own layers stay as they are, bit for bit, and nothing is rebuilt.

What an image's own layers were made for must be there in the new base too:

1. The same platform.
2. Every folder that they write to is a folder, and the image's user has a name where it is told by name.
3. A Python that they have files for: the same minor version, at the same path, with the same folder for packages.
4. Debian packages in them: the same release of Debian.
5. Every library that the old base gives them, with every symbol version. A new base that offers all that the old one
   did passes at once; where it does not, the programs and libraries of the own layers are asked what they need.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from tidewaiter.assembly.elf import Elf
from tidewaiter.assembly.foundation import NOT_FOR_PRODUCTION
from tidewaiter.assembly.ground import Ground, Listing
from tidewaiter.assembly.unpacked_image import UnpackedImage
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import WHITEOUT_PREFIX
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, History, Manifest, RootFS, RunConfig

_PYTHON = re.compile(r"usr/(?:local/)?bin/python(3\.\d+)")
_PACKAGES = re.compile(r"((?:.*/)?lib/python(3\.\d+)/(?:dist|site)-packages)/.+")
_STATUS = "var/lib/dpkg/status.d/"
_ANNOTATION = "org.opencontainers.image."
_SHOWN = 10


class Side(msgspec.Struct, frozen=True):
    """A base, old or new: how it is called, and what is in it."""

    name: str
    image: Image
    files: UnpackedImage


def lower(image: Image, count: int) -> Image:
    """The first `count` layers of `image`, as an image to look into; it has no manifest of its own."""
    return msgspec.structs.replace(
        image,
        manifest=msgspec.structs.replace(image.manifest, layers=image.manifest.layers[:count]),
        config=msgspec.structs.replace(
            image.config, rootfs=RootFS(type="layers", diff_ids=image.config.rootfs.diff_ids[:count])
        ),
    )


# What must fit


def require_fit(
    image: Image, own: Sequence[Listing], old: Side, new: Side, unpacked: Callable[[], UnpackedImage]
) -> None:
    """Check that the layers `own` of `image`, which lie on `old`, can lie on `new`.

    `unpacked` gives the whole image to look into; it is asked only when the new base lacks a library of the old one.

    Raises:
        RefusedError: they cannot; the message names each reason (code `does_not_fit`).
        InputError: a file of a base is malformed.
    """
    problems = [*_platform(image, new)]
    if not problems:
        problems += [*_folders(own, new), *_user(image, new), *_python(own, old, new), *_release(own, old, new)]
    if not problems:
        problems += _libraries(own, old, new, unpacked)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise RefusedError(
            f"the image cannot stand on {new.name}: {'; '.join(problems[:_SHOWN])}{more}",
            next_step="Use a base that has them, or build the image anew on this one.",
            code="does_not_fit",
        )


def _platform(image: Image, new: Side) -> Iterator[str]:
    mine, theirs = image.config, new.image.config
    if (mine.os, mine.architecture) != (theirs.os, theirs.architecture):
        yield f"it is for {mine.os}/{mine.architecture}, the base for {theirs.os}/{theirs.architecture}"
    if (image.media_type == documents.DOCKER_MANIFEST) != (new.image.media_type == documents.DOCKER_MANIFEST):
        yield "one of the two is a Docker schema 2 image, the other an OCI image, and layers of both do not mix"


def _written(own: Sequence[Listing]) -> Iterator[str]:
    for listing in own:
        for entry in listing.entries:
            if not posixpath.basename(entry.path).startswith(WHITEOUT_PREFIX):
                yield entry.path


def _folders(own: Sequence[Listing], new: Side) -> Iterator[str]:
    folders = {
        entry.path if entry.kind == "directory" else posixpath.dirname(entry.path)
        for listing in own
        for entry in listing.entries
    }
    seen = set()
    for folder in sorted(folders):
        parts = folder.split("/")
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            if path in seen:
                continue
            seen.add(path)
            entry = new.files.ground.get(path)
            if entry is not None and entry.kind != "directory":
                yield f"its layers have a folder /{path}, which is a {entry.kind} in the base"


def _user(image: Image, new: Side) -> Iterator[str]:
    user = (image.config.config.user or "").partition(":")[0]
    if user and not user.isdecimal():
        accounts = new.files.text("etc/passwd", limits.METADATA_BYTES) or ""
        if user not in {line.partition(":")[0] for line in accounts.splitlines()}:
            yield f"it runs as {user[:40]!r}, an account that the base has not"


def _pythons(ground: Ground) -> dict[str, str]:
    """Version by path of each Python program."""
    found = {}
    for folder in ("usr/bin", "usr/local/bin"):
        for name in ground.names(folder):
            match = _PYTHON.fullmatch(f"{folder}/{name}")
            if match:
                found[match[0]] = match[1]
    return found


def _python(own: Sequence[Listing], old: Side, new: Side) -> Iterator[str]:
    if not any(path.endswith((".py", ".pyc")) for path in _written(own)):
        return
    offered = _pythons(new.files.ground)
    for path, version in sorted(_pythons(old.files.ground).items()):
        if offered.get(path) != version:
            there = ", ".join(f"{other} at /{where}" for where, other in sorted(offered.items())) or "none"
            yield f"it needs Python {version} at /{path}, and the base has {there}"
    for folder in sorted({match[1] for path in _written(own) if (match := _PACKAGES.fullmatch(path))}):
        if old.files.ground.get(folder) is not None and new.files.ground.get(folder) is None:
            yield f"its Python packages lie in /{folder}, which the Python of the base does not have"


def _os(side: Side) -> str:
    text = side.files.text("etc/os-release", limits.METADATA_BYTES) or ""
    fields = dict(line.partition("=")[::2] for line in text.splitlines())
    return " ".join(fields.get(name, "").strip("\"'") for name in ("ID", "VERSION_ID")).strip()


def _release(own: Sequence[Listing], old: Side, new: Side) -> Iterator[str]:
    packages = sorted(
        path.removeprefix(_STATUS)
        for path in set(_written(own))
        if path.startswith(_STATUS) and not path.endswith(".md5sums")
    )
    if packages and _os(old) != _os(new):
        yield f"its layers hold packages of {_os(old)} ({', '.join(packages[:5])}), and the base is {_os(new)}"


def _offered(side: Side) -> dict[str, Elf]:
    """Libraries of a base by the name that programs ask for."""
    found: dict[str, Elf] = {}
    for entry in side.files.ground.below(""):
        name = posixpath.basename(entry.path)
        if entry.kind == "file" and (".so" in name or name.startswith("ld-")):
            seen = side.files.elf(entry.path)
            if seen is not None and seen.soname:
                found.setdefault(seen.soname, seen)
    return found


def _libraries(own: Sequence[Listing], old: Side, new: Side, unpacked: Callable[[], UnpackedImage]) -> Iterator[str]:
    before, after = _offered(old), _offered(new)
    lost = {
        name: None if name not in after else library.defines - after[name].defines
        for name, library in before.items()
        if name not in after or (after[name].defines and library.defines - after[name].defines)
    }
    if not lost:
        return
    whole = unpacked()
    paths = sorted(set(_written(own)))
    brought = {posixpath.basename(path) for path in paths}
    for path in paths:
        entry = whole.ground.get(path)
        found = whole.elf(path) if entry is not None and entry.kind == "file" else None
        if found is None:
            continue
        for name in found.needed:
            if name not in lost or name in brought:
                continue
            missing = lost[name]
            if missing is None:
                yield f"/{path} needs {name}, which the base has not"
            elif versions := sorted(missing & set(found.requires.get(name, ()))):
                yield f"/{path} needs {name} with {', '.join(versions)}, which that of the base does not define"


# The new image


def _environment(image: RunConfig, old: RunConfig, new: RunConfig) -> list[str]:
    """The base's variables as the new base says them, and those that the image says itself."""
    own = [item for item in image.env or [] if item not in (old.env or [])]
    said = {item.partition("=")[0] for item in own}
    return [item for item in new.env or [] if item.partition("=")[0] not in said] + own


def _history(image: Image, count: int, new: Image) -> list[History]:
    """The new base's history, then what the image says of its own layers."""
    own: list[History] = []
    passed = 0
    for entry in image.config.history:
        if passed >= count:
            own.append(entry)
        passed += not entry.empty_layer
    layers = len(image.layers) - count
    if sum(not entry.empty_layer for entry in own) != layers:
        own = [History(created_by=f"layer {layer.digest}") for layer, _ in image.layers[count:]]
    below = list(new.config.history)
    if sum(not entry.empty_layer for entry in below) != len(new.layers):
        below = [History(created_by=f"layer {layer.digest}") for layer, _ in new.layers]
    return [*below, *own]


def write(image: Image, count: int, new: Image, *, old_config: RunConfig, name: str, store: Layout) -> Descriptor:
    """`image` with `new` in the place of its first `count` layers, written into `store`; the same every time.

    What the image says of itself stays; what it took over from the old base (`old_config`) is the new base's.

    Raises:
        InputError: it would have more layers than tools accept.
    """
    layers = [*new.manifest.layers, *image.manifest.layers[count:]]
    if len(layers) > limits.IMAGE_LAYERS:
        raise InputError(f"the image would have {len(layers)} layers", next_step="Use a base with fewer layers.")
    config = image.config.config
    run = msgspec.structs.replace(
        config,
        env=_environment(config, old_config, new.config.config) or None,
        user=new.config.config.user if config.user == old_config.user else config.user,
    )
    document = msgspec.structs.replace(
        image.config,
        config=run,
        rootfs=RootFS(type="layers", diff_ids=[*new.config.rootfs.diff_ids, *image.config.rootfs.diff_ids[count:]]),
        history=_history(image, count, new),
    )
    annotations = dict(image.annotations) | {
        f"{_ANNOTATION}base.name": name,
        f"{_ANNOTATION}base.digest": new.digest,
    }
    annotations.pop(NOT_FOR_PRODUCTION, None)
    if new.annotations.get(NOT_FOR_PRODUCTION) == "false":
        annotations[NOT_FOR_PRODUCTION] = "false"
    data = documents.encode(document)
    media_type = image.manifest.config.media_type
    manifest: Manifest = msgspec.structs.replace(
        image.manifest,
        config=Descriptor(media_type=media_type, digest=store.put(data), size=len(data)),
        layers=layers,
        annotations=annotations,
    )
    data = documents.encode(manifest)
    return Descriptor(media_type=image.media_type, digest=store.put(data), size=len(data))
