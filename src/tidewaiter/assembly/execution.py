"""Running an image here: its user, its environment, a read-only root, no network, nothing of the host but volumes.

Bubblewrap needs neither root nor a daemon; where it cannot work (in most containers), podman or docker does.
"""

import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tidewaiter.assembly import dockerfile_tools, runners, running
from tidewaiter.assembly.runners import Engine
from tidewaiter.assembly.running import Start
from tidewaiter.core import durable, leases, limits, settings
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Home, Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import rootfs
from tidewaiter.oci.archive_writer import ArchiveNames, ArchiveWriter
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image

_MOUNTED = ("proc", "dev", "tmp")
"""Folders of the image that the sandbox mounts over."""
_ENGINE_FAILED = 125
"""Exit code of podman and docker for a container that was not started."""
_CHUNK = 1 << 20


def unpacked(image: Image, cache: Path, progress: Progress) -> Path:
    """The image's root file system as a folder below `cache`, unpacked once per stack of layers.

    Raises:
        InputError: a layer is hostile or damaged; nothing is kept.
    """
    if not image.layers:
        raise InputError("the image has no layers, so there is nothing to run", next_step="Name another image.")
    name = digests.hexadecimal(documents.chain_id([diff_id for _, diff_id in image.layers]))
    root = cache / "images" / name
    leases.claim(root)
    with durable.exclusive(cache / "images" / f"{name}.lock"):
        if root.is_dir():
            return root
        temporary = cache / "images" / f".{name}.{secrets.token_hex(4)}"
        try:
            rootfs.unpack_image(image, temporary, progress=progress)
            _make_mount_points(temporary)
            temporary.replace(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return root


def _make_mount_points(root: Path) -> None:
    """Give `root`, which will be read-only, the folders to mount over; a link there could lead out of it."""
    for name in _MOUNTED:
        path = root / name
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError:
            pass  # told below
        except OSError as error:
            raise durable.storage_error(error, str(path)) from error
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise InputError(f"the image's /{name} is not a folder", next_step="Do not use this image: it is broken.")


def keep_few(home: Home) -> None:
    """Remove unpacked images past `limits.UNPACKED_IMAGES`, those not used for longest, never one that is in use.

    Call it when the command is done: this process must hold no lease on the home.
    """
    folder = home.cache / "images"
    if not folder.is_dir() or sum(path.is_dir() for path in folder.iterdir()) <= limits.UNPACKED_IMAGES:
        return
    with leases.alone(home.path) as uses:

        def last_used(root: Path) -> float:
            return uses.last.get(str(root.relative_to(home.path)), root.stat().st_mtime)

        roots = sorted((path for path in folder.iterdir() if path.is_dir()), key=last_used, reverse=True)
        for root in roots[limits.UNPACKED_IMAGES :]:
            if str(root.relative_to(home.path)) not in uses.claimed:
                shutil.rmtree(root, ignore_errors=True)


def run(
    image: Image,
    command: Sequence[str],
    *,
    variables: Sequence[str] = (),
    volumes: Sequence[str] = (),
    wanted: Settings,
    progress: Progress,
) -> int:
    """Run `command` in the image with this process's standard streams; returns its exit code.

    Args:
        image: what to run.
        command: program and arguments; the image's own when empty.
        variables: `NAME=VALUE`, put over the image's.
        volumes: `HOST:CONTAINER[:ro]`.
        wanted: names the runner and the home.
        progress: shows the unpacking.

    Raises:
        MissingToolError: nothing here can run an image.
        UndeterminedError: the sandbox or the command could not be started.
        InputError: as `unpacked` and `running.start_of`.
    """
    start = running.start_of(image, command, more=variables, volumes=volumes)
    runner = runners.choose(wanted.runner)
    if runner == "bwrap":
        return _in_sandbox(runners.bwrap_line(unpacked(image, wanted.home.cache, progress), start))
    return _in_engine(Engine(runner), image, start, wanted=wanted, progress=progress)


def _in_sandbox(line: list[str]) -> int:
    sys.stdout.flush()
    heard, told = os.pipe()
    with os.fdopen(heard, "rb") as status:
        try:
            line[1:1] = ["--json-status-fd", str(told)]
            done = subprocess.run(line, check=False, env=settings.tool_environment(), pass_fds=(told,))
        finally:
            os.close(told)
        started = b'"exit-code"' in status.read()
    if done.returncode < 0:
        return 128 - done.returncode
    if not started:
        # bwrap exits with 1 too, and a sandbox that failed is not a command that said no.
        raise _not_started("bwrap")
    return done.returncode


def _not_started(program: str) -> UndeterminedError:
    return UndeterminedError(
        "the command could not be started in the image",
        next_step=f"See what {program} says above; check that the program is in the image.",
        code="not_started",
    )


def _in_engine(engine: Engine, image: Image, start: Start, *, wanted: Settings, progress: Progress) -> int:
    name = runners.image_name(image.digest)
    if not dockerfile_tools.asked(*engine.has(name))[0]:
        _load(engine, image, name, wanted.home, progress)
    sys.stdout.flush()
    done = subprocess.run(engine.run(name, start), check=False, env=settings.engine_environment())
    if done.returncode < 0:
        return 128 - done.returncode
    if done.returncode == _ENGINE_FAILED:
        raise _not_started(engine.program)
    return done.returncode


def _load(engine: Engine, image: Image, name: str, home: Home, progress: Progress) -> None:
    work = home.cache / "work"
    work.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=work) as folder,
        progress.task(f"Loading the image into {engine.program}"),
        ArchiveWriter(Path(folder, "image.tar")) as archive,
    ):
        config = image.manifest.config
        for blob in dict.fromkeys([image.descriptor, config, *image.manifest.layers]):
            if blob.digest not in archive.blobs:
                archive.add_blob(blob.digest, blob.size, _pieces(image, blob.digest))
        archive.commit(image.descriptor, ArchiveNames(full=name, familiar=name), (), image.manifest)
        done = subprocess.run(
            engine.load(archive.path),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=settings.engine_environment(),
        )
        if done.returncode:
            raise UndeterminedError(
                f"{engine.program} did not take the image: {done.stderr.decode(errors='replace').strip()[-400:]}",
                next_step=f"See whether `{engine.program} load` works here, or set TIDEWAITER_RUNNER.",
                code="not_started",
            )


def _pieces(image: Image, digest: Digest) -> Iterator[bytes]:
    if digest == image.digest:
        yield image.source.read(digest)
        return
    with image.source.open(digest) as file:
        while data := file.read(_CHUNK):
            yield data
