"""Which files packages call their own: what lists say, and what hostile ones must not do."""

import time

import pytest

from tidewaiter.core import limits
from tidewaiter.inspection import listing, waste
from tidewaiter.inspection.catalogers import ownership
from tidewaiter.inspection.layer_facts import Collector

INFO = "site/a-1.dist-info"


def claimed(collector: Collector) -> dict[str, str]:
    """Owners by path."""
    return {path: claim.owner for claim in listing.claims(collector.listing.finish()) for path in claim.paths()}


def read(path: str, data: bytes) -> dict[str, str]:
    """What the one cataloger that wants `path` makes of it."""
    collector = Collector()
    (cataloger,) = (one for one in ownership.CATALOGERS if one.wants(path))
    cataloger.read(path, data, collector)
    return claimed(collector)


def test_lists_name_files_from_the_root() -> None:
    """Names of merged folders count in both places; a RECORD's names are relative to its folder."""
    assert read("var/lib/dpkg/info/x:amd64.list", b"/.\n/bin\n/bin/x\n") == dict.fromkeys(
        ("bin", "bin/x", "usr/bin/x"), "deb x:amd64"
    )
    assert read("var/lib/dpkg/status.d/y.md5sums", b"0  ./lib/y\n1  usr/z\nbroken\n") == dict.fromkeys(
        ("lib/y", "usr/lib/y", "usr/z"), "deb y"
    )
    owner = f"{INFO}/METADATA"
    assert read(f"{INFO}/RECORD", b"a.py,sha256=x,3\r\n../bin/a,,\n/abs/b,,\n") == dict.fromkeys(
        ("site/a.py", "bin/a", "site//abs/b"), owner
    )


def test_names_that_are_no_text_are_those_of_the_layer() -> None:
    """Bytes that are not UTF-8, backslashes and control characters are written as a layer's paths are."""
    found = read(f"{INFO}/RECORD", b"caf\xe9.py,,\nb\\c,,\n\x1b[2J,,\n")
    assert set(found) == {"site/caf\\xe9.py", "site/b\\\\c", "site/\\x1b[2J"}


def test_damaged_lists_claim_nothing() -> None:
    """Records that are no records, and paths that lead out, are passed over."""
    collector = Collector()
    for data in (b"[]", b"{", b'{"files": 3}', b'{"files": [1, null, "../../../x", ""]}', b"\xff"):
        ownership.conda("env/conda-meta/a.json", data, collector)
    ownership.apk(b"R:orphan\nF:usr\nR:\n\nP:p\nF:../..\n\n", collector)
    assert claimed(collector) == {}


def test_a_package_may_call_so_many_files_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many files as the bounds for a package and for a layer are taken, those past them are nobody's."""
    monkeypatch.setattr(limits, "PACKAGE_FILES", 3)
    data = b"".join(b"f%d,,\n" % number for number in range(4))
    assert len(read(f"{INFO}/RECORD", data[:15])) == 3
    assert len(read(f"{INFO}/RECORD", data)) == 3
    monkeypatch.setattr(limits, "CLAIMED_FILES", 5)
    collector = Collector()
    collector.listing.claim("one", "", "a\nb\nc")
    collector.listing.claim("two", "", "d\ne")
    collector.listing.claim("three", "", "f")
    assert set(claimed(collector)) == {"a", "b", "c", "d", "e"}


@pytest.mark.parametrize(
    "data",
    [b"../" * 700_000, b'"' + b'""' * 700_000, b"a" * 2_000_000, b'"a\n' * 500_000, b",\n" * 700_000],
    ids=["climbing", "quotes", "one line", "open quotes", "nothing"],
)
def test_hostile_lists_take_no_time(data: bytes) -> None:
    """Lists made to keep a pattern busy are read in a moment."""
    start = time.process_time()
    read(f"{INFO}/RECORD", data)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "path",
    [
        "site-packages/" * 290 + "testx",
        "node_modules/x/" * 270 + "tes/ts",
        "a/pkgs/" * 580,
        "conda" * 800 + "/pkg/pkgs/x",
        "root/.cache/" * 340,
        "__pycache__/" * 340 + "a.b-1" * 3 + ".pyc",
        "home/" + "a" * 4000 + "/.cache/pipx/",
    ],
    ids=["packages", "modules", "pkgs", "conda", "caches", "bytecode", "home"],
)
def test_hostile_paths_take_no_time(path: str) -> None:
    """A path made to keep the patterns busy is judged a thousand times in a moment."""
    start = time.process_time()
    for _ in range(1000):
        waste.is_cache(path)
        waste.is_test(path)
    owners = waste._Owners(b"", ())
    for _ in range(1000):
        owners.by_place(path)
    assert time.process_time() - start < 5
