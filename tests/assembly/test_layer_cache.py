"""Layers are made once, by one process, and damage is noticed."""

import itertools
import multiprocessing
import os
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from isal import isal_zlib

from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.core.errors import StorageError
from tidewaiter.core.progress import SILENT
from tidewaiter.oci import compression
from tidewaiter.oci.compression import UnsteadyError
from tidewaiter.oci.layer import Entry, LayerInfo, Sink, write_layer
from tidewaiter.oci.layout import Layout

KEY = {"what": "test", "parts": ["a", "b"]}


def make(sink: Sink) -> LayerInfo:
    return write_layer(sink, [(Entry(path="etc/hello", kind="file", size=5), b"hello")])


def refuse(_sink: Sink) -> LayerInfo:
    pytest.fail("the layer was made again")


@pytest.fixture
def cache(tmp_path: Path) -> LayerCache:
    """A cache over a new store."""
    store = Layout(tmp_path / "store")
    store.create()
    return LayerCache(store, tmp_path / "layers", SILENT)


def test_second_time_is_reused(cache: LayerCache) -> None:
    """The same key, whatever the order of its fields, gives the stored layer without making it."""
    info, reused = cache.obtain(KEY, make)
    assert not reused
    again, reused = cache.obtain({"parts": ["a", "b"], "what": "test"}, refuse)
    assert (again, reused) == (info, True)
    assert cache.find(KEY) == info
    assert cache.find({"what": "other"}) is None


def test_touched_blob_is_hashed_and_kept(cache: LayerCache) -> None:
    """A blob with a new time stamp but the right bytes is still good."""
    info, _ = cache.obtain(KEY, make)
    os.utime(cache.store.blob_path(info.digest), (1, 1))
    assert cache.obtain(KEY, refuse) == (info, True)


def test_damaged_blob_is_made_again(cache: LayerCache) -> None:
    """A flipped byte or a cut end is noticed, and the layer is rebuilt."""
    info, _ = cache.obtain(KEY, make)
    path = cache.store.blob_path(info.digest)
    good = path.read_bytes()
    for bad in (bytes([good[0] ^ 1]) + good[1:], good[:-1], b""):
        path.chmod(0o600)
        path.write_bytes(bad)
        again, reused = cache.obtain(KEY, make)
        assert (again, reused) == (info, False)
        assert path.read_bytes() == good


def test_damaged_record_is_dropped(cache: LayerCache, tmp_path: Path) -> None:
    """A record that is not ours is ignored."""
    cache.obtain(KEY, make)
    (record,) = (tmp_path / "layers").glob("*.json")
    record.write_bytes(b"{")
    info, reused = cache.obtain(KEY, make)
    assert not reused
    assert cache.store.has(info.digest, info.size)


def test_removed_blob_is_made_again(cache: LayerCache) -> None:
    """A record whose blob is gone counts for nothing."""
    info, _ = cache.obtain(KEY, make)
    cache.store.blob_path(info.digest).unlink()
    assert cache.obtain(KEY, make) == (info, False)


def test_failure_leaves_nothing(cache: LayerCache) -> None:
    """When making a layer fails half-way, neither blob nor record nor temporary file stays."""

    def fail(sink: Sink) -> LayerInfo:
        sink.write(b"half")
        raise StorageError("the disk is full", next_step="Free space.")

    with pytest.raises(StorageError):
        cache.obtain(KEY, fail)
    assert list(cache.store.blobs()) == []
    assert list(cache.store.ingest.iterdir()) == []
    assert cache.find(KEY) is None


def _unsteady(monkeypatch: pytest.MonkeyPatch, *wrong: int) -> None:
    """Let the compressor objects that are made as the `wrong`-th (from 0) give other valid deflate data."""
    made = itertools.count()

    def compressobj(level: int, method: int, wbits: int) -> object:
        return isal_zlib.compressobj(0 if next(made) in wrong else level, method, wbits)

    stand_in = types.SimpleNamespace(compressobj=compressobj, DEFLATED=isal_zlib.DEFLATED, crc32=isal_zlib.crc32)
    monkeypatch.setattr(compression, "isal_zlib", stand_in)


@pytest.mark.parametrize("wrong", [[0], [1], [1, 2]])
def test_a_compressor_that_errs_changes_no_digest(
    cache: LayerCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[int]
) -> None:
    """As isal now and then gives other bytes for the same input. The layer is made again, and nothing else is kept."""
    _unsteady(monkeypatch)
    sound, _ = cache.obtain(KEY, make)
    other = LayerCache(Layout(tmp_path / "other"), tmp_path / "others", SILENT)
    other.store.create()
    _unsteady(monkeypatch, *wrong)
    assert other.obtain(KEY, make) == (sound, False)
    assert list(other.store.blobs()) == [sound.digest]
    assert list(other.store.ingest.iterdir()) == []


def test_a_compressor_that_errs_again_and_again_ends_the_build(
    cache: LayerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept of a layer whose bytes nobody can vouch for."""
    _unsteady(monkeypatch, 0, 2, 4, 6)
    with pytest.raises(UnsteadyError, match="in two ways"):
        cache.obtain(KEY, make)
    assert list(cache.store.blobs()) == []
    assert list(cache.store.ingest.iterdir()) == []
    assert cache.find(KEY) is None


def _slow(folder: Path, made: "multiprocessing.Queue[int]") -> None:
    def count(sink: Sink) -> LayerInfo:
        made.put(os.getpid())
        time.sleep(0.3)
        return make(sink)

    LayerCache(Layout(folder / "store"), folder / "layers", SILENT).obtain(KEY, count)


def test_two_processes_make_it_once(cache: LayerCache, tmp_path: Path) -> None:
    """Of processes that want the same layer at once, one makes it and the others wait."""
    context = multiprocessing.get_context("spawn")
    made: multiprocessing.Queue[int] = context.Queue()
    starter: Callable[..., object] = _slow
    workers = [context.Process(target=starter, args=(tmp_path, made)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert made.get(timeout=5)
    assert made.empty()
    assert cache.find(KEY) is not None
