"""Wheels that nobody publishes, built once from their source distributions and recorded in the lock.

The wheel is known by what it is made of: source distribution, build requirements, interpreter. Another machine that
lacks the recorded wheel builds it again and must get the same bytes; nothing else is installed.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

import msgspec

from tidewaiter.assembly import isolated_build, wheel_cache
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.index_router import Made
from tidewaiter.assembly.isolated_build import Distribution, Sandbox
from tidewaiter.assembly.python_lock import Built, BuiltRecord, LockedWheel, record_of, toml
from tidewaiter.assembly.simple_index import File
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core.errors import InputError, IntegrityError
from tidewaiter.core.progress import Progress

Resolve = Callable[[Iterable[str]], tuple[LockedWheel, ...]]
"""The wheels that satisfy requirements."""


class SourceBuild(msgspec.Struct, frozen=True):
    """A wheel that was built: where it lies, and what it is made of."""

    path: Path
    wheel: LockedWheel
    metadata: bytes

    def line(self) -> str:
        """`tool.tidewaiter` of the package in the lock, as one line."""
        wheel = self.wheel
        requires = wheel.built.requires if wheel.built else ()
        record = BuiltRecord(
            wheel=wheel.filename,
            sha256=wheel.sha256,
            size=wheel.size or 0,
            requires=tuple(map(record_of, requires)),
        )
        return f"tool.tidewaiter = {toml(msgspec.to_builtins(record))}"


class SourceBuilder:
    """Builds source archives for one interpreter, each at most once per home. Safe with many threads and processes."""

    def __init__(self, interpreter: Interpreter, *, cache: Path, sources: WheelSources, progress: Progress) -> None:
        self._interpreter = interpreter
        self._cache = cache
        self._sources = sources
        self._progress = progress
        self._lock = Lock()
        self.made: dict[str, SourceBuild] = {}
        """What `from_index` built, by name and version."""

    def _fetch(self, wheel: LockedWheel) -> Path:
        return wheel_cache.fetch(wheel, cache=self._cache / "wheels", sources=self._sources)

    # Building

    def from_index(self, name: str, version: str, file: File, resolve: Resolve) -> Made:
        """The wheel of a source distribution that an index offers, build requirements resolved now."""
        sdist = LockedWheel(
            name=name, version=version, filename=file.filename, sha256=file.sha256, size=file.size, url=file.url
        )
        key = f"{name} {version}"
        with self._lock:
            known = self.made.get(key)
        if known is None:
            known = self.build(self._fetch(sdist), sdist, resolve)
            with self._lock:
                self.made[key] = known
        return Made(known.path, known.metadata)

    def build(self, archive: Path, sdist: LockedWheel, resolve: Resolve) -> SourceBuild:
        """The wheel of `archive`, whose build requirements are resolved now and recorded.

        Raises:
            InputError: it cannot be built, or is something else than it is called.
            UndeterminedError: something could not be fetched, or the sandbox did not start.
        """
        what = str(sdist)
        with isolated_build.scratch(self._cache) as folder, self._progress.task(f"Building {what} from its source"):
            sandbox = Sandbox(archive, Path(folder), interpreter=self._interpreter, what=what)
            said = sandbox.requires()
            wheels = resolve(said) if said else ()
            sandbox.install((one, self._fetch(one)) for one in wheels)
            wanted = sandbox.all_requires()
            if isolated_build.unsatisfied(wanted, wheels):
                wheels = resolve(sorted({*said, *wanted}))
                sandbox.install((one, self._fetch(one)) for one in wheels)
            return self._kept(sandbox, sdist, wheels, Path(folder))

    def rebuilt(self, wheel: LockedWheel) -> Path:
        """The recorded wheel, built again from what the lock says.

        Raises:
            IntegrityError: the build gives other bytes than the recorded ones.
            InputError, UndeterminedError: as `build`.
        """
        if wheel.built is None:
            raise InputError(f"the lock does not say what {wheel.filename} is built from", next_step="Lock again.")
        what = str(wheel)
        with isolated_build.scratch(self._cache) as folder, self._progress.task(f"Building {what} from its source"):
            archive = self._fetch(wheel.built.sdist)
            sandbox = Sandbox(archive, Path(folder), interpreter=self._interpreter, what=what)
            sandbox.install((one, self._fetch(one)) for one in wheel.built.requires)
            made = self._kept(sandbox, wheel.built.sdist, wheel.built.requires, Path(folder))
        if made.wheel.sha256 != wheel.sha256:
            raise IntegrityError(
                f"{what}: built again it is {made.wheel.filename} with sha256 {made.wheel.sha256}, the lock expects "
                f"{wheel.filename} with {wheel.sha256}",
                next_step="Copy the recorded wheel from the machine that locked, put it beside the requirements and "
                "name its path there; or lock again and review what changed.",
            )
        return made.path

    def _kept(self, sandbox: Sandbox, sdist: LockedWheel, wheels: tuple[LockedWheel, ...], folder: Path) -> SourceBuild:
        """Build, and keep the wheel where every fetched wheel lies."""
        output = folder / "built"
        output.mkdir()
        found = sandbox.build(output)
        _require_identity(found, sdist)
        path = output / found.filename
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        wheel = LockedWheel(
            name=sdist.name,
            version=sdist.version,
            filename=found.filename,
            sha256=sha256,
            size=path.stat().st_size,
            built=Built(sdist, wheels),
        )
        kept = wheel_cache.fetch(
            msgspec.structs.replace(wheel, path=path),
            cache=self._cache / "wheels",
            sources=self._sources,
        )
        return SourceBuild(kept, wheel, found.metadata)


def _require_identity(found: Distribution, sdist: LockedWheel) -> None:
    same = found.name == sdist.name and (not sdist.version or found.version == sdist.version)
    if not same:
        raise InputError(
            f"{sdist.filename} gives a wheel of {found.name} {found.version} instead of {sdist}",
            next_step="Do not use this source distribution: it is broken or hostile. Choose another release.",
            code="build_failed",
        )
