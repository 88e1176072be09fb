"""The locked wheels as layers: one for each large wheel, heaviest first, and one for the small rest.

The same wheel gives the same layer in every image with the same interpreter. A layer that is in the store already
needs neither the download nor the unpacking of its wheels.
"""

import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import isal
import msgspec

from tidewaiter.assembly import bytecode, wheel, wheel_cache, wheel_files
from tidewaiter.assembly.bytecode import Compiler, Interpreter, bytecode_path
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.python_lock import LockedWheel, PythonLock
from tidewaiter.assembly.wheel import Wheel
from tidewaiter.assembly.wheel_files import WheelFiles
from tidewaiter.core import durable, limits
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.oci.layer import FORMAT_VERSION, Entry, LayerInfo, Opener, Sink, write_layer
from tidewaiter.transport.client import Client

OWN_LAYER_BYTES = 2 * limits.MIB
"""A wheel of this size or more gets a layer of its own."""
_DOWNLOADS = 4

Group = tuple[LockedWheel, ...]
Advance = Callable[[int], None]


def group(wheels: Sequence[LockedWheel]) -> list[Group]:
    """Wheels by layer: large ones alone, heaviest first, at most `PYTHON_LAYERS` layers; the rest by name, last."""
    large = [one for one in wheels if (one.size or 0) >= OWN_LAYER_BYTES]
    large.sort(key=lambda one: (-(one.size or 0), one.name))
    if len(large) > limits.PYTHON_LAYERS or len(large) < len(wheels):
        large = large[: limits.PYTHON_LAYERS - 1]
    alone = set(large)
    rest = tuple(sorted((one for one in wheels if one not in alone), key=lambda one: one.name))
    return [*((one,) for one in large), *([rest] if rest else [])]


def layer_key(wheels: Group, interpreter: Interpreter) -> Mapping[str, object]:
    """Everything that the bytes of a layer of `wheels` depend on."""
    return {
        "kind": "python",
        "wheels": [[one.name, one.version, one.filename, one.sha256] for one in wheels],
        "python": interpreter.tag,
        "interpreter": interpreter.identity,
        "installation": wheel.FORMAT_VERSION,
        "bytecode": bytecode.FORMAT_VERSION,
        "layer": FORMAT_VERSION,
        "compressor": f"isal {isal.__version__} level 1",
    }


def _with_sizes(
    wheels: Sequence[LockedWheel], cache: Path, client: Client, progress: Progress
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
            found = wheel_cache.fetch(one, cache=cache, client=client).stat().st_size
            task.advance()
            return found

        known = dict(zip(unknown, pool.map(size, unknown), strict=True))
    return tuple(msgspec.structs.replace(one, size=known.get(one, one.size)) for one in wheels)


def build(
    lock: PythonLock,
    *,
    interpreter: Interpreter,
    layers: LayerCache,
    threads: int,
    settings: Settings,
    client: Client,
    progress: Progress,
) -> tuple[Part, ...]:
    """The layers of the locked wheels, bytecode included, in the order in which they stand in the image.

    Raises:
        InputError: a wheel is malformed or hostile, or two wheels write different files to one path.
        IntegrityError: a wheel is not what the lock or its RECORD says.
        UndeterminedError: a wheel could not be fetched, or the interpreter does not run here.
    """
    groups = group(_with_sizes(lock.wheels, settings.home.cache / "wheels", client, progress))
    files = WheelFiles(settings.home.cache / "wheel-files", interpreter.version, layers.store)
    known = [layers.find(layer_key(wheels, interpreter)) for wheels in groups]
    missing = [wheels for wheels, info in zip(groups, known, strict=True) if info is None]
    made: dict[Group, tuple[LayerInfo, bool]] = {}
    if missing:
        with _Workshop(
            interpreter, layers=layers, files=files, threads=threads, cache=settings.home.cache, client=client
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
            )
        )
    wheel_files.require_disjoint(listings)
    return tuple(parts)


class _Stopped(Exception):  # noqa: N818  # not an error: another thread failed and reports why
    """Ends the work of a thread whose result nobody wants any more."""


class _Workshop:
    """Fetches wheels and builds layers side by side. Use as a context manager."""

    def __init__(
        self,
        interpreter: Interpreter,
        *,
        layers: LayerCache,
        files: WheelFiles,
        threads: int,
        cache: Path,
        client: Client,
    ) -> None:
        self._interpreter = interpreter
        self._layers = layers
        self._files = files
        self._threads = threads
        self._cache = cache
        self._client = client
        self._stop = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # Left in reverse: threads that wait for the compiler end when it kills its children.
        self._builders = self._stack.enter_context(ThreadPoolExecutor(self._threads, "layer"))
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
            one, cache=self._cache / "wheels", client=self._client, advance=self._unless_stopped(advance)
        )

    def _layer(
        self, wheels: Group, fetched: Mapping[LockedWheel, Future[Path]], advance: Advance
    ) -> tuple[LayerInfo, bool]:
        paths = [fetched[one].result() for one in wheels]
        make = partial(self._write, wheels, paths, self._unless_stopped(advance))
        return self._layers.obtain(layer_key(wheels, self._interpreter), make)

    def _write(self, wheels: Group, paths: Sequence[Path], advance: Advance, sink: Sink) -> LayerInfo:
        with ExitStack() as stack:
            opened = [
                stack.enter_context(
                    Wheel(path, one, python=self._interpreter.version, executable=self._interpreter.executable)
                )
                for one, path in zip(wheels, paths, strict=True)
            ]
            listings = [self._files.remember(one) for one in opened]
            wheel_files.require_disjoint(listings)
            spool = stack.enter_context(_Spool(self._cache, self._interpreter.version))
            for one in opened:
                self._compiler.compile(one.sources(), spool.add)
                advance(0)
            return write_layer(sink, _once(opened, spool.content, advance))


def _raise_first(done: set[Future[tuple[LayerInfo, bool]]]) -> None:
    errors = [error for future in done if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, _Stopped)):
        raise error


def _once(
    wheels: Sequence[Wheel], compiled: Mapping[str, tuple[int, Opener]], advance: Advance
) -> Iterator[tuple[Entry, Opener | bytes | None]]:
    """The files of all `wheels`; one that several share, as parts of a namespace do, is taken from the first."""
    seen = set[str]()
    for one in wheels:
        for entry, content in one.items(compiled, advance):
            if entry.path not in seen:
                seen.add(entry.path)
                yield entry, content


class _Spool:
    """Bytecode on disk until its layer is written. Use as a context manager; nothing remains."""

    def __init__(self, folder: Path, version: str) -> None:
        self._version = version
        self._end = 0
        self.content: dict[str, tuple[int, Opener]] = {}
        """Size and opener by absolute path in the image."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__
        except OSError as error:
            raise durable.storage_error(error, str(folder)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, path: str, data: bytes) -> None:
        """Keep the bytecode of the source at `path`."""
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file.fileno(), data[written:], self._end + written)
        except OSError as error:
            raise durable.storage_error(error, "bytecode") from error
        self.content[bytecode_path(path, self._version)] = (
            len(data),
            partial(self._open, self._end, len(data)),
        )
        self._end += len(data)

    def _open(self, offset: int, size: int) -> io.BytesIO:
        return io.BytesIO(os.pread(self._file.fileno(), size, offset))
