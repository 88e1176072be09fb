"""The locked wheels as layers: one for each large wheel, heaviest first, and one for the small rest.

The same wheel gives the same layer in every image with the same interpreter. A layer that is in the store already
needs neither the download nor the unpacking of its wheels.

What is missing is made by `wheel_workshop`.
"""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.assembly import bytecode, installation, options
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.python_lock import LockedWheel, PythonLock
from tidewaiter.assembly.wheel_files import WheelFiles
from tidewaiter.core import limits
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.oci import compression
from tidewaiter.oci.layer import FORMAT_VERSION, LayerInfo

if TYPE_CHECKING:
    from tidewaiter.assembly.wheel_sources import Make, WheelSources
    from tidewaiter.transport.client import Client

OWN_LAYER_BYTES = 2 * limits.MIB
"""A wheel of this size or more gets a layer of its own."""
SMALL_BYTES = 512 * limits.KIB
"""A wheel below this size never does."""
REST_BYTES = 5_500_000
"""So much of small wheels shares a layer, with bytecode twice that: every update of one of them sends all of it."""
_DOWNLOADS = 4

Group = tuple[LockedWheel, ...]


class PythonLayers(msgspec.Struct, frozen=True):
    """The layers of the wheels, in the order in which they stand in the image."""

    parts: tuple[Part, ...]
    library_path: tuple[str, ...]
    """Folders that the loader has to search; empty without wheels that bring NVIDIA's libraries."""


def group(wheels: Sequence[LockedWheel], most: int = limits.BUILT_LAYERS) -> list[Group]:
    """Wheels by layer, at most `most` layers: large ones alone, heaviest first, and the rest by name, last.

    Where the rest is over `REST_BYTES`, its heaviest wheels have layers of their own too.
    """
    heaviest = sorted(wheels, key=lambda one: (-(one.size or 0), one.name))
    left = sum(one.size or 0 for one in wheels)
    large: list[LockedWheel] = []
    for one in heaviest:
        size = one.size or 0
        if size < OWN_LAYER_BYTES and (left <= REST_BYTES or size < SMALL_BYTES):
            break
        large.append(one)
        left -= size
    if len(large) > most or len(large) < len(wheels):
        large = large[: max(most, 1) - 1]
    alone = set(large)
    rest = tuple(sorted((one for one in wheels if one not in alone), key=lambda one: one.name))
    return [*((one,) for one in large), *([rest] if rest else [])]


def _merged(groups: Sequence[Group]) -> Group:
    """The wheels that would have a layer of their own if there were more layers."""
    return tuple(one for wheels in groups if len(wheels) > 1 for one in wheels if (one.size or 0) >= OWN_LAYER_BYTES)


def layer_key(wheels: Group, interpreter: Interpreter, wanted: Options = options.DEFAULT) -> Mapping[str, object]:
    """Everything that the bytes of a layer of `wheels` depend on."""
    compiled = wanted.bytecode is not False
    # Folders of an image that was not made here have attributes of their own.
    foreign = {"foreign": [interpreter.identity, interpreter.program, interpreter.site]} if interpreter.foreign else {}
    return foreign | {
        "kind": "python",
        "wheels": [[one.name, one.version, one.filename, one.sha256] for one in wheels],
        "python": interpreter.tag,
        "interpreter": interpreter.identity if compiled else None,
        "installation": installation.FORMAT_VERSION,
        "bytecode": bytecode.FORMAT_VERSION if compiled else None,
        "layer": FORMAT_VERSION,
        "compressor": compression.identity(wanted.compression),
    }


def _library_path(folders: Sequence[str], site: str) -> tuple[str, ...]:
    """Folders of NVIDIA's libraries: some releases of TensorFlow look for them only where the loader does."""
    prefix = f"{site}/nvidia/"
    return tuple(f"/{one}" for one in folders if f"{one}/".startswith(prefix) and posixpath.basename(one) == "lib")


def _with_sizes(
    wheels: Sequence[LockedWheel], cache: Path, sources: "Callable[[], WheelSources]", progress: Progress
) -> tuple[LockedWheel, ...]:
    """`wheels` with every size known: indexes without PEP 691 do not tell it, and layers are cut by it."""
    unknown = [one for one in wheels if one.size is None]
    if not unknown:
        return tuple(wheels)
    from concurrent.futures import ThreadPoolExecutor

    from tidewaiter.assembly import wheel_cache

    places = sources()
    with (
        progress.task("Fetching wheels of unknown size", total=len(unknown)) as task,
        ThreadPoolExecutor(_DOWNLOADS, "wheel") as pool,
    ):

        def size(one: LockedWheel) -> int:
            found = wheel_cache.fetch(one, cache=cache, sources=places).stat().st_size
            task.advance()
            return found

        known = dict(zip(unknown, pool.map(size, unknown), strict=True))
    return tuple(msgspec.structs.replace(one, size=known.get(one, one.size)) for one in wheels)


def build(
    lock: PythonLock,
    *,
    wanted: Options = options.DEFAULT,
    most: int = limits.BUILT_LAYERS,
    interpreter: Interpreter,
    ground: Ground | None = None,
    layers: LayerCache,
    threads: int,
    settings: Settings,
    connect: "Callable[[], Client]",
    make: "Make | None" = None,
    progress: Progress,
) -> PythonLayers:
    """At most `most` layers of the locked wheels, bytecode included unless `wanted` says otherwise.

    Raises:
        InputError: a wheel is malformed or hostile, or two wheels write different files to one path.
        IntegrityError: a wheel is not what the lock or its RECORD says.
        UndeterminedError: a wheel could not be fetched, or the interpreter does not run here.
    """

    @cache
    def sources() -> "WheelSources":
        from tidewaiter.assembly.wheel_sources import WheelSources

        return WheelSources(lock.indexes, settings, connect(), make=make)

    groups = group(_with_sizes(lock.wheels, settings.home.cache / "wheels", sources, progress), most)
    if merged := _merged(groups):
        names = ", ".join(one.name for one in merged[:5]) + (", …" if len(merged) > 5 else "")
        progress.note(
            f"{len(merged)} large wheels share a layer, because an image has at most {limits.BUILT_LAYERS}: {names}"
        )
    files = WheelFiles(settings.home.cache / "wheel-files", interpreter.version, layers.store, interpreter.site or None)
    known = layers.find_all([layer_key(wheels, interpreter, wanted) for wheels in groups])
    missing = [wheels for wheels, info in zip(groups, known, strict=True) if info is None]
    made: dict[Group, tuple[LayerInfo, bool]] = {}
    if missing:
        from tidewaiter.assembly.wheel_workshop import WheelWorkshop

        with WheelWorkshop(
            interpreter,
            partial(layer_key, interpreter=interpreter, wanted=wanted),
            compiled=wanted.bytecode is not False,
            compression=wanted.compression,
            ground=ground,
            layers=layers,
            files=files,
            threads=threads,
            cache=settings.home.cache,
            sources=sources(),
        ) as workshop:
            made = workshop.make(missing, progress)
    parts = []
    finished_layers = []
    for wheels, info in zip(groups, known, strict=True):
        finished, reused = (info, True) if info is not None else made[wheels]
        finished_layers.append((wheels, finished))
        parts.append(
            Part(
                info=finished,
                kind="python",
                title=f"wheel {wheels[0].filename}" if len(wheels) == 1 else f"{len(wheels)} wheels",
                contents=tuple(str(one) for one in wheels),
                reused=reused,
                media_type=wanted.layer_type,
            )
        )
    return PythonLayers(tuple(parts), _library_path(files.folders(finished_layers), interpreter.site_packages))
