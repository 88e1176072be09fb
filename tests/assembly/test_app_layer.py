"""What may enter the app layer."""

import os
import socket
import time
import tracemalloc
from pathlib import Path

import pytest

from tidewaiter.assembly import app, options
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.core import limits
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, ProjectError
from tidewaiter.core.progress import SILENT
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layer import Reader
from tidewaiter.oci.layout import Layout

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


def _layers(home: Path) -> LayerCache:
    store = Layout(home / "store")
    store.create()
    return LayerCache(store, home / "layers", SILENT)


def _built(project: projects.Project, home: Path, wanted: Options = options.DEFAULT) -> Part:
    files = app.collect(project)
    return app.build(project, files, wanted=wanted, interpreter=None, layers=_layers(home), threads=1, progress=SILENT)


def test_sockets_and_pipes_are_refused(tmp_path: Path) -> None:
    """What is neither file, folder nor link is named; it is not opened, so that nothing waits for it."""
    (tmp_path / "d").mkdir()
    project = _project(tmp_path, '["main.py", "d"]')
    os.mkfifo(tmp_path / "d/pipe")
    with pytest.raises(InputError, match="d/pipe is neither file, folder nor link"):
        app.collect(project)
    (tmp_path / "d/pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path / "d")  # the address of a socket is short
        try:
            listener.bind("s")
        finally:
            os.chdir(here)
        with pytest.raises(InputError, match="d/s is neither file, folder nor link"):
            app.collect(project)


@pytest.mark.parametrize("target", ["/etc/passwd", "/", "../outside", "d/../../outside", "sub/../../.."])
def test_links_that_leave_the_project_are_refused(tmp_path: Path, target: str) -> None:
    """Absolute links and links that climb out are named with their target, whether or not something is there."""
    folder = tmp_path / "project"
    (folder / "d").mkdir(parents=True)
    (folder / "link").symlink_to(target)
    with pytest.raises(InputError, match=f"link is a symbolic link to {target}, outside the project"):
        app.collect(_project(folder, '["main.py", "link"]'))


def test_links_inside_the_project_are_kept(tmp_path: Path) -> None:
    """A relative link that stays inside is written as the link that it is."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link").symlink_to("../main.py")
    project = _project(tmp_path, '["main.py", "d"]')
    part = _built(project, tmp_path / "home")
    with Layout(tmp_path / "home/store").open(part.info.digest) as blob:
        entries = {entry.path: entry for entry, _ in Reader(blob)}
    assert (entries["app/d/link"].kind, entries["app/d/link"].target) == ("symlink", "../main.py")


@pytest.mark.parametrize("change", ["print(2)\n", "", "print"], ids=["same-size", "emptied", "cut"])
def test_a_file_that_changes_after_it_was_hashed_stops_the_layer(tmp_path: Path, change: str) -> None:
    """What is written is what was hashed; no layer appears otherwise."""
    project = _project(tmp_path, '["main.py"]')
    files = app.collect(project)
    (tmp_path / "main.py").write_text(change)
    layers = _layers(tmp_path / "home")
    with pytest.raises(IntegrityError, match=r"main\.py changed while it was read"):
        app.build(project, files, interpreter=None, layers=layers, threads=1, progress=SILENT)
    assert list(layers.store.blobs()) == []


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    """64 MiB go through in pieces, and are what was there."""
    project = _project(tmp_path, '["main.py", "weights"]')
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(64 * limits.MIB)
    tracemalloc.start()
    try:
        part = _built(project, tmp_path / "home")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert part.info.tar_size > 64 * limits.MIB
    assert peak < 16 * limits.MIB


@pytest.mark.thorough
def test_many_files_are_taken_in_and_more_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the bound says, in reasonable time; one more is an error that says what to do instead."""
    many = 5_000
    monkeypatch.setattr(limits, "APP_FILES", many)
    project = _project(tmp_path, '["data"]')
    for number in range(many):
        if number % 1000 == 0:
            (tmp_path / f"data/{number // 1000}").mkdir(parents=True)
        (tmp_path / f"data/{number // 1000}/{number}.txt").touch()
    started = time.monotonic()
    part = _built(project, tmp_path / "home")
    assert time.monotonic() - started < 60
    assert len(part.contents) == many
    (tmp_path / "data/one-more").touch()
    with pytest.raises(LimitError, match="over 5000 files") as caught:
        app.collect(project)
    assert "volumes" in caught.value.next_step


def test_an_app_layer_may_be_zstd(tmp_path: Path) -> None:
    """The compression is part of the key and the media type; the tar stays the same."""
    project = _project(tmp_path, '["main.py"]')
    gzip = _built(project, tmp_path / "home")
    zstd = _built(project, tmp_path / "home", Options(compression="zstd"))
    assert zstd.info.diff_id == gzip.info.diff_id
    assert (gzip.media_type, zstd.media_type) == (documents.LAYER_GZIP, documents.LAYER_ZSTD)
