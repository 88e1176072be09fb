"""Listings of wheels and verdicts on them that are not in the cache, or damaged, are made again."""

import hashlib
from pathlib import Path

import pytest

from tidewaiter.assembly.installation import site_packages
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.wheel_files import WheelFiles
from tidewaiter.core.errors import InputError
from tidewaiter.oci.layer import Entry, LayerInfo, write_layer
from tidewaiter.oci.layout import Layout


def test_what_a_wheel_carries_inside_is_no_wheel(tmp_path: Path) -> None:
    """setuptools ships other packages with their metadata inside itself; only its own RECORD counts."""
    store = Layout(tmp_path / "store")
    store.create()
    site = site_packages("3.11")
    files = {
        f"{site}/one-1.0.dist-info/RECORD": b"one/__init__.py,sha256=abc,0\n",
        f"{site}/one/_vendor/two-2.0.dist-info/RECORD": b"two.py,sha256=def,0\n",
    }
    with store.writer() as writer:
        info = write_layer(
            writer, [(Entry(path=path, kind="file", size=len(data)), data) for path, data in files.items()]
        )
        writer.commit(info.digest)
    one = LockedWheel(name="one", version="1.0", filename="one-1.0-py3-none-any.whl", sha256="0" * 64, size=1)
    listings = WheelFiles(tmp_path / "listings", "3.11", store).of([one], info)
    assert [listing.wheel for listing in listings] == [str(one)]
    assert listings[0].files == {f"{site}/one/__init__.py": "sha256=abc"}


SITE = site_packages("3.11")


def _layer(store: Layout, name: str, sha256: str) -> tuple[list[LockedWheel], LayerInfo]:
    """A layer of one wheel, whose `shared.so` has `sha256` in its RECORD."""
    record = f"shared/lib/shared.so,sha256={sha256},1\n".encode()
    entry = Entry(path=f"{SITE}/{name}-1.0.dist-info/RECORD", kind="file", size=len(record))
    with store.writer() as writer:
        info = write_layer(writer, [(entry, record)])
        writer.commit(info.digest)
    wheel = LockedWheel(
        name=name,
        version="1.0",
        filename=f"{name}-1.0-py3-none-any.whl",
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        size=1,
    )
    return [wheel], info


@pytest.mark.parametrize("damage", [b"", b"{}", b"none"])
def test_a_damaged_verdict_is_none(tmp_path: Path, damage: bytes) -> None:
    """That wheels do not fight is believed only of an intact verdict on these very layers."""
    store = Layout(tmp_path / "store")
    store.create()
    layers = [_layer(store, "one", "abc"), _layer(store, "two", "abc")]
    files = WheelFiles(tmp_path / "listings", "3.11", store)
    assert files.folders(layers) == (f"{SITE}/shared/lib",)
    (verdict,) = (tmp_path / "listings").glob("disjoint-*")
    intact = verdict.read_bytes()
    verdict.write_bytes(damage if damage != b"none" else intact.replace(b"shared/lib", b"shared/bin"))
    assert files.folders(layers) == (f"{SITE}/shared/lib",)
    assert verdict.read_bytes() == intact


def test_a_fight_is_never_remembered_as_peace(tmp_path: Path) -> None:
    """Wheels that write different files to one path are refused each time, and other layers have other verdicts."""
    store = Layout(tmp_path / "store")
    store.create()
    one, peaceful, hostile = _layer(store, "one", "abc"), _layer(store, "two", "abc"), _layer(store, "three", "def")
    files = WheelFiles(tmp_path / "listings", "3.11", store)
    files.folders([one, peaceful])
    for _ in range(2):
        with pytest.raises(InputError, match="different content"):
            files.folders([one, hostile])


def test_a_verdict_spares_the_listings(tmp_path: Path) -> None:
    """Layers that were compared once are not listed and compared again."""
    store = Layout(tmp_path / "store")
    store.create()
    layers = [_layer(store, "one", "abc"), _layer(store, "two", "abc")]
    files = WheelFiles(tmp_path / "listings", "3.11", store)
    found = files.folders(layers)
    for _, info in layers:
        store.blob_path(info.digest).unlink(missing_ok=True)
    for path in (tmp_path / "listings").iterdir():
        if not path.name.startswith("disjoint-"):
            path.unlink()
    assert files.folders(layers) == found
