import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from osv_feed import parsed, simple

from tidewaiter.advisories import snapshot
from tidewaiter.core.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "src" / "tidewaiter" / "advisories" / "data"


def test_the_shipped_snapshot_is_made_from_the_export(shared_data: Path, tmp_path: Path) -> None:
    """The script makes the shipped files again, byte for byte."""
    export = shared_data / "osv-pypi-2024-10-10.zip"
    subprocess.run([sys.executable, ROOT / "tools" / "make-advisory-snapshot", export, tmp_path], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {name: (DATA / name).read_bytes() for name in (snapshot.FILE, snapshot.ATTRIBUTION)}


def test_the_shipped_snapshot_holds_facts_only() -> None:
    """It is small, says what it is made from, and has none of the prose fields."""
    header, entries = snapshot.shipped()
    advisories = list(entries)
    assert header == snapshot.shipped_header()
    assert (header.ecosystem, header.entries, header.license) == ("PyPI", 2661, "CC-BY-4.0")
    assert (header.source, header.as_of) == ("pypa/advisory-database@3ccb612", "2024-10-10T17:22:00Z")
    assert len(advisories) == 2661
    packed = (DATA / snapshot.FILE).read_bytes()
    assert len(packed) < 1_000_000
    text = zstandard.decompress(packed)
    for word in (b'"details"', b'"summary"', b'"references"', b'"credits"', b"http:", b"https:"):
        assert word not in text
    assert "CC-BY-4.0" in (DATA / snapshot.ATTRIBUTION).read_text()


def test_a_snapshot_reads_back_as_it_was_written() -> None:
    """Entries come back whole and ordered, and the order given does not change the bytes."""
    entries = [parsed(simple(number)) for number in range(5)]
    names = {"ecosystem": "PyPI", "source": "here", "license_id": "CC0-1.0"}
    packed = snapshot.encode(reversed(entries), **names)
    assert packed == snapshot.encode(entries, **names)
    header, found = snapshot.decode(packed)
    assert list(found) == entries
    assert (header.entries, header.as_of) == (5, "2024-05-01T00:00:00Z")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-3],
        lambda data: data[:50] + b"\0\0\0\0" + data[54:],
        lambda data: zstandard.compress(b"\n".join(zstandard.decompress(data).splitlines()[:-1])),
        lambda data: zstandard.compress(zstandard.decompress(data).replace(b"advisories/1", b"advisories/9")),
    ],
)
def test_a_damaged_snapshot_is_an_error(damage: Callable[[bytes], bytes]) -> None:
    """A cut or altered file is never read as fewer advisories."""
    entries = [parsed(simple(number)) for number in range(5)]
    packed = snapshot.encode(entries, ecosystem="PyPI", source="here", license_id="CC0-1.0")
    with pytest.raises(StorageError, match="damaged"):
        list(snapshot.decode(damage(packed))[1])
