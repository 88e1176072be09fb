"""Config and manifest of an assembled image."""

import datetime as dt
from pathlib import Path

from tidewaiter.assembly import image as assembled
from tidewaiter.assembly.options import AMD64
from tidewaiter.assembly.part import Part
from tidewaiter.oci import image as images
from tidewaiter.oci.layer import Entry, write_layer
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

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
