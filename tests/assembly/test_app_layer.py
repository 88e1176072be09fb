"""What may enter the app layer."""

from pathlib import Path

import pytest

from tidewaiter.assembly import app
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, ProjectError

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
include = {include}
entrypoint = ["python", "/app/main.py"]
"""


def _project(folder: Path, include: str) -> projects.Project:
    (folder / "tidewaiter.toml").write_text(TOML.format(include=include))
    (folder / "main.py").write_text("print(1)\n")
    return projects.load(folder)


def test_files_come_sorted_without_caches(tmp_path: Path) -> None:
    """Folders are walked, caches and Git's own files left out, empty folders not mentioned."""
    for name in ("b/__pycache__/x.pyc", "b/.git/config", "b/z.py", "a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/empty").mkdir()
    found = app.collect(_project(tmp_path, '["b", "main.py", "a.py"]'))
    assert [file.path for file in found] == ["app/a.py", "app/b/z.py", "app/main.py"]


def test_nothing_is_taken_through_a_linked_folder(tmp_path: Path) -> None:
    """A committed link to a folder of the machine does not bring its files into the image."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    with pytest.raises(InputError, match="symbolic link"):
        app.collect(_project(folder, '["main.py", "link/secret"]'))
    with pytest.raises(InputError, match="outside the project"):
        app.collect(_project(folder, '["main.py", "link"]'))


@pytest.mark.parametrize("name", [".git", ".git/config", "pkg/__pycache__"])
def test_git_and_caches_cannot_be_asked_for(tmp_path: Path, name: str) -> None:
    """Git's folder, which may hold passwords, and bytecode of this machine are refused by name too."""
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ProjectError, match="never enter an image"):
        app.collect(_project(tmp_path, f'["main.py", "{name}"]'))


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    """A file name or link target that no image tool can show is an input error that names it."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/\udcff.txt").touch()
    with pytest.raises(InputError, match="not UTF-8"):
        app.collect(_project(tmp_path, '["main.py", "d"]'))
    (tmp_path / "d/\udcff.txt").unlink()
    (tmp_path / "d/link").symlink_to("\udcff")
    with pytest.raises(InputError, match="not UTF-8"):
        app.collect(_project(tmp_path, '["main.py", "d"]'))
