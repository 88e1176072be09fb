"""Running an image here: its user, its environment, a read-only root, no network, nothing of the host.

Bubblewrap makes the sandbox; it needs neither root nor a daemon.
"""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tidewaiter.core import durable, settings
from tidewaiter.core.errors import InputError, MissingToolError
from tidewaiter.core.progress import Progress
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import rootfs
from tidewaiter.oci.image import Image

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def unpacked(image: Image, cache: Path, progress: Progress) -> Path:
    """The image's root file system as a folder below `cache`, unpacked once per stack of layers.

    Raises:
        InputError: a layer is hostile or damaged; nothing is kept.
    """
    name = digests.hexadecimal(documents.chain_id([diff_id for _, diff_id in image.layers]))
    root = cache / "images" / name
    with durable.exclusive(cache / "images" / f"{name}.lock"):
        if root.is_dir():
            return root
        temporary = cache / "images" / f".{name}.{secrets.token_hex(4)}"
        try:
            rootfs.unpack_image(image, temporary, progress=progress)
            temporary.replace(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return root


def _user(image: Image) -> tuple[int, int]:
    user, _, group = (image.config.config.user or "0").partition(":")
    if not user.isdecimal() or (group and not group.isdecimal()):
        raise InputError(
            f"the image runs as {image.config.config.user!r}, which is not a number",
            next_step="Set a numeric user, for example 65532, in the image.",
        )
    return int(user), int(group or user)


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
    """
    if shutil.which("bwrap") is None:
        raise MissingToolError(
            "bwrap is not installed", next_step="Install it (Debian: apt-get install bubblewrap) and run again."
        )
    line = arguments(image, unpacked(image, cache, progress), command)
    sys.stdout.flush()
    done = subprocess.run(line, check=False, env=settings.tool_environment())
    if done.returncode < 0:
        return 128 - done.returncode
    return done.returncode
