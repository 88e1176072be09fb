"""The app layer: the project's own files under `/app`, the same bytes whoever checks them out."""

import hashlib
import io
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

import msgspec

from tidewaiter.assembly import bytecode, options
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.source import IGNORED_NAMES, included
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, ProjectError
from tidewaiter.core.progress import Progress
from tidewaiter.core.project import Project
from tidewaiter.oci import compression, layer
from tidewaiter.oci.layer import Content, Entry, LayerInfo, Opener, Sink

if TYPE_CHECKING:
    from tidewaiter.assembly.bytecode_spool import Spool

ROOT = "app"
_PIECE = 1 << 20


class AppFile(msgspec.Struct, frozen=True):
    """A file or symlink of the app: path in the image, where it lies here, and what it holds."""

    path: str
    origin: Path
    size: int
    executable: bool
    sha256: str
    target: str = ""


def _require_plain(project: Project, name: str) -> None:
    """Raise unless `name` is there, is ours to take in, and leads through no symbolic link."""
    start = project.directory / name
    if not start.exists() and not start.is_symlink():
        raise ProjectError(
            f"{project.path}: [app] include names {name}, which does not exist in {project.directory}",
            next_step="Create it or take it out of the list.",
        )
    if IGNORED_NAMES.intersection(Path(name).parts):
        raise ProjectError(
            f"{project.path}: [app] include names {name}; {', '.join(sorted(IGNORED_NAMES))} never enter an image",
            next_step="Take it out of the list.",
        )
    for parent in (project.directory / folder for folder in list(Path(name).parents)[:-1]):
        if parent.is_symlink():
            raise InputError(
                f"{project.path}: [app] include names {name}, and {parent} is a symbolic link",
                next_step="Name the file by its real path inside the project.",
            )


def _checked_link(project: Project, path: Path) -> str:
    target = str(path.readlink())
    if not _is_text(target):
        raise InputError(f"{path} links to {target!a}, which is not UTF-8", next_step="Rename what it links to.")
    inside = os.path.normpath(path.parent.relative_to(project.directory) / target)
    if PurePosixPath(target).is_absolute() or inside.split("/")[0] == "..":
        raise InputError(
            f"{path} is a symbolic link to {target}, outside the project",
            next_step="Replace the link by the file, or by a relative link inside the project.",
        )
    return target


def collect(project: Project) -> list[AppFile]:
    """All files that `[app] include` names, sorted, hashed.

    Raises:
        ProjectError: an included path does not exist.
        InputError: a socket, a device, an unreadable file, or a link that leaves the project.
        LimitError: too many files or bytes.
    """
    found: dict[str, AppFile] = {}
    total = 0
    for name in project.file.app.include:
        _require_plain(project, name)
    for path in included(project):
        inner = path.relative_to(project.directory).as_posix()
        if not _is_text(inner):
            raise InputError(f"the name of {inner!a} is not UTF-8", next_step="Rename it; images are read as UTF-8.")
        image_path = layer.check_path(f"{ROOT}/{inner}", source=str(path))
        found[image_path] = file = _app_file(project, path, image_path)
        total += file.size
        if len(found) > limits.APP_FILES or total > limits.APP_BYTES:
            raise LimitError(
                f"[app] include takes in over {limits.APP_FILES} files or {limits.APP_BYTES} bytes",
                next_step="Name the code only; data and models belong in volumes or their own layer.",
            )
    return [found[path] for path in sorted(found)]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _app_file(project: Project, path: Path, image_path: str) -> AppFile:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        target = _checked_link(project, path)
        return AppFile(path=image_path, origin=path, size=0, executable=False, sha256="", target=target)
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is neither file, folder nor link", next_step="Take it out of [app] include.")
    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: permission denied", next_step="Mend its permissions.") from error
    return AppFile(
        path=image_path,
        origin=path,
        size=status.st_size,
        executable=bool(status.st_mode & stat.S_IXUSR),
        sha256=digest,
    )


def _changed(file: AppFile) -> IntegrityError:
    return IntegrityError(f"{file.origin} changed while it was read", next_step="Run the command again.")


class _Verified(io.RawIOBase):
    """A file of the app; its last piece is handed over only when it is the file that was hashed."""

    def __init__(self, file: AppFile) -> None:
        self._file = file
        self._left = file.size
        self._hash = hashlib.sha256()
        try:
            self._stream = file.origin.open("rb", buffering=0)
        except OSError as error:
            raise _changed(file) from error

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._hash.update(data)
        self._left -= len(data)
        if (not data and self._left) or (not self._left and self._hash.hexdigest() != self._file.sha256):
            raise _changed(self._file)
        return data

    def close(self) -> None:
        self._stream.close()
        super().close()


def _open(file: AppFile) -> IO[bytes]:
    return cast("IO[bytes]", _Verified(file))


def _source(file: AppFile) -> bytes:
    with _open(file) as stream:
        return b"".join(iter(partial(stream.read, _PIECE), b""))


def _compile(
    files: Sequence[AppFile], interpreter: Interpreter, spool: "Spool", *, threads: int, progress: Progress
) -> None:
    sources = [
        file
        for file in files
        if file.path.endswith(".py") and not file.target and file.size <= limits.BYTECODE_SOURCE_BYTES
    ]
    if not sources:
        return
    from tidewaiter.assembly.bytecode_processes import Compiler

    with (
        progress.task("Compiling the app", total=len(sources)) as task,
        Compiler(interpreter, processes=min(threads, len(sources))) as compiler,
    ):

        def deliver(path: str, compiled: bytes) -> None:
            spool.add(path, compiled)
            task.advance()

        compiler.compile(((f"/{file.path}", partial(_source, file)) for file in sources), deliver)


def _items(files: list[AppFile], compiled: Mapping[str, tuple[int, Opener]]) -> Iterator[tuple[Entry, Content]]:
    for file in files:
        if file.target:
            yield Entry(path=file.path, kind="symlink", target=file.target), None
        else:
            mode = 0o755 if file.executable else 0o644
            yield Entry(path=file.path, kind="file", mode=mode, size=file.size), partial(_open, file)
    for path, (size, opener) in compiled.items():
        yield Entry(path=path.removeprefix("/"), kind="file", size=size), opener


def build(
    project: Project,
    files: list[AppFile],
    *,
    wanted: Options = options.DEFAULT,
    interpreter: Interpreter | None,
    ground: Ground | None = None,
    layers: LayerCache,
    threads: int,
    progress: Progress,
) -> Part:
    """The app layer of `files`, with bytecode by the image's own interpreter where there is one and it is wanted."""
    compiler = None if wanted.bytecode is False else interpreter
    key: dict[str, object] = {
        "what": "app",
        "format": layer.FORMAT_VERSION,
        "bytecode": compiler and bytecode.FORMAT_VERSION,
        "interpreter": compiler and compiler.identity,
        "compressor": compression.identity(wanted.compression),
        "files": [(file.path, file.executable, file.sha256, file.target) for file in files],
    }

    if ground is not None:
        compiled = {posixpath.join(posixpath.dirname(file.path), "__pycache__", "x") for file in files}
        key["ground"] = ground.identity([*(file.path for file in files), *sorted(compiled)])

    def make(sink: Sink) -> LayerInfo:
        from tidewaiter.assembly.bytecode_spool import Spool

        with Spool(layers.store.ingest, interpreter.version if interpreter else "") as spool:
            if compiler is not None:
                _compile(files, compiler, spool, threads=threads, progress=progress)
            items = _items(files, spool.content)
            return layer.write_layer(sink, items if ground is None else ground.fit(items), wanted.compression)

    info, reused = layers.obtain(key, make)
    return Part(
        info=info,
        kind="app",
        title=f"app: {', '.join(project.file.app.include)}",
        contents=tuple(file.path for file in files),
        reused=reused,
        media_type=wanted.layer_type,
    )
