"""The Git repository of a folder that is starting: what it says of itself, and its first commit."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tidewaiter.core import settings
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError

_SECONDS = 60
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgsign=false")
_NOBODY = ("-c", "user.name=tidewaiter init", "-c", "user.email=init@localhost")
"""Who makes the first commit where Git knows nobody."""


def _git(folder: Path, *arguments: str) -> tuple[int, str, str]:
    environment = {**settings.tool_environment(), "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", *_SAFE, "-C", str(folder), *arguments],
            capture_output=True,
            check=False,
            env=environment,
            timeout=_SECONDS,
        )
    except FileNotFoundError as error:
        raise MissingToolError("git is not installed", next_step="Install git, then run the command again.") from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"git took over {_SECONDS} s in {folder}", next_step="Look for a hanging disk.") from error
    return done.returncode, done.stdout.decode(errors="replace").strip(), done.stderr.decode(errors="replace").strip()


def has_commit(folder: Path) -> bool:
    """Whether the folder lies in a repository that has a commit. Raises `MissingToolError`, `DeadlineError`."""
    return _git(folder, "rev-parse", "--verify", "-q", "HEAD^{commit}")[0] == 0


def prefix(folder: Path) -> str:
    """Path of the folder from the root of its repository, without a slash at the end; empty for the root itself."""
    code, path, _ = _git(folder, "rev-parse", "--show-prefix")
    return "" if code else path.rstrip("/")


def remote(folder: Path) -> str:
    """`HOST/PATH` of the remote `origin`, without user, password and `.git`; empty when there is none."""
    code, url, _ = _git(folder, "config", "--get", "remote.origin.url")
    if code or not url:
        return ""
    short = re.fullmatch(r"(?:[^@/]+@)?([^:/]+):(?!/)(.+)", url)  # git@host:team/name.git
    try:
        host, path = (short[1], short[2]) if short else (urlsplit(url).hostname or "", urlsplit(url).path)
    except ValueError:
        return ""
    return f"{host}/{path.strip('/').removesuffix('.git')}" if host else ""


def image_name(folder: Path) -> str:
    """A name for the image: the last two words of the remote's path, else `team/FOLDER`."""
    words = [re.sub(r"[^a-z0-9]+", "-", one.lower()).strip("-") for one in remote(folder).split("/")[1:]]
    words = [one for one in words if one]
    own = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "image"
    return "/".join(words[-2:]) if words[1:] else f"team/{own}"


def first_commit(folder: Path, paths: Sequence[str]) -> None:
    """Make a repository where there is none, and commit `paths`, and nothing else.

    Raises:
        InputError: Git refuses.
    """
    if _git(folder, "rev-parse", "--git-dir")[0]:
        _required(folder, "init", "-q", "-b", "main")
    _required(folder, "add", "--", *paths)
    knows = all(not _git(folder, "config", name)[0] for name in ("user.name", "user.email"))
    _required(folder, *(() if knows else _NOBODY), "commit", "-q", "-m", "Start with tidewaiter", "--", *paths)


def _required(folder: Path, *arguments: str) -> None:
    code, _, why = _git(folder, *arguments)
    if code:
        raise InputError(
            f"git {arguments[0] if arguments[0] != '-c' else 'commit'} failed in {folder}: {why[:500]}",
            next_step="Mend what Git says, commit the files, then run `tidewaiter ci`.",
        )
