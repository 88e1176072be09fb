"""Layers are read while they are uploaded: what is known when the manifest arrives, and what ends it."""

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gate_place import Place
from image_builder import Tar, put_image
from tidewaiter.core import limits
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.inspection.layer_facts import LayerFacts
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Manifest
from tidewaiter.pipelines import looking, reading, reading_ahead
from tidewaiter.pipelines.judging import StoreJudge
from tidewaiter.pipelines.reading_ahead import ReadingAhead
from tidewaiter.web.registry import terms_of

STAGING = '[[environment]]\nname = "staging"\nrepositories = ["team/**"]\n'
PIECE = 1 << 20


@pytest.fixture
def ahead(tmp_path: Path) -> Iterator[ReadingAhead]:
    """Reads for `team`, with one child."""
    made = ReadingAhead(tmp_path / "facts", 1, lambda name: name == "team")
    yield made
    made.close()


def tar(megabytes: int) -> bytes:
    """A plain layer of that size."""
    return Tar().file("etc/os-release", "ID=none\n").file("data", os.urandom(megabytes << 20)).bytes()


def digest_of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def known(folder: Path, data: bytes) -> bool:
    """Whether facts of that plain layer are kept."""
    return LayerFactsCache(folder / "facts").get(digest_of(data), digest_of(data)) is not None


def wait_for(question: object, seconds: float = 30) -> None:
    """Until `question` answers yes."""
    assert callable(question)
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def grow(ahead: ReadingAhead, file: Path, data: bytes, *, repository: str = "team") -> None:
    """Let an upload arrive piece by piece."""
    for start in range(0, len(data), PIECE):
        with file.open("ab") as upload:
            upload.write(data[start : start + PIECE])
        ahead.grew(file, repository, min(len(data), start + PIECE))


def test_a_large_upload_is_followed(ahead: ReadingAhead, tmp_path: Path) -> None:
    """Facts are known moments after the last byte, under the name that the blob then gets."""
    data, file = tar(9), tmp_path / "upload"
    grow(ahead, file, data)
    stored = file.rename(tmp_path / "stored")
    ahead.complete(file, "team", digest_of(data), stored, len(data))
    ahead.settle([digest_of(data)])
    assert known(tmp_path, data)


def test_a_small_one_is_read_when_it_is_there(ahead: ReadingAhead, tmp_path: Path) -> None:
    """Small blobs are read once they are complete; those that are no layers, and those of other places, are not."""
    layers = [Tar().file("data", str(number)).bytes() for number in range(4)]
    for number, data in enumerate(layers):
        (tmp_path / f"{number}").write_bytes(data)
        where = "team" if number < 3 else "open"
        ahead.complete(tmp_path / "gone", where, digest_of(data), tmp_path / f"{number}", len(data))
    config = b'{"os":"linux"}'
    (tmp_path / "config").write_bytes(config)
    ahead.complete(tmp_path / "gone", "team", digest_of(config), tmp_path / "config", len(config))
    wait_for(lambda: all(known(tmp_path, data) for data in layers[:3]))
    ahead.close()
    assert not known(tmp_path, layers[3])
    assert len(list((tmp_path / "facts").rglob("*.facts"))) == 3


@pytest.mark.parametrize("how", ["cancelled", "damaged", "too short"])
def test_what_comes_to_nothing_leaves_nothing(ahead: ReadingAhead, tmp_path: Path, how: str) -> None:
    """An upload that is cancelled, cannot be read, or is not what was said, leaves no facts, and the next is read."""
    data, file = tar(6), tmp_path / "upload"
    if how == "damaged":
        data = b"\x1f\x8b" + data[2:]
    grow(ahead, file, data)
    if how == "cancelled":
        file.unlink()
        ahead.gone(file)
    else:
        length = len(data) + (1 if how == "too short" else 0)
        ahead.complete(file, "team", digest_of(data), file, length)
        ahead.settle([digest_of(data)])
    after = Tar().file("data", "after").bytes()
    (tmp_path / "after").write_bytes(after)
    ahead.complete(tmp_path / "gone", "team", digest_of(after), tmp_path / "after", len(after))
    wait_for(lambda: known(tmp_path, after))
    assert len(list((tmp_path / "facts").rglob("*.facts"))) == 1


def test_who_stops_sending_holds_nobody_up(
    ahead: ReadingAhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload on which nothing comes is given up, and read when it is whole; what waited is read meanwhile."""
    monkeypatch.setattr(limits, "GATE_FOLLOW_SECONDS", 0.2)
    data, file = tar(7), tmp_path / "upload"
    grow(ahead, file, data[:-PIECE])
    other = Tar().file("data", "other").bytes()
    (tmp_path / "other").write_bytes(other)
    ahead.complete(tmp_path / "gone", "team", digest_of(other), tmp_path / "other", len(other))
    wait_for(lambda: known(tmp_path, other))
    grow(ahead, file, data[-PIECE:])
    ahead.grew(file, "team", len(data))
    ahead.complete(file, "team", digest_of(data), file, len(data))
    wait_for(lambda: known(tmp_path, data))


def test_whoever_judges_takes_what_waits(ahead: ReadingAhead, tmp_path: Path) -> None:
    """Behind an upload that goes on nobody waits: what is not begun is left to whoever asks."""
    held, file = tar(6), tmp_path / "upload"
    grow(ahead, file, held[:-PIECE])
    other = Tar().file("data", "other").bytes()
    (tmp_path / "other").write_bytes(other)
    ahead.complete(tmp_path / "gone", "team", digest_of(other), tmp_path / "other", len(other))
    began = time.monotonic()
    ahead.settle([digest_of(other)])
    assert time.monotonic() - began < 1
    assert not known(tmp_path, other)


def test_a_stop_ends_it(ahead: ReadingAhead, tmp_path: Path) -> None:
    """Closing ends the child in the middle of an upload, and nothing is begun afterwards."""
    grow(ahead, tmp_path / "upload", tar(6)[:-PIECE])
    wait_for(lambda: any(one.name == "reading-ahead" for one in threading.enumerate()))
    ahead.close()
    wait_for(lambda: not any(one.name == "reading-ahead" for one in threading.enumerate()))
    after = Tar().file("data", "after").bytes()
    (tmp_path / "after").write_bytes(after)
    ahead.complete(tmp_path / "gone", "team", digest_of(after), tmp_path / "after", len(after))
    assert not any(one.name == "reading-ahead" for one in threading.enumerate())


def test_nothing_is_read_twice(make_place: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the manifest arrives all its layers are known; the judge reads none, and answers as ever."""
    assert callable(make_place)
    place: Place = make_place(written=STAGING)
    ahead = ReadingAhead(looking.facts_folder(place.settings), 2, lambda _: True)
    judge = StoreJudge(place.settings, lambda: place.database, ahead=ahead)
    place.registry.judge, place.registry.uploads.watch = judge, ahead
    place.registry.terms_of = terms_of(place.settings)
    monkeypatch.setattr(reading, "LayerReaders", lambda _: _nobody)
    made = Layout(tmp_path / "made")
    image = put_image(made, [tar(5), Tar().file("other", "x").bytes()])
    document = image.manifest
    assert isinstance(document, Manifest)
    for one in (document.config, *document.layers):
        data = made.read(one.digest, limit=len(tar(0)) + (8 << 20))
        where = place.ask("POST", "/team/app/blobs/uploads/").headers["location"].removeprefix("/v2")
        assert place.ask("PATCH", where, [data[:PIECE], data[PIECE:]]).status == 202
        assert place.ask("PUT", f"{where}?digest={one.digest}").status == 201
    wait_for(lambda: not ahead.reading)
    answer = place.put("team/app", "1.0.0", made.read(image.digest))
    assert (answer.status, "image.non-root" in answer.message) == (403, True), answer
    ahead.close()
    judge.close()


def test_the_next_push_finds_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read for one repository ends its child; another one is there for the next, and is not kept for ever."""
    made: list[reading.LayerChild] = []
    readers: list[int] = []

    class Counted(reading.LayerChild):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def read_unnamed(self, pieces: Iterable[bytes]) -> tuple[LayerFacts, bytes]:
            readers.append(made.index(self))
            return super().read_unnamed(pieces)

    monkeypatch.setattr(reading_ahead, "LayerChild", Counted)
    monkeypatch.setattr(reading_ahead, "_LINGER_SECONDS", 0.05)
    ahead = ReadingAhead(tmp_path / "facts", 1, lambda _: True)
    for number, repository in enumerate(("team", "other")):
        data = Tar().file("data", repository).bytes()
        stored = tmp_path / repository
        stored.write_bytes(data)
        ahead.complete(tmp_path / "gone", repository, digest_of(data), stored, len(data))
        wait_for(lambda data=data: known(tmp_path, data))
        wait_for(lambda number=number: len(made) == number + 2)
    assert readers == [0, 1]
    ahead.close()
    wait_for(lambda: not any(one.name == "reading-ahead" for one in threading.enumerate()))
    monkeypatch.setattr(reading_ahead, "_FRESH_SECONDS", 0.05)
    short = ReadingAhead(tmp_path / "facts", 1, lambda _: True)
    short.complete(tmp_path / "gone", "team", digest_of(data), stored, len(data))
    wait_for(lambda: len(made) == 5)
    wait_for(lambda: not any(one.name == "reading-ahead" for one in threading.enumerate()))
    short.close()


def _nobody(*_: object) -> object:
    raise AssertionError("a layer is read for the second time")
