"""Listings: what goes in comes out, in bounded memory, and a damaged one is never taken for an empty one."""

import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.inspection import listing
from tidewaiter.inspection.listing import Kind, Writer
from tidewaiter.inspection.paths import number
from tidewaiter.oci.layer import Entry


def written(entries: list[tuple[Entry, str]]) -> Writer:
    writer = Writer()
    for entry, target in entries:
        writer.add(entry.path, entry, target)
    return writer


def test_a_listing_gives_its_entries_back() -> None:
    """Path, size, mode, kind and a hard link's target come back in order, over many frames."""
    entries = [
        (Entry(path="d", kind="directory", mode=0o1777), ""),
        (Entry(path="d/f", kind="file", mode=0o4755, size=2**40), ""),
        (Entry(path="d/s", kind="symlink", mode=0o777, target="f"), ""),
        (Entry(path="d/h", kind="hardlink", mode=0o644, target="d/f"), "d/f"),
        *((Entry(path=f"d/{'x' * 100}-{number}", kind="file", size=number), "") for number in range(30_000)),
    ]
    data = written(entries).finish()
    frames = list(listing.rows(data))
    assert len(frames) > 2
    found = [
        (path, rows.kind(at).name.lower(), rows.permissions(at), rows.sizes[at], rows.targets.get(at, ""))
        for rows in frames
        for at, path in enumerate(rows.paths)
    ]
    assert found == [(entry.path, entry.kind, entry.mode, entry.size, target) for entry, target in entries]
    assert len(data) < 500_000


def test_every_entry_is_among_the_paths() -> None:
    """The set of paths that is kept of every layer holds all entries of all frames, with their kinds."""
    entries = [(Entry(path=f"d{number}", kind="directory"), "") for number in range(3)]
    entries += [(Entry(path=f"d1/{'x' * 100}-{number}", kind="file"), "") for number in range(20_000)]
    writer = written(entries)
    assert len(list(listing.rows(writer.finish()))) > 1
    writer.listed.pack()
    assert len(writer.listed) == len(entries)
    assert all(
        writer.listed.kind(number(entry.path)) == ("directory" if entry.kind == "directory" else "file")
        for entry, _ in entries
    )


def test_claims_come_before_rows_and_are_whole() -> None:
    """Claims keep owner and paths, however many there are, and folders are put before them."""
    writer = written([(Entry(path="a", kind="file"), "")])
    writer.claim("one", "", "a\nb/c")
    for one in range(200):
        writer.claim(f"p{one}", "site", "\n".join(f"{one}/{'y' * 200}{index}" for index in range(100)))
    found = list(listing.claims(writer.finish()))
    assert (found[0].owner, list(found[0].paths())) == ("one", ["a", "b/c"])
    assert len(found) == 201
    assert list(found[7].paths())[3] == f"site/6/{'y' * 200}3"


def test_folders_that_are_not_listed_are_noticed() -> None:
    """Folders in which something lies are known when the layer lists them, and implied, on every level, when not."""
    listed = written([(Entry(path="a", kind="directory"), ""), (Entry(path="a/b", kind="file"), "")])
    loose = written([(Entry(path="a", kind="directory"), ""), (Entry(path="a/c/d/b", kind="file"), "")])
    listed.finish()
    loose.finish()
    assert len(listed.implied) == 0
    loose.implied.pack()
    assert [loose.implied.kind(number(path)) for path in ("a", "a/c", "a/c/d")] == [None, "directory", "directory"]


@pytest.mark.parametrize("harm", ["cut", "length", "flipped", "rows"])
def test_a_damaged_listing_is_told(harm: str) -> None:
    """Cut, changed or contradictory frames raise; they never read as fewer files."""
    data = written([(Entry(path=f"f{number}", kind="file", size=1), "") for number in range(100)]).finish()
    if harm == "cut":
        data = data[:-3]
    elif harm == "length":
        data = b"\xff\xff\xff\x7f" + data[4:]
    elif harm == "flipped":
        data = data[:10] + bytes([data[10] ^ 0xFF]) + data[11:]
    else:
        frame = Writer()
        frame.add("two\nlines", Entry(path="x", kind="file"))
        data = frame.finish()
    with pytest.raises(UndeterminedError, match="damaged"):
        list(listing.rows(data))


def test_a_frame_over_the_bound_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What claims to unpack to more than the bound is refused, what is just below it is read."""
    data = written([(Entry(path="f" * 900, kind="file"), "")]).finish()
    monkeypatch.setattr(limits, "LISTING_FRAME_BYTES", 10_000)
    assert [row.kind(0) for row in listing.rows(data)] == [Kind.FILE]
    monkeypatch.setattr(limits, "LISTING_FRAME_BYTES", 900)
    with pytest.raises(UndeterminedError, match="damaged"):
        list(listing.rows(data))
