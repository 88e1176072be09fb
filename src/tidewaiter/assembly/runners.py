"""What can run an image here, and what each is told: bubblewrap, in the unpacked image; podman and docker.

All are told the same: the image's user, variables and folder, a read-only root, an empty `/tmp`, no network, no
capabilities, no new privileges.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from tidewaiter.assembly import dockerfile_tools, running
from tidewaiter.assembly.running import Start, Volume
from tidewaiter.core.errors import InputError, MissingToolError
from tidewaiter.oci.digest import Digest

Runner = Literal["bwrap", "podman", "docker"]
ORDER: tuple[Runner, ...] = ("bwrap", "podman", "docker")
_PROBES: dict[Runner, tuple[str, ...]] = {
    "bwrap": ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"),
    "podman": ("podman", "info"),
    "docker": ("docker", "info", "--format", "{{.ServerVersion}}"),
}


class Engine(NamedTuple):
    """A container engine by its program; podman and docker understand the same words."""

    program: Literal["podman", "docker"]

    def has(self, name: str) -> list[str]:
        """The command line that succeeds when the image `name` is there."""
        return [self.program, "image", "inspect", name]

    def load(self, archive: Path) -> list[str]:
        """The command line that takes the image of an archive."""
        return [self.program, "load", "--quiet", "--input", str(archive)]

    def run(self, name: str, start: Start) -> list[str]:
        """The command line that runs the image `name`."""
        line = [self.program, "run", "--rm", "--interactive", "--pull", "never", "--read-only"]
        line += ["--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        line += ["--tmpfs", "/tmp", "--workdir", start.folder]  # noqa: S108  # in the image
        if start.user:
            line += ["--user", start.user]
        for key, value in start.environment:
            line += ["--env", f"{key}={value}"]
        for volume in start.volumes:
            line += ["--volume", f"{volume.host}:{volume.inside}:{'ro' if volume.read_only else 'rw'}"]
        return [*line, "--entrypoint", start.words[0], name, *start.words[1:]]


def image_name(digest: Digest) -> str:
    """What an image that was loaded for `exec` is called in an engine: by its digest, so that it is loaded once."""
    return f"localhost/tidewaiter-exec:{digest.partition(':')[2][:32]}"


def choose(wanted: str) -> Runner:
    """The runner `wanted`, or with `auto` the first of `ORDER` that works here.

    Raises:
        MissingToolError: it does not work here, or none does; the message has each one's reason.
    """
    reasons = []
    for name in ORDER:
        if wanted in {"auto", name}:
            works, said = dockerfile_tools.asked(*_PROBES[name])
            if works:
                return name
            reasons.append(f"{name}: {said}")
    raise MissingToolError(
        f"nothing here can run an image ({'; '.join(reasons)})",
        next_step="Install bubblewrap (Debian: apt-get install bubblewrap), or podman or docker.",
    )


def bwrap_line(root: Path, start: Start) -> list[str]:
    """The bwrap command line for the image that is unpacked at `root`.

    Raises:
        InputError: the user is unknown, or a volume's place in the image is behind a link or cannot be made.
    """
    user = running.account(start.user, root)
    environment = {"HOME": user.home} | dict(start.environment)
    line = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    line += _mounts(root, start.volumes)
    line += ["--uid", str(user.uid), "--gid", str(user.gid), "--clearenv"]
    for key, value in environment.items():
        line += ["--setenv", key, value]
    return [*line, "--chdir", start.folder, "--", *start.words]


def _mounts(root: Path, volumes: tuple[Volume, ...]) -> list[str]:
    kernel = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108  # in the image
    bound = []
    for volume in volumes:
        bound += ["--ro-bind" if volume.read_only else "--bind", str(volume.host), volume.inside]
    new = [volume.inside for volume in volumes if not _is_there(root, volume.inside)]
    if not new:
        return ["--ro-bind", str(root), "/", *kernel, *bound]
    # The root cannot get a new folder, so that an empty one stands in for it and holds all that the root holds.
    line = ["--tmpfs", "/"]
    for child in sorted(root.iterdir()):
        if child.is_symlink():
            line += ["--symlink", str(child.readlink()), f"/{child.name}"]
        elif child.name not in {"proc", "dev", "tmp"}:
            line += ["--ro-bind", str(child), f"/{child.name}"]
    for inside in new:
        if (root / inside.split("/")[1]).is_dir():
            raise InputError(
                f"--volume: the image has no {inside}, and its folders cannot be written",
                next_step="Name a place that the image has, one below /tmp, or a new folder in the root such as /data.",
            )
    return [*line, *kernel, *bound, "--remount-ro", "/"]


def _is_there(root: Path, inside: str) -> bool:
    """Whether `inside` can be mounted over: it exists in the image, or `/tmp` will hold it. Links are refused."""
    if inside == "/tmp" or inside.startswith("/tmp/"):  # noqa: S108  # in the image
        return True
    path = root
    for name in inside.strip("/").split("/"):
        path /= name
        if path.is_symlink():
            raise InputError(
                f"--volume: {inside} lies behind a link of the image", next_step="Name the folder that it leads to."
            )
    return path.exists()
