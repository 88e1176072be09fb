"""Config and manifest of an assembled image."""

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from tidewaiter.assembly import image as assembled
from tidewaiter.assembly.options import AMD64
from tidewaiter.assembly.part import Part
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layer import Entry, write_layer
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import History, RunConfig

CONFIG = RunConfig(user=assembled.USER, entrypoint=["python", "/app/x.py"], env=["PATH=/usr/bin"], working_dir="/app")
CREATED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def part(store: Layout, name: str) -> Part:
    with store.writer() as writer:
        info = write_layer(writer, [(Entry(path=name, kind="file", size=1), b"x")])
        writer.commit(info.digest)
    return Part(info=info, kind="app", title=name, contents=(name,), reused=False)


def test_same_arguments_same_digest(tmp_path: Path) -> None:
    """Two stores give the same manifest digest, and what is read back is what was written."""
    found = []
    for folder in ("one", "two"):
        store = Layout(tmp_path / folder)
        store.create()
        parts = [part(store, "a"), part(store, "b")]
        written = assembled.write(
            store, parts, config=CONFIG, platform=AMD64, created=CREATED, annotations={"b": "2", "a": "1"}
        )
        loaded = images.load(store, written)
        assert loaded.config.created == "2026-01-02T03:04:05Z"
        assert loaded.config.config.user == "65532:65532"
        assert loaded.config.config.entrypoint == ["python", "/app/x.py"]
        assert [diff_id for _, diff_id in loaded.layers] == [part.info.diff_id for part in parts]
        assert len(loaded.config.history) == 2
        found.append(written)
    assert found[0] == found[1]


def test_reused_flag_is_not_content(tmp_path: Path) -> None:
    """Whether a layer was there before does not change the image."""
    store = Layout(tmp_path)
    store.create()
    made = part(store, "a")
    warm = Part(info=made.info, kind=made.kind, title=made.title, contents=made.contents, reused=True)
    digests = {
        assembled.write(store, [one], config=CONFIG, platform=AMD64, created=CREATED, annotations={}).digest
        for one in (made, warm)
    }
    assert len(digests) == 1


def test_what_the_base_says_of_itself_is_kept(tmp_path: Path) -> None:
    """The base's history comes first, entries without a layer included; its labels stay but for what we say anew."""
    store = Layout(tmp_path)
    store.create()
    parts = [part(store, "a"), part(store, "b")]
    history = (History(created_by="ADD a"), History(created_by="ENV x", empty_layer=True))
    config = RunConfig(labels={"maintainer": "x", "org.opencontainers.image.version": "1"})
    said = {"org.opencontainers.image.version": "2", "org.opencontainers.image.title": "t"}
    written = assembled.write(
        store, parts, config=config, platform=AMD64, created=CREATED, annotations=said, history=history
    )
    loaded = images.load(store, written)
    assert [entry.created_by for entry in loaded.config.history] == ["ADD a", "ENV x", "tidewaiter: b"]
    assert loaded.config.config.labels == {"maintainer": "x", "org.opencontainers.image.version": "2"}


def test_docker_images_have_docker_types(tmp_path: Path) -> None:
    """Our gzip layers get Docker's media type with the same digest; zstd, which Docker's format lacks, is refused."""
    store = Layout(tmp_path)
    store.create()
    one = part(store, "a")
    written = assembled.write(
        store, [one], config=CONFIG, platform=AMD64, created=CREATED, annotations={"a": "1"}, docker=True
    )
    loaded = images.load(store, written)
    assert written.media_type == documents.DOCKER_MANIFEST
    assert [layer.media_type for layer in loaded.manifest.layers] == [documents.DOCKER_LAYER]
    assert loaded.manifest.layers[0].digest == one.info.digest
    assert loaded.config.config.labels == {"a": "1"}
    packed = msgspec.structs.replace(one, media_type=documents.LAYER_ZSTD)
    with pytest.raises(InputError, match="no Docker schema 2 image"):
        assembled.write(store, [packed], config=CONFIG, platform=AMD64, created=CREATED, annotations={}, docker=True)


def test_no_more_layers_than_tools_accept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of one layer over the bound is refused; at the bound it is written."""
    store = Layout(tmp_path)
    store.create()
    parts = [part(store, name) for name in "abc"]
    monkeypatch.setattr(limits, "IMAGE_LAYERS", 2)
    assembled.write(store, parts[:2], config=CONFIG, platform=AMD64, created=CREATED, annotations={})
    with pytest.raises(LimitError, match="3 layers"):
        assembled.write(store, parts, config=CONFIG, platform=AMD64, created=CREATED, annotations={})
