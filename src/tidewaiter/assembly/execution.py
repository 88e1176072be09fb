"""Running an image here: its user, its environment, a read-only root, no network, nothing of the host.

Bubblewrap makes the sandbox; it needs neither root nor a daemon.
"""

import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tidewaiter.core import durable, settings
from tidewaiter.core.errors import InputError, MissingToolError, UndeterminedError
from tidewaiter.core.progress import Progress
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import rootfs
from tidewaiter.oci.image import Image

_LARGEST_ID = 2**31 - 1
_MOUNTED = ("proc", "dev", "tmp")
"""Folders of the image that the sandbox mounts over."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def unpacked(image: Image, cache: Path, progress: Progress) -> Path:
    """The image's root file system as a folder below `cache`, unpacked once per stack of layers.

    Raises:
        InputError: a layer is hostile or damaged; nothing is kept.
    """
    if not image.layers:
        raise InputError("the image has no layers, so there is nothing to run", next_step="Name another image.")
    name = digests.hexadecimal(documents.chain_id([diff_id for _, diff_id in image.layers]))
    root = cache / "images" / name
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


def _user(image: Image) -> tuple[int, int]:
    user, _, group = (image.config.config.user or "0").partition(":")
    if not user.isdecimal() or (group and not group.isdecimal()):
        raise InputError(
            f"the image runs as {image.config.config.user!r}, which is not a number",
            next_step="Set a numeric user, for example 65532, in the image.",
        )
    uid, gid = int(user), int(group or user)
    if uid > _LARGEST_ID or gid > _LARGEST_ID:
        raise InputError(f"the image runs as {user[:40]}, which is no user", next_step="Set 65532 in the image.")
    return uid, gid


def arguments(image: Image, root: Path, command: Sequence[str]) -> list[str]:
    """The bwrap command line that runs `command` (the image's own when empty) in `root`.

    Raises:
        InputError: the image has no command and none was given.
    """
    run = image.config.config
    words = list(command) or [*(run.entrypoint or []), *(run.cmd or [])]
    if not words:
        raise InputError("the image has no entry point", next_step="Give a command after `--`.")
    uid, gid = _user(image)
    environment = dict(item.partition("=")[::2] for item in run.env or [])
    environment.setdefault("PATH", _DEFAULT_PATH)
    if "" in environment or any("\0" in text for text in (*words, *(run.env or []), run.working_dir or "")):
        raise InputError(
            "the image's command, environment or folder has a NUL, or a variable has no name",
            next_step="Do not use this image: it is broken or hostile.",
        )
    line = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    line += ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108  # in the image
    line += ["--uid", str(uid), "--gid", str(gid), "--clearenv"]
    for key, value in environment.items():
        line += ["--setenv", key, value]
    return [*line, "--chdir", run.working_dir or "/", "--", *words]


def run(image: Image, command: Sequence[str], *, cache: Path, progress: Progress) -> int:
    """Run `command` in the image with this process's standard streams; returns its exit code.

    Raises:
        MissingToolError: bwrap is not installed.
        UndeterminedError: the sandbox or the command could not be started.
        InputError: as `unpacked` and `arguments`.
    """
    if shutil.which("bwrap") is None:
        raise MissingToolError(
            "bwrap is not installed", next_step="Install it (Debian: apt-get install bubblewrap) and run again."
        )
    line = arguments(image, unpacked(image, cache, progress), command)
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
        raise UndeterminedError(
            "the command could not be started in the image",
            next_step="See what bwrap says above; check that the program is in the image.",
            code="not_started",
        )
    return done.returncode
