"""The locked wheels as layers: one for each large wheel, heaviest first, and one for the small rest.

The same wheel gives the same layer in every image with the same interpreter. A layer that is in the store already
needs neither the download nor the unpacking of its wheels.

Layers are made side by side: while one is written, the sources of the next are compiled.
"""

import posixpath
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tidewaiter.assembly import bytecode, options, wheel, wheel_cache, wheel_files
from tidewaiter.assembly.bytecode import Compiler, Interpreter
from tidewaiter.assembly.bytecode_spool import Spool
from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.python_lock import LockedWheel, PythonLock
from tidewaiter.assembly.wheel import Wheel
from tidewaiter.assembly.wheel_files import Listing, WheelFiles
from tidewaiter.assembly.wheel_sources import Make, WheelSources
from tidewaiter.core import limits
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.oci import compression
from tidewaiter.oci.layer import FORMAT_VERSION, Content, Entry, LayerInfo, Opener, Sink, write_layer
from tidewaiter.transport.client import Client

OWN_LAYER_BYTES = 2 * limits.MIB
"""A wheel of this size or more gets a layer of its own."""
_DOWNLOADS = 4

Group = tuple[LockedWheel, ...]
Advance = Callable[[int], None]


class PythonLayers(msgspec.Struct, frozen=True):
    """The layers of the wheels, in the order in which they stand in the image."""

    parts: tuple[Part, ...]
    library_path: tuple[str, ...]
    """Folders that the loader has to search; empty without wheels that bring NVIDIA's libraries."""


def group(wheels: Sequence[LockedWheel], most: int = limits.BUILT_LAYERS) -> list[Group]:
    """Wheels by layer, at most `most` layers: large ones alone, heaviest first, and the rest by name, last."""
    large = [one for one in wheels if (one.size or 0) >= OWN_LAYER_BYTES]
    large.sort(key=lambda one: (-(one.size or 0), one.name))
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
        "installation": wheel.FORMAT_VERSION,
        "bytecode": bytecode.FORMAT_VERSION if compiled else None,
        "layer": FORMAT_VERSION,
        "compressor": compression.identity(wanted.compression),
    }


def _library_path(listings: Sequence[Listing], site: str) -> tuple[str, ...]:
    """Folders of NVIDIA's libraries: some releases of TensorFlow look for them only where the loader does."""
    prefix = f"{site}/nvidia/"
    folders = {
        posixpath.dirname(path)
        for listing in listings
        for path in listing.files
        if path.startswith(prefix) and ".so" in posixpath.basename(path)
    }
    return tuple(f"/{folder}" for folder in sorted(folders) if posixpath.basename(folder) == "lib")


def _with_sizes(
    wheels: Sequence[LockedWheel], cache: Path, sources: WheelSources, progress: Progress
) -> tuple[LockedWheel, ...]:
    """`wheels` with every size known: indexes without PEP 691 do not tell it, and layers are cut by it."""
    unknown = [one for one in wheels if one.size is None]
    if not unknown:
        return tuple(wheels)
    with (
        progress.task("Fetching wheels of unknown size", total=len(unknown)) as task,
        ThreadPoolExecutor(_DOWNLOADS, "wheel") as pool,
    ):

        def size(one: LockedWheel) -> int:
            found = wheel_cache.fetch(one, cache=cache, sources=sources).stat().st_size
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
    client: Client,
    make: Make | None = None,
    progress: Progress,
) -> PythonLayers:
    """At most `most` layers of the locked wheels, bytecode included unless `wanted` says otherwise.

    Raises:
        InputError: a wheel is malformed or hostile, or two wheels write different files to one path.
        IntegrityError: a wheel is not what the lock or its RECORD says.
        UndeterminedError: a wheel could not be fetched, or the interpreter does not run here.
    """
    sources = WheelSources(lock.indexes, settings, client, make=make)
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
        with _Workshop(
            interpreter,
            wanted,
            ground=ground,
            layers=layers,
            files=files,
            threads=threads,
            cache=settings.home.cache,
            sources=sources,
        ) as workshop:
            made = workshop.make(missing, progress)
    parts = []
    listings = []
    for wheels, info in zip(groups, known, strict=True):
        finished, reused = (info, True) if info is not None else made[wheels]
        listings += files.of(wheels, finished)
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
    wheel_files.require_disjoint(listings)
    return PythonLayers(tuple(parts), _library_path(listings, interpreter.site_packages))


class _Stopped(Exception):  # noqa: N818  # not an error: another thread failed and reports why
    """Ends the work of a thread whose result nobody wants any more."""


class _Workshop:
    """Fetches wheels and builds layers side by side. Use as a context manager."""

    def __init__(
        self,
        interpreter: Interpreter,
        wanted: Options,
        *,
        ground: Ground | None,
        layers: LayerCache,
        files: WheelFiles,
        threads: int,
        cache: Path,
        sources: WheelSources,
    ) -> None:
        self._interpreter = interpreter
        self._wanted = wanted
        self._ground = ground
        self._layers = layers
        self._files = files
        self._threads = threads
        self._cache = cache
        self._sources = sources
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # Left in reverse: threads that wait for the compiler end when it kills its children.
        # One layer is compiled while others are written.
        self._builders = self._stack.enter_context(ThreadPoolExecutor(self._threads + 1, "layer"))
        self._fetchers = self._stack.enter_context(ThreadPoolExecutor(_DOWNLOADS, "wheel"))
        self._compiler = self._stack.enter_context(Compiler(self._interpreter, processes=self._threads))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._stack.__exit__(kind, value, trace)

    def make(self, groups: Sequence[Group], progress: Progress) -> dict[Group, tuple[LayerInfo, bool]]:
        """The layers of `groups`, and whether another process had made them meanwhile."""
        total = sum(one.size or 0 for wheels in groups for one in wheels)
        with (
            progress.task("Fetching wheels", total=total, unit="bytes") as fetching,
            progress.task("Building Python layers", total=total, unit="bytes") as building,
        ):
            fetched = {one: self._fetchers.submit(self._fetch, one, fetching.advance) for g in groups for one in g}
            futures = {
                self._builders.submit(self._layer, wheels, fetched, building.advance): wheels for wheels in groups
            }
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                _raise_first(done)
            except BaseException:
                self._stop.set()
                for layer in futures:
                    layer.cancel()
                for download in fetched.values():
                    download.cancel()
                raise
            return {wheels: future.result() for future, wheels in futures.items()}

    def _unless_stopped(self, advance: Advance) -> Advance:
        def checked(amount: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            advance(amount)

        return checked

    def _fetch(self, one: LockedWheel, advance: Advance) -> Path:
        return wheel_cache.fetch(
            one, cache=self._cache / "wheels", sources=self._sources, advance=self._unless_stopped(advance)
        )

    def _layer(
        self, wheels: Group, fetched: Mapping[LockedWheel, Future[Path]], advance: Advance
    ) -> tuple[LayerInfo, bool]:
        paths = [fetched[one].result() for one in wheels]
        make = partial(self._write, wheels, paths, self._unless_stopped(advance))
        return self._layers.obtain(layer_key(wheels, self._interpreter, self._wanted), make)

    def _write(self, wheels: Group, paths: Sequence[Path], advance: Advance, sink: Sink) -> LayerInfo:
        with ExitStack() as stack:
            opened = [
                stack.enter_context(
                    Wheel(
                        path,
                        one,
                        python=self._interpreter.version,
                        executable=self._interpreter.executable,
                        site=self._interpreter.site_packages,
                    )
                )
                for one, path in zip(wheels, paths, strict=True)
            ]
            listings = [self._files.remember(one) for one in opened]
            wheel_files.require_disjoint(listings)
            spool = stack.enter_context(Spool(self._cache, self._interpreter.version))
            if self._wanted.bytecode is not False:
                with self._turn:  # so that the heaviest layer, whose turn is first, can be written soonest
                    for one in opened:
                        self._compiler.compile(one.sources(), spool.add)
                        advance(0)
            items = _once(opened, spool.content, advance)
            fitted = items if self._ground is None else self._ground.fit(items)
            return write_layer(sink, fitted, self._wanted.compression)


def _raise_first(done: set[Future[tuple[LayerInfo, bool]]]) -> None:
    errors = [error for future in done if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, _Stopped)):
        raise error


def _once(
    wheels: Sequence[Wheel], compiled: Mapping[str, tuple[int, Opener]], advance: Advance
) -> Iterator[tuple[Entry, Content]]:
    """The files of all `wheels`; one that several share, as parts of a namespace do, is taken from the first."""
    seen = set[str]()
    for one in wheels:
        for entry, content in one.items(compiled, advance):
            if entry.path not in seen:
                seen.add(entry.path)
                yield entry, content
