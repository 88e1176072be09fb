"""Models as layers: files of a folder at `/models/NAME/VERSION`, the same bytes wherever they are built.

A model is large and seldom lies in Git. What names it is its content digest: the SHA-256 of one line per file, sorted
by path, with path, size and SHA-256. It is recorded with every build. `digest` in the project file pins it: then the
commit decides the model's bytes, whether Git holds them or not.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self, cast

import msgspec

from tidewaiter.assembly import options
from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.source import walk
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, ProjectError
from tidewaiter.core.progress import Progress, Task
from tidewaiter.core.project import ModelSection, Project
from tidewaiter.oci import compression, layer
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layer import Entry, LayerInfo, Opener, Sink

ROOT = "models"
_CHUNK = 1 << 20


class ModelFile(msgspec.Struct, frozen=True):
    """One file: path inside the model, where it lies here, what it holds."""

    path: str
    origin: Path
    size: int
    sha256: str


class Model(msgspec.Struct, frozen=True):
    """A model whose files were read once."""

    name: str
    version: int
    files: tuple[ModelFile, ...]

    @property
    def folder(self) -> str:
        """Where it lies in the image, relative to the root."""
        return f"{ROOT}/{self.name}/{self.version}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> Digest:
        """Names the content, wherever it lies and whenever it was written."""
        found = hashlib.sha256()
        for file in self.files:
            found.update(f"{file.sha256}  {file.size}  {file.path}\n".encode())
        return Digest(f"sha256:{found.hexdigest()}")

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def collect(project: Project, progress: Progress) -> tuple[Model, ...]:
    """Every model of the project, read and hashed.

    Raises:
        ProjectError: a path does not exist, is no folder or empty, two models are the same, or the content is not
            the one that `digest` pins.
        InputError: a link, a socket, a device, or a file that cannot be read.
        LimitError: too many files or bytes.
    """
    found: dict[str, Model] = {}
    for section in project.file.models:
        model = _read(project, section, progress)
        if model.folder in found:
            raise ProjectError(
                f"{project.path}: two [[models]] are {model}", next_step="Give one of them another version."
            )
        if section.digest is not None and model.digest != section.digest:
            raise ProjectError(
                f"{project.path}: the model {model} in {section.path} is {model.digest}, its digest says "
                f"{section.digest}",
                next_step=f'Fetch the model that was meant, or write digest = "{model.digest}".',
            )
        found[model.folder] = model
    return tuple(found.values())


def _read(project: Project, section: ModelSection, progress: Progress) -> Model:
    start = project.directory / section.path
    where = f"{project.path}: [[models]] {section.name}"
    steps = [start, *start.parents][: len(Path(section.path).parts)]
    linked = next((step for step in steps if step.is_symlink()), None)
    if linked is not None:
        raise ProjectError(f"{where}: {linked} is a symbolic link", next_step="Name the folder by its real path.")
    if not start.is_dir():
        raise ProjectError(f"{where}: {start} is not a folder", next_step="Name the folder that holds saved_model.pb.")
    paths = list(_files(start))
    if not paths:
        raise ProjectError(f"{where}: {start} holds no files", next_step="Save the model there first.")
    total = sum(path.lstat().st_size for path in paths)
    if len(paths) > limits.MODEL_FILES or total > limits.MODEL_BYTES:
        raise LimitError(
            f"{where}: {len(paths)} files of {total} bytes, over {limits.MODEL_FILES} or {limits.MODEL_BYTES}",
            next_step="Leave checkpoints and data out of the folder.",
        )
    with progress.task(f"Reading model {section.name}", total=total, unit="bytes") as task:
        files = [_file(start, path, task) for path in paths]
    files.sort(key=lambda file: file.path.encode())
    return Model(name=section.name, version=section.version, files=tuple(files))


def _files(start: Path) -> Iterator[Path]:
    for path in walk(start):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither file nor folder"
            raise InputError(
                f"{path} is {kind}, which a model cannot hold",
                next_step="Put the file itself there, or take it out of the model's folder.",
            )
        yield path


def _file(start: Path, path: Path, task: Task) -> ModelFile:
    inner = path.relative_to(start).as_posix()
    try:
        inner.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name of {inner!a} is not UTF-8", next_step="Rename it.") from error
    layer.check_path(inner, source=str(path))
    found, size = hashlib.sha256(), 0
    try:
        with _opened(path) as content:
            while data := content.read(_CHUNK):
                found.update(data)
                size += len(data)
                task.advance(len(data))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Mend its permissions.") from error
    return ModelFile(path=inner, origin=path, size=size, sha256=found.hexdigest())


def _opened(path: Path) -> BinaryIO:
    """The file, never what a link in its place leads to."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


class _Checked:
    """A file that is read to its size and must be what was hashed before. Use as a context manager."""

    def __init__(self, file: ModelFile, task: Task) -> None:
        self._file = file
        self._task = task
        self._content = _opened(file.origin)
        self._left = file.size
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._content.read(size)
        self._hash.update(data)
        self._left -= len(data)
        self._task.advance(len(data))
        if not self._left and self._hash.hexdigest() != self._file.sha256:
            raise IntegrityError(f"{self._file.origin} changed while it was read", next_step="Run the command again.")
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()


def _items(model: Model, task: Task) -> Iterator[tuple[Entry, Opener | bytes | None]]:
    for file in model.files:
        entry = Entry(path=f"{model.folder}/{file.path}", kind="file", size=file.size)
        yield entry, cast("Opener", partial(_Checked, file, task))


def build(
    model: Model,
    *,
    ground: Ground | None,
    wanted: Options = options.DEFAULT,
    layers: LayerCache,
    progress: Progress,
) -> Part:
    """The layer of `model`: every file 0644, every folder 0755, owned by root.

    Raises:
        IntegrityError: a file is not what was hashed.
        InputError: the base has something in the way.
    """
    key = {
        "what": "model",
        "format": layer.FORMAT_VERSION,
        "compressor": compression.identity(wanted.compression),
        "folder": model.folder,
        "files": [(file.path, file.size, file.sha256) for file in model.files],
        "ground": ground and ground.identity(f"{model.folder}/{file.path}" for file in model.files),
    }

    def make(sink: Sink) -> LayerInfo:
        with progress.task(f"Model layer {model}", total=model.size, unit="bytes") as task:
            items = _items(model, task)
            return layer.write_layer(sink, items if ground is None else ground.fit(items), wanted.compression)

    info, reused = layers.obtain(key, make)
    return Part(
        info=info,
        kind="model",
        title=f"model {model}",
        contents=(f"{model} {model.digest}",),
        reused=reused,
        media_type=wanted.layer_type,
    )
