"""Commit, dirtiness and what must not run while asking Git."""

import subprocess
from pathlib import Path

import pytest

from tidewaiter.assembly import source
from tidewaiter.core import project
from tidewaiter.core.errors import ProjectError

TOML = """\
[image]
name = "team/app"
purpose = "training"
environment = "research"
[base]
use = "debian12-python3.11"
[python]
version = "3.11"
requirements = "requirements.in"
[app]
include = ["src"]
entrypoint = ["python", "/app/src/main.py"]
"""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> project.Project:
    """A committed project."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.py").write_text("print(1)\n")
    for name, text in (("tidewaiter.toml", TOML), ("requirements.in", ""), ("pylock.toml", ""), ("base.lock", "")):
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return project.load(tmp_path)


def test_clean_tree(repository: project.Project) -> None:
    """A committed tree gives the commit's first twelve digits as tag."""
    found = source.read(repository)
    head = subprocess.check_output(["git", "-C", str(repository.directory), "rev-parse", "HEAD"], text=True).strip()
    assert found.commit == head
    assert found.tag == head[:12]
    assert found.branch == "main"


def test_changed_input_is_dirty(repository: project.Project) -> None:
    """An edited input, a new file below an included folder and an ignored one all count as differences."""
    for name in ("src/main.py", "src/new.py", "requirements.in"):
        path = repository.directory / name
        before = path.read_bytes() if path.exists() else None
        path.write_text("changed\n")
        assert source.read(repository).tag.endswith("-dirty"), name
        path.write_bytes(before) if before is not None else path.unlink()
    (repository.directory / ".gitignore").write_text("*.csv\n")
    (repository.directory / "src/data.csv").write_text("1")
    assert source.read(repository).dirty


def test_unrelated_change_is_clean(repository: project.Project) -> None:
    """Files that do not enter the image, and bytecode beside the sources, change nothing."""
    (repository.directory / "notes.txt").write_text("x")
    (repository.directory / "src/__pycache__").mkdir()
    (repository.directory / "src/__pycache__/main.cpython-311.pyc").write_bytes(b"")
    assert not source.read(repository).dirty


def test_no_repository(tmp_path: Path) -> None:
    """Outside Git the error says which commands make a repository."""
    (tmp_path / "tidewaiter.toml").write_text(TOML)
    with pytest.raises(ProjectError, match="not in a Git repository") as caught:
        source.read(project.load(tmp_path))
    assert "git init" in caught.value.next_step


def test_no_commit(tmp_path: Path) -> None:
    """A repository without commits is told to commit."""
    (tmp_path / "tidewaiter.toml").write_text(TOML)
    git(tmp_path, "init", "-q")
    with pytest.raises(ProjectError, match="no commit yet"):
        source.read(project.load(tmp_path))


def test_credentials_are_cut_from_the_remote(repository: project.Project) -> None:
    """User and password of the remote never leave the machine's Git configuration."""
    git(repository.directory, "remote", "add", "origin", "https://user:secret@git.example.com/team/app.git")
    assert source.read(repository).remote == "https://git.example.com/team/app.git"


def test_repository_configuration_runs_nothing(repository: project.Project) -> None:
    """A file-system monitor configured in the repository is not started."""
    marker = repository.directory / "started"
    git(repository.directory, "config", "core.fsmonitor", f"touch {marker}; false")
    source.read(repository)
    assert not marker.exists()
