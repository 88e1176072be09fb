"""What of a project reaches a builder."""

import os
from pathlib import Path

import pytest

from tidewaiter.assembly import dockerfile_context, source
from tidewaiter.core import limits
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, ProjectError
from tidewaiter.core.project import Project
from tidewaiter.oci.layer import MTIME
from workplace import commit, git

FILE = """\
[image]
name = "team/small"
purpose = "training"
environment = "research"

[build]
dockerfile = "Dockerfile"
context = "{context}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A committed project with a Dockerfile, a program and a link."""
    folder = tmp_path / "project"
    (folder / "src/deep").mkdir(parents=True)
    (folder / "tidewaiter.toml").write_text(FILE.format(context="."))
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "src/deep/run.sh").write_text("#!/bin/sh\n")
    (folder / "src/deep/run.sh").chmod(0o700)
    (folder / "src/data").write_text("data")
    (folder / "src/link").symlink_to("data")
    (folder / ".gitignore").write_text(".env\n")
    commit(folder)
    return folder


def _project(folder: Path, context: str = ".") -> Project:
    (folder / "tidewaiter.toml").write_text(FILE.format(context=context))
    return projects.load(folder)


def test_only_tracked_files_with_fixed_attributes(folder: Path, tmp_path: Path) -> None:
    """Ignored and untracked files stay out; modes and times depend on neither umask nor checkout."""
    (folder / ".env").write_text("SECRET=1")
    (folder / "stray").write_text("stray")
    before = os.umask(0o077)
    try:
        dockerfile_context.stage(_project(folder), ".", tmp_path / "out", clean=True)
    finally:
        os.umask(before)
    found = {str(path.relative_to(tmp_path / "out")): path.lstat() for path in (tmp_path / "out").rglob("*")}
    assert {name: oct(one.st_mode & 0o777) for name, one in found.items() if name != "src/link"} == {
        ".gitignore": "0o644",
        "Dockerfile": "0o644",
        "src": "0o755",
        "src/data": "0o644",
        "src/deep": "0o755",
        "src/deep/run.sh": "0o755",
        "tidewaiter.toml": "0o644",
    }
    assert {one.st_mtime for one in found.values()} == {MTIME}
    assert (tmp_path / "out/src/link").readlink() == Path("data")


def test_part_of_the_project(folder: Path, tmp_path: Path) -> None:
    """A context below the project holds that folder's files at its own root."""
    dockerfile_context.stage(_project(folder, "src"), "src", tmp_path / "out", clean=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data", "deep", "link"]


def test_stray_files_do_not_make_a_build_dirty_and_changes_do(folder: Path) -> None:
    """What cannot reach the builder does not count; a changed, staged or deleted file of the context does."""
    project = projects.load(folder)
    (folder / "stray").write_text("stray")
    assert not source.read(project).dirty
    (folder / "src/data").write_text("Data")
    assert source.read(project).dirty
    git(folder, "checkout", "-q", "src/data")
    assert not source.read(project).dirty
    git(folder, "add", "stray")
    assert source.read(project).dirty
    git(folder, "reset", "-q")
    (folder / "src/deep/run.sh").unlink()
    assert source.read(project).dirty


def test_untracked_dockerfile_is_dirty(folder: Path) -> None:
    """A Dockerfile that the commit does not hold cannot give the commit's image."""
    git(folder, "rm", "-q", "--cached", "Dockerfile")
    git(folder, "commit", "-q", "-m", "without")
    assert source.read(projects.load(folder)).dirty


def test_deleted_files_are_left_out_of_a_dirty_build(folder: Path, tmp_path: Path) -> None:
    """A dirty build gets the working tree as it is."""
    (folder / "src/data").unlink()
    dockerfile_context.stage(_project(folder), ".", tmp_path / "out", clean=False)
    assert not (tmp_path / "out/src/data").exists()


def test_change_during_the_copy_is_noticed(folder: Path, tmp_path: Path) -> None:
    """A clean build whose file is not the commit's any more is refused."""
    (folder / "src/data").write_text("changed after the look")
    with pytest.raises(IntegrityError, match="changed while it was read"):
        dockerfile_context.stage(_project(folder), ".", tmp_path / "out", clean=True)


def test_folder_that_became_a_link_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    """A tracked folder replaced by a link does not bring in files from elsewhere."""
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "elsewhere/deep/run.sh").write_text("foreign")
    for path in (folder / "src/deep/run.sh", folder / "src/data", folder / "src/link"):
        path.unlink()
    (folder / "src/deep").rmdir()
    (folder / "src").rmdir()
    (folder / "src").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of the context"):
        dockerfile_context.stage(_project(folder), ".", tmp_path / "out", clean=False)


def test_pipe_in_the_place_of_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    """A named pipe under a tracked name does not hang the build."""
    (folder / "src/data").unlink()
    os.mkfifo(folder / "src/data")
    with pytest.raises(InputError, match="named pipe"):
        dockerfile_context.stage(_project(folder), ".", tmp_path / "out", clean=False)


def test_nothing_tracked_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    """A context that Git does not know is an error that says why."""
    (folder / "new").mkdir()
    with pytest.raises(ProjectError, match="Git tracks nothing"):
        dockerfile_context.stage(_project(folder, "new"), "new", tmp_path / "out", clean=False)


def test_bounds(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context of as many files and bytes as allowed is taken, one more is not."""
    project = _project(folder, "src")
    monkeypatch.setattr(limits, "CONTEXT_FILES", 3)
    monkeypatch.setattr(limits, "CONTEXT_BYTES", 18)
    dockerfile_context.stage(project, "src", tmp_path / "fits", clean=False)
    monkeypatch.setattr(limits, "CONTEXT_BYTES", 17)
    with pytest.raises(LimitError, match="bytes"):
        dockerfile_context.stage(project, "src", tmp_path / "large", clean=False)
    monkeypatch.setattr(limits, "CONTEXT_FILES", 2)
    with pytest.raises(LimitError, match="files"):
        dockerfile_context.stage(project, "src", tmp_path / "many", clean=False)
