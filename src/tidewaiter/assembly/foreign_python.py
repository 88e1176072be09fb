"""The Python of an image that was not made here: which one a container would run, and where its modules lie.

1. Find `python3.N` as the image's own PATH does; it must be a program for the GNU C library, as the wheels are.
2. Ask it, in a sandbox that holds the image and nothing else, where it looks for modules.
3. Take out what the image has there of the packages that the lock brings, as an installer does: one layer of whiteouts
   by their RECORDs, below those of the wheels.
"""

import csv
import io
import posixpath
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name, parse_wheel_filename

from tidewaiter.assembly import bytecode_child, execution, libraries
from tidewaiter.assembly.bytecode import Interpreter, bytecode_path
from tidewaiter.assembly.foundation import Foundation, stacked
from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.unpacked_image import UnpackedImage
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError
from tidewaiter.core.progress import Progress
from tidewaiter.oci import compression, layer
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layer import WHITEOUT_PREFIX, Entry, LayerInfo, Sink
from tidewaiter.oci.manifest import RunConfig

_ASKER = Path(__file__).with_name("foreign_python_answer.py")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 60


def _program(image: UnpackedImage, config: RunConfig, version: str, name: str) -> str:
    """Step 1: absolute path of the interpreter; raises `InputError` when there is none that wheels fit."""
    variables = dict(item.partition("=")[::2] for item in config.env or [])
    folders = [folder for folder in variables.get("PATH", _PATH).split(":") if folder.startswith("/")]
    for folder in folders:
        path = posixpath.join(folder, f"python{version}")
        real = image.ground.resolve(path)
        found = None if real is None else image.elf(real)
        if found is None:
            continue
        if posixpath.basename(found.interpreter).startswith("ld-musl-"):
            raise InputError(
                f"{path} of {name} is made for musl; wheels are locked for the GNU C library",
                next_step="Use a base with the GNU C library, for example one of Debian.",
            )
        return path
    names = {one for folder in folders for one in image.ground.names(folder)}
    others = sorted(one for one in names if re.fullmatch(r"python3\.\d+", one) and one != f"python{version}")
    raise InputError(
        f"{name} has no program python{version} in {':'.join(folders)}",
        next_step=f"It has {', '.join(others[:5])}: set [python] version to that."
        if others
        else "Use a base with Python, or leave [python] out.",
    )


def _site(interpreter: Interpreter, name: str) -> str:
    """Step 2: folder of installed modules, relative to the root."""
    line = bytecode_child.sandboxed(interpreter, ["-I", "-B"], _ASKER)
    try:
        done = subprocess.run(
            line, check=False, capture_output=True, timeout=_SECONDS, env=settings.tool_environment(), cwd="/"
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(
            f"the Python of {name} did not answer within {_SECONDS} s", next_step="Run the command again."
        ) from error
    answer = done.stdout[-limits.PATH_BYTES :].decode(errors="replace").strip().rpartition("\n")[2]
    version, _, folder = answer.partition(" ")
    if done.returncode or not folder.startswith("/"):
        words = done.stderr[-limits.ERROR_BODY_BYTES :].decode(errors="replace").strip().rpartition("\n")[2]
        raise MissingToolError(
            f"the Python of {name} does not run in a sandbox here: {words[:300] or f'exit status {done.returncode}'}",
            next_step="Build where `bwrap` may start sandboxes, on the processor that the image is for.",
        )
    if version != interpreter.version:
        raise InputError(
            f"{interpreter.executable} of {name} says that it is Python {version[:20]}",
            next_step="Do not use this base: its names are wrong.",
        )
    return folder.strip("/")


def _installed(ground: Ground, site: str) -> dict[str, str]:
    """Folders of metadata in `site`, by the name of the distribution."""
    found: dict[str, str] = {}
    for name in ground.names(site):
        head, _, kind = name.rpartition(".")
        if kind in {"dist-info", "egg-info"}:
            found[canonicalize_name(head.partition("-")[0])] = name
    return found


def _removed(image: UnpackedImage, site: str, version: str, metadata: str, base: str) -> Iterator[str]:
    """Files of an installed distribution, and its folder of metadata."""
    record = image.text(f"{site}/{metadata}/RECORD", limits.WHEEL_METADATA_BYTES)
    if record is None:
        raise InputError(
            f"{base} has /{site}/{metadata} without RECORD, so that it cannot be replaced",
            next_step="Leave the package out of the requirements, or use a base without it.",
        )
    for row in csv.reader(io.StringIO(record, newline="")):
        path = posixpath.normpath(posixpath.join("/", site, row[0])).strip("/") if row else ""
        for one in (path, bytecode_path(path, version)) if path.endswith(".py") else (path,):
            real = image.ground.place(one) if one else ""
            found = image.ground.get(real)
            if found is not None and found.kind != "directory":
                yield real
    yield f"{site}/{metadata}"


def _whiteouts(ground: Ground, paths: Iterable[str]) -> Iterator[tuple[Entry, bytes]]:
    wanted = set(paths)
    for path in sorted(wanted):
        above = posixpath.dirname(path)
        while above and above not in wanted:
            above = posixpath.dirname(above)
        if not above and ground.get(path) is not None:
            folder, name = posixpath.split(path)
            yield Entry(path=posixpath.join(folder, WHITEOUT_PREFIX + name), kind="file", size=0), b""


def _c_library(image: UnpackedImage) -> tuple[int, ...]:
    """Version of the GNU C library by the symbol versions that it defines; empty when none is found."""
    for folder in libraries.standard_folders("", image.ground):
        real = image.ground.resolve(f"{folder}/libc.so.6")
        found = None if real is None else image.elf(real)
        if found is not None:
            versions = (re.fullmatch(r"GLIBC_(\d+)\.(\d+)", name) for name in found.defines)
            return max(((int(one[1]), int(one[2])) for one in versions if one), default=())
    return ()


def _needed(platform: str) -> tuple[int, ...]:
    """Version of the C library that a wheel's platform tag asks for (PEP 600, and PEPs 513, 571, 599 before it)."""
    older = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    stated = re.match(r"manylinux_(\d+)_(\d+)_", platform)
    return (int(stated[1]), int(stated[2])) if stated else older.get(platform.partition("_")[0], ())


def _require_c_library(image: UnpackedImage, filenames: Iterable[str], name: str) -> None:
    """Raise `InputError` for a wheel that needs a newer C library than the image has."""
    have = _c_library(image)
    for filename in filenames:
        need = min(_needed(tag.platform) for tag in parse_wheel_filename(filename)[3])
        if need > have:
            raise InputError(
                f"{filename} needs the GNU C library {need[0]}.{need[1]}, {name} has "
                f"{'.'.join(map(str, have)) or 'none'}",
                next_step="Pin an older release of the package, or use a newer base.",
            )


def find(
    below: Foundation,
    version: str,
    filenames: Iterable[str],
    *,
    layers: LayerCache,
    cache: Path,
    progress: Progress,
) -> Foundation:
    """`below` with the interpreter that compiles for it; `filenames` are those of the wheels that it will load.

    Raises:
        InputError: it has no such Python, or one that the wheels do not fit.
        MissingToolError: the Python does not run here.
    """
    assert below.ground is not None  # noqa: S101  # every image that exists has one
    root = execution.unpacked(stacked(below, layers.store), cache, progress)
    image = UnpackedImage(below.ground, root, below.config.env or [])
    program = _program(image, below.config, version, below.name)
    _require_c_library(image, filenames, below.name)
    found = Interpreter(
        rootfs=root,
        version=version,
        identity=digests.of("\n".join(part.info.diff_id for part in below.parts).encode()),
        program=program,
        foreign=True,
        architecture=below.platform.architecture,
    )
    told = _site(found, below.name)
    site = below.ground.place(told, whole=True)
    return msgspec.structs.replace(below, interpreter=msgspec.structs.replace(found, site=site))


def without(
    below: Foundation, names: Iterable[str], *, wanted: Options, layers: LayerCache, progress: Progress
) -> Foundation:
    """`below` without the distributions `names` (canonical) where the wheels will lie; itself when it has none.

    Raises:
        InputError: one of them cannot be taken out.
    """
    assert below.ground is not None  # noqa: S101  # as above
    interpreter = below.interpreter
    assert interpreter is not None  # noqa: S101  # `find` has set it
    installed = _installed(below.ground, interpreter.site_packages)
    replaced = sorted(set(names) & installed.keys())
    if not replaced:
        return below
    ground = below.ground
    image = UnpackedImage(ground, interpreter.rootfs, [])
    paths = [
        path
        for name in replaced
        for path in _removed(image, interpreter.site_packages, interpreter.version, installed[name], below.name)
    ]
    key = {
        "what": "replaced",
        "format": layer.FORMAT_VERSION,
        "compressor": compression.identity(wanted.compression),
        "below": interpreter.identity,
        "paths": sorted(paths),
    }

    def make(sink: Sink) -> LayerInfo:
        return layer.write_layer(sink, ground.fit(_whiteouts(ground, paths)), wanted.compression)

    info, reused = layers.obtain(key, make)
    progress.note(f"packages of {below.name} that the lock replaces: {', '.join(replaced)}")
    part = Part(
        info=info,
        kind="python",
        title=f"replaced: {', '.join(replaced)}",
        contents=(),
        reused=reused,
        media_type=wanted.layer_type,
    )
    above = ground.copy()
    above.add([entry for entry, _ in _whiteouts(ground, paths)])
    return msgspec.structs.replace(below, parts=(*below.parts, part), ground=above)
