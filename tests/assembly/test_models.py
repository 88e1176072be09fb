"""Models of a project: what may be one, what names it, and the layer that it becomes."""

import os
import tarfile
from pathlib import Path

import pytest

from tidewaiter.assembly import models
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.models import Model
from tidewaiter.core import limits
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, ProjectError
from tidewaiter.core.progress import SILENT
from tidewaiter.oci.layout import Layout

TOML = """\
[image]
name = "team/serving"
purpose = "serving"
environment = "research"
[base]
use = "store:base@sha256:{zeros}"
[[models]]
name = "mnist"
path = "model"
version = 7
{more}
"""


def _saved_model(folder: Path) -> Path:
    """The files of a SavedModel, empty `assets` included."""
    for name, content in (
        ("saved_model.pb", b"graph"),
        ("fingerprint.pb", b"f"),
        ("variables/variables.index", b"index"),
        ("variables/variables.data-00000-of-00001", bytes(range(256)) * 8192),
    ):
        (folder / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / name).write_bytes(content)
    (folder / "model/assets").mkdir()
    return folder


def _project(folder: Path, more: str = "") -> projects.Project:
    (folder / "tidewaiter.toml").write_text(TOML.format(zeros="0" * 64, more=more))
    return projects.load(folder)


def _collect(folder: Path, more: str = "") -> tuple[Model, ...]:
    return models.collect(_project(folder, more), SILENT)


def _layers(folder: Path) -> LayerCache:
    store = Layout(folder / "store")
    store.create()
    return LayerCache(store, folder / "layers", SILENT)


def test_a_saved_model_becomes_one_layer(tmp_path: Path) -> None:
    """Files lie below /models/NAME/VERSION, 0644 in folders of 0755, root's; the second time nothing is written."""
    (model,) = _collect(_saved_model(tmp_path))
    layers = _layers(tmp_path)
    part = models.build(model, ground=None, layers=layers, progress=SILENT)
    with layers.store.open(part.info.digest) as blob, tarfile.open(fileobj=blob) as read:
        members = {one.name: one for one in read.getmembers()}
        data = read.extractfile("models/mnist/7/variables/variables.data-00000-of-00001")
        assert data is not None
        assert data.read() == bytes(range(256)) * 8192
    assert set(members) == {
        "models",
        "models/mnist",
        "models/mnist/7",
        "models/mnist/7/saved_model.pb",
        "models/mnist/7/fingerprint.pb",
        "models/mnist/7/variables",
        "models/mnist/7/variables/variables.index",
        "models/mnist/7/variables/variables.data-00000-of-00001",
    }
    assert {(one.uid, one.gid, one.mode, one.mtime) for one in members.values() if one.isfile()} == {
        (0, 0, 0o644, 315_532_800)
    }
    assert {one.mode for one in members.values() if one.isdir()} == {0o755}
    assert part.kind == "model"
    assert part.contents == (f"mnist/7 {model.digest}",)
    assert models.build(model, ground=None, layers=layers, progress=SILENT).reused


def test_the_same_content_is_the_same_everywhere(tmp_path: Path) -> None:
    """Times, modes and the folder in which a model lies change neither its digest nor its layer; a byte does."""
    found = set()
    for name in ("one", "two"):
        folder = _saved_model(tmp_path / name)
        if name == "two":
            os.utime(folder / "model/saved_model.pb", (1, 1))
            (folder / "model/saved_model.pb").chmod(0o600)
        (model,) = _collect(folder)
        part = models.build(model, ground=None, layers=_layers(folder), progress=SILENT)
        found.add((model.digest, part.info))
    assert len(found) == 1
    (tmp_path / "two/model/fingerprint.pb").write_bytes(b"g")
    (model,) = _collect(tmp_path / "two")
    assert model.digest not in {digest for digest, _ in found}


def test_a_pinned_digest_must_hold(tmp_path: Path) -> None:
    """With `digest` the content that was meant is built and any other is refused with what it is."""
    (model,) = _collect(_saved_model(tmp_path))
    assert _collect(tmp_path, f'digest = "{model.digest}"') == (model,)
    (tmp_path / "model/saved_model.pb").write_bytes(b"other")
    (other,) = _collect(tmp_path)
    with pytest.raises(ProjectError, match=other.digest):
        _collect(tmp_path, f'digest = "{model.digest}"')
    with pytest.raises(ProjectError, match="is no SHA-256"):
        _collect(tmp_path, 'digest = "sha256:12"')


def test_what_changes_while_it_is_read_is_not_built(tmp_path: Path) -> None:
    """Other bytes than those that were hashed, of the same length or shorter, end the build."""
    (model,) = _collect(_saved_model(tmp_path))
    for content in (b"GRAPH", b"gr"):
        (tmp_path / "model/saved_model.pb").write_bytes(content)
        with pytest.raises(IntegrityError, match=r"changed|early"):
            models.build(model, ground=None, layers=_layers(tmp_path), progress=SILENT)
    assert list((tmp_path / "store").rglob("*.partial")) == []


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    """A link in a model, out of it or not, a pipe, and a linked model folder are refused by name."""
    folder = _saved_model(tmp_path)
    (folder / "model/link").symlink_to("saved_model.pb")
    with pytest.raises(InputError, match="link is a symbolic link"):
        _collect(folder)
    (folder / "model/link").unlink()
    os.mkfifo(folder / "model/pipe")
    with pytest.raises(InputError, match="pipe is neither"):
        _collect(folder)
    (folder / "model/pipe").unlink()
    (folder / "model").rename(folder / "real")
    (folder / "model").symlink_to("real")
    with pytest.raises(ProjectError, match="symbolic link"):
        _collect(folder)


def test_names_that_would_delete_are_refused(tmp_path: Path) -> None:
    """A file of a model that reads as a whiteout never gets into a layer."""
    folder = _saved_model(tmp_path)
    (folder / "model/.wh.saved_model.pb").touch()
    with pytest.raises(InputError, match="whiteout"):
        _collect(folder)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    """A path that is no folder, or one without files, and two models of one version are errors of the project."""
    with pytest.raises(ProjectError, match="is not a folder"):
        _collect(tmp_path)
    (tmp_path / "model/assets").mkdir(parents=True)
    with pytest.raises(ProjectError, match="holds no files"):
        _collect(tmp_path)
    (tmp_path / "model/saved_model.pb").touch()
    with pytest.raises(ProjectError, match="two \\[\\[models\\]\\] are mnist/7"):
        _collect(tmp_path, '[[models]]\nname = "mnist"\npath = "model"\nversion = 7')


def test_too_many_files_or_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds of files and bytes hold from both sides."""
    folder = _saved_model(tmp_path)
    (model,) = _collect(folder)
    monkeypatch.setattr(limits, "MODEL_FILES", 4)
    monkeypatch.setattr(limits, "MODEL_BYTES", model.size)
    assert _collect(folder) == (model,)
    monkeypatch.setattr(limits, "MODEL_FILES", 3)
    with pytest.raises(LimitError):
        _collect(folder)
    monkeypatch.setattr(limits, "MODEL_FILES", 4)
    monkeypatch.setattr(limits, "MODEL_BYTES", model.size - 1)
    with pytest.raises(LimitError):
        _collect(folder)
