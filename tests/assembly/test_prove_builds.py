"""Rewrites proved for real: both Dockerfiles are built by buildah, tried and compared, through the command line."""

from pathlib import Path

import pytest

import little_shell
from servers import Tool
from workplace import Done, run

pytestmark = pytest.mark.interop


@pytest.fixture
def project(tmp_path: Path, tool: Tool, docker_registry: str) -> tuple[Path, dict[str, str]]:
    """A folder with a Dockerfile on an image with a shell, and the settings that reach its registry."""
    tool("buildah")
    little_shell.make_shell(tmp_path / "layout")
    extra = {"TIDEWAITER_PLAIN_HTTP": docker_registry, "TIDEWAITER_BUILDER": "buildah"}
    name = f"{docker_registry}/proving/shell:1"
    assert run(tmp_path / "home", "copy", f"oci:{tmp_path}/layout:shell", name, extra=extra).code == 0
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "hello.txt").write_text("hello\n")
    (folder / "Dockerfile").write_text(f"FROM {name}\nADD hello.txt /\nWORKDIR /bin\nCMD cat /hello.txt\n")
    return folder, extra


def _proved(folder: Path, extra: dict[str, str], smoke: str) -> Done:
    options = ("--fix", "--rewrite", "--prove", "--smoke", smoke, "--fail-on", "error")
    return run(folder.parent / "home", "lint", folder / "Dockerfile", *options, extra=extra)


def test_a_proved_rewrite_is_written(project: tuple[Path, dict[str, str]]) -> None:
    """Both are built and tried, sizes and times are said, and the new Dockerfile is in its place."""
    folder, extra = project
    done = _proved(folder, extra, "cat /hello.txt")
    assert done.code == 0, done.err
    assert (folder / "Dockerfile").read_text().endswith('COPY hello.txt /\nWORKDIR /bin\nCMD ["cat", "/hello.txt"]\n')
    assert "succeeds in both" in done.err
    assert done.err.count("s after one source changed") == 2
    assert (folder / ".dockerignore").exists()


def test_what_cannot_be_found_out_keeps_the_old_one(project: tuple[Path, dict[str, str]]) -> None:
    """A command that fails before, and a Dockerfile that does not build, are no answer."""
    folder, extra = project
    before = (folder / "Dockerfile").read_text()
    done = _proved(folder, extra, "cat /nothing")
    assert done.code == 3, done.err
    assert "in the old image already" in done.err
    (folder / "Dockerfile").write_text(broken := before.replace("CMD", "RUN cat /nothing\nCMD"))
    done = _proved(folder, extra, "")
    assert done.code == 3, done.err
    assert "could not be built" in done.err
    assert (folder / "Dockerfile").read_text() == broken
    assert not (folder / ".dockerignore").exists()


def test_a_rewrite_that_is_not_the_same_is_not_written(project: tuple[Path, dict[str, str]]) -> None:
    """A label in the place of MAINTAINER is another config: it is said, and the old Dockerfile kept."""
    folder, extra = project
    text = (folder / "Dockerfile").read_text().replace("WORKDIR", "MAINTAINER somebody\nWORKDIR")
    (folder / "Dockerfile").write_text(text)
    done = _proved(folder, extra, "cat /hello.txt")
    assert done.code == 1, done.err
    assert "not the same: labels" in done.err
    assert (folder / "Dockerfile").read_text() == text
