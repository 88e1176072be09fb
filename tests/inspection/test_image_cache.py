from pathlib import Path

import pytest

import tidewaiter
from image_builder import Tar, put_image
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.image import inspect
from tidewaiter.inspection.image_cache import ImageFactsCache
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layout import Layout


@pytest.fixture
def facts(tmp_path: Path) -> ImageFacts:
    """Facts of a small image."""
    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n').file("a.bin", b"x", mode=0o4755)
    return inspect(put_image(Layout(tmp_path / "layout"), [tar.bytes()]), reference="it:1")


def test_facts_come_back_under_the_name_of_today(tmp_path: Path, facts: ImageFacts) -> None:
    """All facts are kept; only the reference is what the user calls the image now."""
    cache = ImageFactsCache(tmp_path / "cache")
    assert cache.get(facts.digest, reference="it:1") is None
    cache.put(facts)
    assert cache.get(facts.digest, reference="it:1") == facts
    other = cache.get(facts.digest, reference="other:2")
    assert other is not None
    assert other.reference == "other:2"


def test_another_release_looks_again(tmp_path: Path, facts: ImageFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer release may see more in the same image."""
    cache = ImageFactsCache(tmp_path)
    cache.put(facts)
    monkeypatch.setattr(tidewaiter, "__version__", "99")
    assert cache.get(facts.digest, reference="it:1") is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"flip"])
def test_a_damaged_entry_is_none(tmp_path: Path, facts: ImageFacts, damage: bytes) -> None:
    """An entry that was altered, or that stands under another image's name, is not believed."""
    cache = ImageFactsCache(tmp_path / "cache")
    cache.put(facts)
    (entry,) = (tmp_path / "cache").rglob("*.image")
    good = entry.read_bytes()
    entry.write_bytes(good.replace(b"set_uid", b"set_gid") if damage == b"flip" else damage)
    assert cache.get(facts.digest, reference="it:1") is None
    stranger = digests.of(b"another image")
    other = cache._files.path(cache._name(stranger))
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(good)
    assert cache.get(stranger, reference="it:1") is None


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path, facts: ImageFacts) -> None:
    """What cannot be kept is found out again, and the layer cache can say why."""
    (tmp_path / "file").touch()
    ImageFactsCache(tmp_path / "file/cache").put(facts)
    layers = LayerFactsCache(tmp_path / "file/cache")
    image = put_image(Layout(tmp_path / "layout"), [Tar().file("a").bytes()])
    assert inspect(image, reference="it:1", cache=layers) == inspect(image, reference="it:1")
    assert layers.refusal is not None
    assert "cannot write" in layers.refusal.message
