"""How a container of an image starts: who it is, where, with which variables and folders; the same for every runner."""

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.oci.image import Image

_LARGEST_ID = 2**31 - 1
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
_BROKEN = "Do not use this image: it is broken or hostile."


class Volume(msgspec.Struct, frozen=True):
    """A file or folder of this machine inside the container."""

    host: Path
    inside: str
    read_only: bool


class Start(msgspec.Struct, frozen=True):
    """What to run, as whom, where."""

    words: tuple[str, ...]
    user: str
    """As the image says; empty means root."""
    environment: tuple[tuple[str, str], ...]
    folder: str
    volumes: tuple[Volume, ...]


class Account(msgspec.Struct, frozen=True):
    """Numbers and home of a user."""

    uid: int
    gid: int
    home: str


def parse_variable(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as a pair; raises `InputError`."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(_NAME, name) or "\0" in value:
        raise InputError(f"--env {text[:100]!r} is no NAME=VALUE", next_step="Write for example --env EPOCHS=3.")
    return name, value


def parse_volume(text: str) -> Volume:
    """`HOST:CONTAINER`, with `:ro` at the end or without; raises `InputError` when it is malformed or not there."""
    parts = text.split(":")
    mode = parts.pop() if len(parts) == 3 and parts[2] in {"ro", "rw"} else "rw"
    if len(parts) != 2 or not parts[0] or not parts[1].startswith("/") or "\0" in text:
        raise InputError(
            f"--volume {text[:200]!r} is no HOST:CONTAINER[:ro]",
            next_step="Write for example --volume ./data:/data:ro.",
        )
    inside = posixpath.normpath(parts[1])
    host = Path(parts[0]).absolute()
    if not host.exists():
        raise InputError(f"--volume: there is no {host}", next_step="Make it first, or name another.")
    if inside.strip("/") in {"", "proc", "dev", "sys"}:
        raise InputError(f"--volume: nothing can be put over {inside}", next_step="Name another folder inside.")
    return Volume(host=host, inside=inside, read_only=mode == "ro")


def start_of(image: Image, command: Sequence[str], *, more: Sequence[str] = (), volumes: Sequence[str] = ()) -> Start:
    """How `command` (the image's own when empty) runs in the image.

    Args:
        image: what to run.
        command: program and arguments.
        more: variables as `NAME=VALUE`, beside the image's and before them.
        volumes: as `HOST:CONTAINER[:ro]`.

    Raises:
        InputError: the image has no command and none was given; it or an option is malformed.
    """
    run = image.config.config
    words = tuple(command) or (*(run.entrypoint or ()), *(run.cmd or ()))
    if not words:
        raise InputError("the image has no entry point", next_step="Give a command after `--`.")
    environment = {"PATH": _DEFAULT_PATH} | dict(item.partition("=")[::2] for item in run.env or [])
    if "" in environment or any("\0" in text for text in (*words, *(run.env or []), run.working_dir or "")):
        raise InputError(
            "the image's command, environment or folder has a NUL, or a variable has no name", next_step=_BROKEN
        )
    environment |= dict(parse_variable(text) for text in more)
    return Start(
        words=words,
        user=run.user or "",
        environment=tuple(environment.items()),
        folder=run.working_dir or "/",
        volumes=tuple(parse_volume(text) for text in volumes),
    )


def account(user: str, root: Path) -> Account:
    """The user that `user` (`USER[:GROUP]`, names or numbers) means in the image unpacked at `root`.

    Without a group it is the user's own in `/etc/passwd`, else 0, as image-spec's `config.md` says.

    Raises:
        InputError: there is no such user or group, or it is no number that Linux has.
    """
    name, _, group = user.partition(":")
    name = name or "0"
    known = [fields for fields in _table(root, "passwd") if len(fields) >= 6 and name in {fields[0], fields[2]}]
    if not known and not name.isdecimal():
        raise InputError(
            f"the image runs as {name[:40]!r}, and its /etc/passwd has no such user",
            next_step="Set a numeric user, for example 65532, in the image.",
        )
    uid = known[0][2] if known else name
    gid = group or (known[0][3] if known else "0")
    if not gid.isdecimal():
        groups = [fields[2] for fields in _table(root, "group") if len(fields) >= 3 and fields[0] == gid]
        if not groups:
            raise InputError(
                f"the image runs with the group {gid[:40]!r}, which its /etc/group has not",
                next_step="Set a numeric group, for example 65532, in the image.",
            )
        gid = groups[0]
    if not (uid.isdecimal() and gid.isdecimal()) or max(int(uid), int(gid)) > _LARGEST_ID:
        raise InputError(f"the image runs as {user[:40]}, which is no user", next_step="Set 65532 in the image.")
    return Account(int(uid), int(gid), known[0][5] if known else "/")


def _table(root: Path, name: str) -> list[list[str]]:
    """Lines of `/etc/NAME` of the image, cut at colons; empty when it is not a file right there."""
    path = root / "etc" / name
    if path.parent.is_symlink() or path.is_symlink() or not path.is_file():
        return []
    with path.open("rb") as file:
        text = file.read(limits.METADATA_BYTES).decode(errors="replace")
    return [line.split(":") for line in text.splitlines()]
