"""Layers of wheels that are not in the store yet, made side by side.

Wheels are fetched while layers are made; while one layer is written, the sources of the next are compiled.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tidewaiter.assembly import wheel_cache, wheel_files
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.bytecode_processes import Compiler
from tidewaiter.assembly.bytecode_spool import Spool
from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.layer_cache import Key, LayerCache
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.wheel import Wheel
from tidewaiter.assembly.wheel_files import WheelFiles
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core.progress import Progress
from tidewaiter.oci.compression import Compression
from tidewaiter.oci.layer import Content, Entry, LayerInfo, Opener, Sink, write_layer

_DOWNLOADS = 4

Group = tuple[LockedWheel, ...]
Advance = Callable[[int], None]


class _Stopped(Exception):  # noqa: N818  # not an error: another thread failed and reports why
    """Ends the work of a thread whose result nobody wants any more."""


class WheelWorkshop:
    """Fetches wheels and builds layers side by side. Use as a context manager."""

    def __init__(
        self,
        interpreter: Interpreter,
        key: Callable[[Group], Key],
        *,
        compiled: bool,
        compression: Compression,
        ground: Ground | None,
        layers: LayerCache,
        files: WheelFiles,
        threads: int,
        cache: Path,
        sources: WheelSources,
    ) -> None:
        self._interpreter = interpreter
        self._key = key
        self._compiled = compiled
        self._compression = compression
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
        if self._compiled:
            self._interpreter.root()  # takes seconds when it must be unpacked: in this thread it can be interrupted
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
        return self._layers.obtain(self._key(wheels), make)

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
            if self._compiled:
                with self._turn:  # so that the heaviest layer, whose turn is first, can be written soonest
                    for one in opened:
                        self._compiler.compile(one.sources(), spool.add)
                        advance(0)
            items = _once(opened, spool.content, advance)
            fitted = items if self._ground is None else self._ground.fit(items)
            return write_layer(sink, fitted, self._compression)


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
