"""A place where the command line runs as a user runs it: a home, a committed project, the real programs."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "mnist"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidewaiter-tests"

PROJECT = """\
[image]
name = "team/small"
purpose = "training"
environment = "{environment}"

[base]
use = "debian12-python3.11"

[python]
version = "3.11"
requirements = "requirements.in"

[app]
include = ["main.py"]
entrypoint = ["python", "/app/main.py"]
"""


class Done(msgspec.Struct, frozen=True):
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(home: Path) -> dict[str, str]:
    """The environment of a user whose home this is."""
    kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    variables = {name: os.environ[name] for name in kept if name in os.environ}
    return {**variables, "TIDEWAITER_HOME": str(home), "COSIGN_PASSWORD": "", "LC_ALL": "C.UTF-8"}


def command(*arguments: object) -> list[str]:
    """The command line of `tidewaiter` with the interpreter that runs the tests."""
    return [sys.executable, "-m", "tidewaiter", *map(str, arguments)]


def run(home: Path, *arguments: object, extra: dict[str, str] | None = None, seconds: float = 300) -> Done:
    """Run `tidewaiter ARGUMENTS` in `home` to its end."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        env={**environment(home), **(extra or {})},
        check=False,
        timeout=seconds,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def git(folder: Path, *arguments: str) -> None:
    """Run git in `folder` as a test user."""
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    when = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
    subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True, env={**os.environ, **when}
    )


def commit(folder: Path) -> None:
    """Commit everything in `folder`, which becomes a repository when it is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "change")


def small_project(folder: Path, home: Path, *, requirements: str = "six==1.17.0\n", env: str = "staging") -> Path:
    """A committed project on the example's base lock with one tiny wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tidewaiter.toml").write_text(PROJECT.format(environment=env))
    (folder / "requirements.in").write_text(requirements)
    (folder / "main.py").write_text("import six\n\nprint('six', six.__version__)\n")
    shutil.copy(EXAMPLE / "base.lock", folder / "base.lock")
    locked = run(home, "lock", folder)
    assert locked.code == 0, locked.err
    commit(folder)
    return folder


@contextmanager
def example_home() -> Iterator[Path]:
    """A home kept on this machine: wheels are fetched and layers made once for all examples; one user at a time."""
    folder = CACHE / "example-2"
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / "example.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "keys").exists():
            assert run(folder, "key", "generate").code == 0
        yield folder
