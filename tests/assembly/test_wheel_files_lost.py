"""Listings of wheels that are not in the cache are read from the layer again."""

from pathlib import Path

from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.wheel import site_packages
from tidewaiter.assembly.wheel_files import WheelFiles
from tidewaiter.oci.layer import Entry, write_layer
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
