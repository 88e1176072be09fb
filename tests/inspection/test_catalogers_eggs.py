import io
import zipfile

import pytest

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.python import eggs
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.oci.layer import Entry

PATH = "usr/lib/python3.11/site-packages/six-1.2-py3.11.egg"
METADATA = "Metadata-Version: 1.0\nName: six\nVersion: 1.2\nLicense: MIT\n"


def egg(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def read(data: bytes) -> tuple[list[tuple[str, str, str]], list[str]]:
    collector = Collector()
    eggs.read(PATH, Entry(path=PATH, kind="file", size=len(data)), io.BytesIO(data), collector)
    packages = [(str(one.kind), one.name, one.version) for one in collector.packages.get(PATH, ())]
    return packages, [note.reason for note in collector.unread]


def test_an_egg_that_is_one_file_is_a_distribution() -> None:
    """The metadata inside the archive name it, as they would in an unpacked egg."""
    assert eggs.wants(PATH)
    assert not eggs.wants(f"{PATH}/EGG-INFO/PKG-INFO")
    assert read(egg({"six.py": "", "EGG-INFO/PKG-INFO": METADATA})) == ([("python", "six", "1.2")], [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no archive", "it is no zip archive"),
        (egg({"EGG-INFO/PKG-INFO": METADATA})[:-4], "it is no zip archive"),
        (egg({"EGG-INFO/PKG-INFO": "Name: six\n"}), "it does not state name and version"),
    ],
    ids=range(3),
)
def test_an_egg_that_cannot_be_read_is_noted(data: bytes, reason: str) -> None:
    """Something that calls itself an egg and names no distribution is said to be unread."""
    assert read(data) == ([], [reason])


def test_large_eggs_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An egg is held in memory up to a bound, and over it only noted."""
    data = egg({"EGG-INFO/PKG-INFO": METADATA})
    monkeypatch.setattr(limits, "JAR_BYTES", len(data))
    assert read(data)[1] == []
    monkeypatch.setattr(limits, "JAR_BYTES", len(data) - 1)
    assert read(data) == ([], [f"an archive of {len(data)} bytes is not read"])


def test_large_metadata_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata that would unpack to more than the bound are noted."""
    data = egg({"EGG-INFO/PKG-INFO": METADATA + "x" * 100_000})
    monkeypatch.setattr(limits, "METADATA_BYTES", 50_000)
    assert read(data) == ([], ["'EGG-INFO/PKG-INFO' has more than 50000 bytes"])
