import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from osv_feed import affected, entry, parsed, simple, zipped

from tidewaiter.advisories import feed
from tidewaiter.advisories.advisory import Advisory, Affected, Event, Range
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError


def read(path: Path) -> list[Advisory]:
    return [feed.parse(document) for document in feed.documents(path)]


def test_facts_are_kept_and_prose_is_not() -> None:
    """An entry with every field gives its facts, normalised; fields that are not known are passed over."""
    item = entry(
        "GHSA-xxxx",
        affected(
            "Some_Package",
            ("introduced", "0"),
            ("fixed", "2.0"),
            versions=("1.0",),
            severity=[{"type": "CVSS_V4", "score": "CVSS:4.0/x"}, {"type": "Other", "score": "bad"}],
            database_specific={"severity": "LOW", "source": "https://example.org"},
        ),
        modified="2024-05-01 12:00:00.5+02:00",
        published="0001-01-01T00:00:00Z",
        aliases=["CVE-2024-2", "CVE-2024-1", "GHSA-xxxx"],
        upstream=["CVE-2024-3"],
        summary="Prose.",
        references=[{"type": "WEB", "url": "https://example.org"}],
        database_specific={"severity": "MODERATE", "nested": [{"a": [1]}]},
        some_future_field={"a": 1},
    )
    found = parsed(item)
    assert found == Advisory(
        id="GHSA-xxxx",
        aliases=("CVE-2024-1", "CVE-2024-2"),
        upstream=("CVE-2024-3",),
        modified="2024-05-01T10:00:00Z",
        rating="MODERATE",
        affected=(
            Affected(
                ecosystem="PyPI",
                name="some-package",
                ranges=(Range("ECOSYSTEM", (Event("introduced", "0"), Event("fixed", "2.0"))),),
                versions=("1.0",),
                vectors=("CVSS:4.0/x",),
                rating="LOW",
            ),
        ),
    )


def test_nulls_and_repository_entries_are_read() -> None:
    """Exporters write null for empty lists, and entries about a repository name no package."""
    found = parsed(entry("X-1", {"ranges": [{"type": "GIT", "events": []}]}, aliases=None, severity=None))
    assert found.affected == ()
    assert parsed({"id": "X-2", "modified": "2024-01-01T00:00:00Z", "affected": None}).affected == ()


@pytest.mark.parametrize(
    "text", ["2026-09-12T11:00:05Z", "2026-09-12T11:00:05.986201214Z", "2026-09-12 13:00:05.9+02:00"]
)
def test_times_are_read_as_exporters_write_them(text: str) -> None:
    """Nanoseconds of OSV's exports, offsets and a space for the T all give whole seconds in UTC."""
    assert parsed(entry("X-1", modified=text)).modified == "2026-09-12T11:00:05Z"


RANGE = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}


@pytest.mark.parametrize(
    "item",
    [
        {"modified": "2024-05-01T00:00:00Z"},
        {"id": "X-1"},
        {"id": "", "modified": "2024-05-01T00:00:00Z"},
        {"id": "X 1", "modified": "2024-05-01T00:00:00Z"},
        {"id": ["X-1"], "modified": "2024-05-01T00:00:00Z"},
        {"id": "X-1", "modified": "yesterday"},
        {"id": "X-1", "modified": "2024-05-01T00:00:00"},
        entry("X-1", aliases=["CVE 1"]),
        entry("X-1", affected("")),
        entry("X-1", {"package": {"name": "thing"}}),
        entry("X-1", affected("thing", versions=(" ",))),
        entry("X-1", affected("thing", versions=("1\u0000",))),
        entry("X-1", affected("thing", ranges=[{"type": "ECOSYSTEM", "events": []}])),
        entry("X-1", affected("thing", ranges=[{"type": "ECOSYSTEM", "events": [{"fixed": "1"}]}])),
        entry("X-1", affected("thing", ranges=[{"type": "ECOSYSTEM", "events": [{"introduced": "0", "fixed": "1"}]}])),
        entry("X-1", affected("thing", ranges=[{"type": "ECOSYSTEM", "events": [{"introduced": 0}]}])),
        entry("X-1", affected("thing", ranges=RANGE)),
        [entry("X-1")],
    ],
)
def test_an_entry_of_another_structure_is_refused(item: Any) -> None:
    """What is no OSV entry is refused by name, and never read as an entry about nothing."""
    with pytest.raises(InputError, match=r"^test"):
        parsed(item)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"id": "\xff"}', b"null", b'{"id":"X-1"'])
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    """Cut or misencoded JSON is bad input."""
    with pytest.raises(InputError):
        feed.parse(feed.Document("test", data))


def nested(levels: int) -> bytes:
    text = '{"id": "X-1", "modified": "2024-05-01T00:00:00Z", "x": "[[[[\\"{{{{", "deep": %s}'
    return (text % ("[" * levels + "]" * levels)).encode()


def test_nesting_is_bounded() -> None:
    """Nesting counts outside of strings only, and up to the limit it is read."""
    assert feed.parse(feed.Document("test", nested(limits.JSON_DEPTH - 1))).id == "X-1"
    for levels in (limits.JSON_DEPTH, 1_000_000):
        with pytest.raises(LimitError, match="nested"):
            feed.parse(feed.Document("test", nested(levels)))


def test_hostile_strings_do_not_slow_the_depth_check_down() -> None:
    """Millions of quotes in a string that never ends are scanned once."""
    start = time.monotonic()
    with pytest.raises(InputError):
        feed.parse(feed.Document("test", b"[" * limits.JSON_DEPTH + b'{"' + b'\\"' * 1_000_000))
    with pytest.raises(InputError):
        feed.parse(feed.Document("test", b"[{" + b"[]" * limits.JSON_DEPTH + b'"' + b'\\"' * 1_000_000))
    assert time.monotonic() - start < 10


def test_strings_are_bounded() -> None:
    """A version as long as the limit is read, a longer one refused."""
    longest = "1" * limits.ADVISORY_STRING
    assert parsed(entry("X-1", affected("thing", versions=(longest,)))).affected[0].versions == (longest,)
    with pytest.raises(LimitError):
        parsed(entry("X-1", affected("thing", versions=(longest + "1",))))
    with pytest.raises(LimitError):
        parsed(entry("X-1", aliases=["A" * (limits.ADVISORY_STRING + 1)]))


def test_zip_folder_and_single_file_hold_the_same(tmp_path: Path) -> None:
    """All three shapes of a feed are told apart by content and give the same entries."""
    item = simple(1)
    archive = zipped(tmp_path / "no-suffix", item)
    folder = tmp_path / "folder" / "deeper"
    folder.mkdir(parents=True)
    file = folder / "PYSEC-2024-1.json"
    file.write_text(json.dumps(item))
    (folder / "README.md").write_text("Not an entry.")
    (folder / "link.json").symlink_to(file)
    assert read(archive) == read(tmp_path / "folder") == read(file) == [parsed(item)]
    assert [feed.is_export(path) for path in (archive, tmp_path / "folder", file)] == [True, True, False]


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A missing, empty or foreign file is bad input."""
    for name, data in (("empty", b""), ("text", b"hello"), ("gzip", b"\x1f\x8b\x08")):
        (tmp_path / name).write_bytes(data)
    for name in ("empty", "text", "gzip", "missing"):
        with pytest.raises(InputError):
            read(tmp_path / name)


def test_a_broken_zip_is_refused(tmp_path: Path) -> None:
    """A cut archive and flipped bytes in a member are noticed."""
    path = zipped(tmp_path / "all.zip", simple(1), simple(2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(InputError, match="zip"):
        read(path)
    path.write_bytes(whole[:60] + bytes(byte ^ 0x55 for byte in whole[60:80]) + whole[80:])
    with pytest.raises(InputError, match="zip"):
        read(path)


def test_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that unpacks out of proportion, one that is too large, and too many together are over the limit."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X-1.json", b" " * (2 * limits.FEED_RATIO_FREE))
    with pytest.raises(LimitError, match="zip bomb"):
        read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("X-1.json", b" " * (limits.ADVISORY_BYTES + 1))
    with pytest.raises(LimitError, match="bytes unpacked"):
        read(path)
    zipped(path, *(simple(number, summary="Prose. " * 100) for number in range(10)))
    assert len(read(path)) == 10
    monkeypatch.setattr(limits, "FEED_ENTRIES", 9)
    with pytest.raises(LimitError, match="over 9 entries"):
        read(path)
    monkeypatch.undo()
    monkeypatch.setattr(limits, "FEED_BYTES", path.stat().st_size)
    with pytest.raises(LimitError, match="unpacks to over"):
        read(path)
    monkeypatch.setattr(limits, "FEED_BYTES", path.stat().st_size - 1)
    with pytest.raises(LimitError):
        read(path)


def test_a_lie_about_the_size_of_a_member_is_noticed(tmp_path: Path) -> None:
    """A member whose directory entry promises less than it unpacks to is refused."""
    path = tmp_path / "lie.zip"
    data = json.dumps(simple(1)).encode() + b" " * 5000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X-1.json", data)
    size = len(data).to_bytes(4, "little")
    assert path.read_bytes().count(size) == 2
    path.write_bytes(path.read_bytes().replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(InputError):
        read(path)


def test_encrypted_and_unusual_packing_is_refused(tmp_path: Path) -> None:
    """Only what OSV's exports use is unpacked."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("X-1.json", json.dumps(simple(1)))
    with pytest.raises(InputError, match="packed by a method"):
        read(path)


def test_a_file_over_the_limit_in_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder's files are bounded as a zip's members are."""
    (tmp_path / "X-1.json").write_bytes(b"{" + b" " * limits.ADVISORY_BYTES)
    with pytest.raises(LimitError):
        read(tmp_path)
