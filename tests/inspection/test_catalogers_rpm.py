import random
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_builder import Tar, put_image
from rpm_databases import NUMBER, TEXT, TEXTS, Entry, bdb_of, blob, ndb_of, package, sqlite_of
from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection import layer, listing
from tidewaiter.inspection.catalogers.rpm import Damaged, header
from tidewaiter.inspection.catalogers.rpm import packages as rpm
from tidewaiter.inspection.catalogers.rpm import sqlite as rpm_sqlite
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.image import inspect
from tidewaiter.inspection.layer_facts import Collector, FoundPackage, OsRelease
from tidewaiter.inspection.naming import ecosystem, purl
from tidewaiter.oci.layout import Layout

DATABASE = "var/lib/rpm/rpmdb.sqlite"
MANIFEST = "var/lib/rpmmanifest/container-manifest-2"
MANY = [package(f"p{number:03}", filler=number * 977 % 30_000) for number in range(300)]
NAMES = [f"p{number:03}" for number in range(300)]
OVERLONG = "it gives more headers than are read from a database of its size"
Writer = Callable[[list[bytes]], bytes]


def collected(data: bytes | str, path: str = DATABASE) -> Collector:
    collector = Collector()
    (cataloger,) = (one for one in rpm.CATALOGERS if one.wants(path))
    cataloger.read(path, data.encode() if isinstance(data, str) else data, collector)
    return collector


def read(data: bytes | str, path: str = DATABASE) -> tuple[tuple[FoundPackage, ...], list[str]]:
    collector = collected(data, path)
    return collector.packages.get(path, ()), sorted(note.reason for note in collector.unread)


def names(data: bytes) -> tuple[list[str], list[str]]:
    found, notes = read(data)
    return sorted(one.name for one in found), notes


@pytest.mark.parametrize(
    "write",
    [
        sqlite_of,
        lambda blobs: sqlite_of(blobs, page=512),
        lambda blobs: sqlite_of(blobs, page=65536),
        lambda blobs: ndb_of(blobs, pages=2),
        bdb_of,
        lambda blobs: bdb_of(blobs, order=">", page=512),
        lambda blobs: bdb_of(blobs, page=32768, kind=2),
    ],
    ids=["sqlite", "sqlite-512", "sqlite-65536", "ndb", "bdb", "bdb-big-endian-512", "bdb-unsorted-32768"],
)
def test_a_database_of_each_format_gives_its_packages(write: Writer) -> None:
    """Small and large headers are found in every format, page size and byte order that rpm has used."""
    assert names(write(MANY)) == (NAMES, [])
    assert names(write([])) == ([], [])


def test_a_header_becomes_a_package() -> None:
    """Epoch, version and release make the version; licence, vendor, source, relations and files have tags."""
    data = package(
        "bash",
        version="5.1.8",
        release="6.el9",
        epoch=2,
        source="bash-static-5.1-6.el9.src.rpm",
        requires=["libc.so.6()(64bit)", "rpmlib(CompressedFileNames)", "/bin/sh", "(a if b)", "setup", "setup"],
        provides=["bash", "/bin/sh", "bash(x86-64)", "weakremover(ash)"],
        files=[("/usr/bin/", "bash"), ("/etc/", "bashrc"), ("/usr/bin/", "sh")],
    )
    collector = collected(sqlite_of([data]))
    assert collector.packages[DATABASE] == (
        FoundPackage(
            kind="rpm",
            name="bash",
            version="2:5.1.8-6.el9",
            location=DATABASE,
            architecture="x86_64",
            source_name="bash-static",
            source_version="5.1-6.el9",
            licenses=("MIT",),
            supplier="Somebody",
            description="What it is for",
            depends=("/bin/sh", "libc.so.6()(64bit)", "setup"),
            provides=("/bin/sh", "bash(x86-64)"),
        ),
    )
    (claim,) = listing.claims(collector.listing.finish())
    assert (claim.owner, set(claim.paths())) == ("rpm bash", {"usr/bin/bash", "etc/bashrc", "usr/bin/sh"})


def test_keys_that_rpm_trusts_are_no_packages() -> None:
    """What rpm lists as `gpg-pubkey` is left out, in a database and in a manifest."""
    key = blob([(1000, TEXT, "gpg-pubkey"), (1001, TEXT, "c105b9de"), (1002, TEXT, "4e0fd3a3")])
    assert names(bdb_of([key, package()])) == (["demo"], [])
    assert read("gpg-pubkey\tc105b9de-4e0fd3a3\t" + "\t".join("(none)" * 8), MANIFEST) == ((), [])


def test_what_rpm_added_at_installation_replaces_what_the_package_brought() -> None:
    """Of two entries of one tag the later counts, as in rpm; other types and offsets past the data are passed over."""
    entries = [(1000, TEXT, "old"), (1001, TEXT, "1"), (1002, TEXT, "1"), (1003, TEXT, "9"), (1000, TEXT, "new")]
    ((found,), notes) = read(sqlite_of([blob(entries)]))
    assert (found.name, found.version, notes) == ("new", "1-1", [])
    data = bytearray(blob([(1000, TEXT, "a"), (1001, TEXT, "b")]))
    data[16:20] = struct.pack(">I", 4)
    assert header.Header(bytes(data)).text(1000) == ""
    with pytest.raises(Damaged):
        header.Header(blob(entries)[:-1])
    with pytest.raises(Damaged):
        header.Header(b"1234567")


def test_a_header_without_name_or_version_is_noted() -> None:
    """What rpm would not allow as a name or version becomes a note, never a package."""
    broken = [package(""), package("a b"), package(version="1-2"), package(release=""), package(version="1:2")]
    assert names(ndb_of([*broken, package("sound")])) == (["sound"], ["a header names no package and version"])


def test_a_journal_that_is_not_empty_is_noted() -> None:
    """SQLite may keep the last transactions beside the database; then something may be missing."""
    assert read(b"", f"{DATABASE}-wal") == ((), [])
    assert read(b"7", f"{DATABASE}-wal")[1] == ["what rpm wrote last may be in this journal, which is not read"]


def test_an_empty_file_is_no_damage_and_a_foreign_one_is() -> None:
    """A database that was never written to has no packages; a file of another format cannot be read."""
    assert read(b"") == ((), [])
    assert read(b"junk" * 5000)[1] == ["it is no rpm database of a format that is known"]
    assert read(sqlite3_without_packages())[1] == ["it has no table of packages"]


def sqlite3_without_packages() -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE other (a, b)")
        data: bytes = database.serialize()
    database.close()
    return data


def test_a_manifest_takes_the_place_of_a_database() -> None:
    """Each line of an Azure Linux distroless image is a package; one without name and version is noted."""
    line = "ca-certs\t2.0.0-7.cm2\t0\t0\tMicrosoft Corporation\t1\t5\tnoarch\t1\tca-certs-2.0.0-7.cm2.src.rpm"
    lines = [line, line.replace("2.0.0", "1:2.0.0"), "glibc\t2.35-4.cm2", ""]
    found, notes = read("\n".join(lines), MANIFEST)
    assert [(one.name, one.version, one.architecture, one.supplier, one.source_name) for one in found] == [
        ("ca-certs", "1:2.0.0-7.cm2", "noarch", "Microsoft Corporation", "")
    ]
    assert notes == ["a line names no package and version"]


# --- laws and damage ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9000), max_size=60),
    page=st.sampled_from([512, 1024, 4096, 65536]),
    removed=st.sets(st.integers(1, 60), max_size=30),
)
def test_the_rows_are_those_that_sqlite_gives(sizes: list[int], page: int, removed: set[int]) -> None:
    """Whatever SQLite has inserted and deleted, our reader gives the rows that SQLite itself gives, in order."""
    data = sqlite_of([random.Random(size).randbytes(size) for size in sizes], page=page, removed=removed)
    with sqlite3.connect(":memory:") as database:
        database.deserialize(data)
        theirs = [row[0] for row in database.execute("SELECT blob FROM Packages ORDER BY hnum")]
    database.close()
    assert list(rpm_sqlite.headers(data)) == theirs


FEW = [package(f"p{number}", filler=number * 1500, requires=["a", "b"], files=[("/a/", "b")]) for number in range(9)]


@pytest.mark.parametrize(
    "data",
    [sqlite_of(FEW, page=512), ndb_of(FEW), bdb_of(FEW, page=512), bdb_of(FEW, order=">")],
    ids=["sqlite", "ndb", "bdb", "bdb-big-endian"],
)
@settings(max_examples=150, deadline=20_000)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 40), cut=st.booleans(), near=st.booleans())
def test_a_damaged_database_never_fails(data: bytes, seed: int, changes: int, cut: bool, near: bool) -> None:
    """Bytes changed anywhere, or the file cut off, cost packages at most: there is no error, no hang, no invention."""
    chance = random.Random(seed)
    mutated = bytearray(data)
    for _ in range(changes):
        mutated[chance.randrange(600 if near else len(mutated))] = chance.choice((0, 1, 13, 255, chance.randrange(256)))
    found, _ = read(bytes(mutated[: chance.randrange(len(mutated))] if cut else mutated))
    assert len(found) <= 10


@pytest.mark.parametrize(
    "write", [sqlite_of, lambda blobs: ndb_of(blobs, pages=2), bdb_of], ids=["sqlite", "ndb", "bdb"]
)
def test_of_a_database_that_is_cut_off_something_is_missing_and_it_says_so(write: Writer) -> None:
    """The packages that are there are found, and a note says that others may be missing."""
    data = write(MANY)
    found, notes = names(data[: len(data) * 3 // 4])
    assert notes
    assert 0 < len(found) < len(MANY)


def test_every_checksum_of_an_ndb_counts() -> None:
    """rpm takes no header whose checksum is wrong, and neither do we; the others are found."""
    data = bytearray(ndb_of(FEW))
    at = data.index(b"p4\0")
    data[at] ^= 1
    assert names(bytes(data)) == (
        ["p0", "p1", "p2", "p3", "p5", "p6", "p7", "p8"],
        ["a header does not match its checksum"],
    )


def test_slots_of_one_header_end_the_reading() -> None:
    """A slot page may name the same blocks again and again; not more is read than the file has bytes."""
    big = package(filler=100_000)
    data = bytearray(ndb_of([big]))
    _, _, block, blocks = struct.unpack_from("<4sIII", data, 32)
    data[32:4096] = struct.pack("<4sIII", b"Slot", 1, block, blocks) * 254
    assert names(bytes(data)) == (["demo"], ["headers overlap"])


def test_cells_of_one_row_end_the_reading() -> None:
    """All cells of a page may be the same one; not more is read than the file has bytes."""
    data = bytearray(sqlite_of([package(filler=9000), package("p2", filler=60_000)], page=65536))
    page = data.index(b"demo\0") // 65536 * 65536
    cells = data[page + 8 : page + 10]
    data[page + 3 : page + 5] = struct.pack(">H", 4000)
    data[page + 8 : page + 8 + 8000] = cells * 4000
    found, notes = names(bytes(data))
    assert notes == [OVERLONG]
    assert len(found) <= len(data) // 9000 + 1


def test_a_tree_that_leads_back_to_itself_ends() -> None:
    """No page of any format is visited twice, so that circles end."""
    data = bytearray(sqlite_of(MANY, page=512))
    root = next(at for at in range(512, len(data), 512) if data[at] == 5)
    data[root + 8 : root + 12] = struct.pack(">I", root // 512 + 1)
    assert "a page is used twice" in names(bytes(data))[1]
    circle = bytearray(bdb_of([package(filler=30_000)], page=512))
    first = next(at for at in range(512, len(circle), 512) if circle[at + 25] == 7)
    circle[first + 16 : first + 20] = struct.pack("<I", first // 512)
    assert names(bytes(circle)) == ([], ["a page is missing or used twice"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (rpm_sqlite.MAGIC + bytes(90), "the file has no SQLite header"),
        (rpm_sqlite.MAGIC + b"\x02\x01" + bytes(90), "the file has no SQLite header"),
        (rpm_sqlite.MAGIC[:16] + b"\x02\x00", "the file has no SQLite header"),
        (b"RpmP", "the file has no slots"),
        (b"RpmP\x01" + bytes(5000), "it is of a version that is not known"),
        (b"RpmP\0\0\0\0\0\0\0\0\xff\xff\xff\xff" + bytes(5000), "slots are missing"),
        (bdb_of([])[:70], "the file is too short"),
        (bdb_of([])[:20] + bytes(4) + bdb_of([])[24:], "its page size is none of Berkeley DB's"),
        (bdb_of([])[:24] + b"\1" + bdb_of([])[25:], "it is encrypted"),
    ],
)
def test_a_broken_beginning_is_named(data: bytes, reason: str) -> None:
    """What makes a database unreadable as a whole is said in one note."""
    found, notes = read(data)
    assert found == ()
    assert reason in notes


# --- bounds -------------------------------------------------------------------------------------------------------


def test_headers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many headers as the bound are read, one more is not."""
    monkeypatch.setattr(limits, "RPM_RECORDS", 10)
    assert names(sqlite_of(FEW)) == ([f"p{number}" for number in range(9)], [])
    monkeypatch.setattr(limits, "RPM_RECORDS", 8)
    assert names(sqlite_of(FEW)) == ([f"p{number}" for number in range(8)], [OVERLONG])


def test_packages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database with more packages than an image may have is refused."""
    monkeypatch.setattr(limits, "COMPONENTS", 9)
    assert len(names(sqlite_of(FEW))[0]) == 9
    monkeypatch.setattr(limits, "COMPONENTS", 8)
    with pytest.raises(LimitError):
        read(sqlite_of(FEW))


@pytest.mark.parametrize("write", [sqlite_of, bdb_of], ids=["sqlite", "bdb"])
def test_a_header_is_bounded(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header up to the bound is read, a larger one is noted."""
    big = package("big", filler=20_000)
    monkeypatch.setattr(limits, "RPM_HEADER_BYTES", len(big) + 10)
    assert names(write([package(), big])) == (["big", "demo"], [])
    monkeypatch.setattr(limits, "RPM_HEADER_BYTES", len(big) - 1)
    assert names(write([package(), big])) == (["demo"], ["a header is larger than any that is read"])


def test_index_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header with as many entries as the bound is read, one with more is damaged."""
    entries = [(1000, TEXT, "a"), (1001, TEXT, "1"), (1002, TEXT, "1")]
    monkeypatch.setattr(limits, "RPM_HEADER_ENTRIES", 3)
    assert header.Header(blob(entries)).text(header.NAME) == "a"
    with pytest.raises(Damaged):
        header.Header(blob([*entries, (1003, NUMBER, 1)]))


def test_relations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound packages are kept without what they require and provide, and a note says so."""
    data = sqlite_of([package("a", requires=["x", "y"]), package("b", provides=["x"]), package("c", requires=["z"])])
    monkeypatch.setattr(limits, "RPM_RELATIONS", 5)
    found, notes = read(data)
    assert ([one.depends for one in found], notes) == ([("x", "y"), (), ("z",)], [])
    monkeypatch.setattr(limits, "RPM_RELATIONS", 3)
    found, notes = read(data)
    assert [one.depends for one in found] == [("x", "y"), (), ()]
    assert notes == ["its packages require and provide more than is kept"]


def test_paths_of_files_are_bounded() -> None:
    """One long folder named for many files does not become many long paths; a folder that is not there is no path."""
    entries: list[Entry] = [
        (1118, TEXTS, ["/" + "f" * 100 + "/"]),
        (1117, TEXTS, ["a", "b", "c"]),
        (1116, NUMBER, [0, 0, 7]),
    ]
    head = header.Header(blob(entries))
    room = 4 * header.NAME_ROOM
    assert head.files(room + 210) == (["f" * 100 + "/a", "f" * 100 + "/b", ""], 6)
    assert head.files(room + 203) == (["f" * 100 + "/a"], 0)
    assert head.files(2 * header.NAME_ROOM)[0] == []
    assert head.files(0) == ([], 0)


# --- images -------------------------------------------------------------------------------------------------------

ROCKY = 'ID="rocky"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"\n'


def of_image(folder: Path, *tars: Tar) -> ImageFacts:
    return inspect(put_image(Layout(folder), [tar.bytes() for tar in tars]), reference="it:1")


def test_an_image_has_the_packages_of_its_rpm_database(tmp_path: Path) -> None:
    """Components have purl, ecosystem, origin by layer, and relations by what is provided."""
    bash = package("bash", epoch=1, provides=["/bin/sh"])
    tool = package("tool", requires=["/bin/sh", "nothing-here"], architecture="noarch")
    below = Tar().file("etc/os-release", ROCKY).file(DATABASE, sqlite_of([bash]))
    facts = of_image(tmp_path, below, Tar().file(DATABASE, sqlite_of([bash, tool])))
    assert [(one.kind, one.purl, one.ecosystem, one.layer, one.requires) for one in facts.components] == [
        (
            "rpm",
            "pkg:rpm/rocky/bash@1.0-2.el9?arch=x86_64&distro=rocky-9.4&epoch=1",
            "Rocky Linux:9",
            facts.layers[0].diff_id,
            (),
        ),
        (
            "rpm",
            "pkg:rpm/rocky/tool@1.0-2.el9?arch=noarch&distro=rocky-9.4",
            "Rocky Linux:9",
            facts.layers[1].diff_id,
            ("pkg:rpm/rocky/bash@1.0-2.el9?arch=x86_64&distro=rocky-9.4&epoch=1",),
        ),
    ]
    assert facts.unread == ()


def test_a_database_over_the_bound_is_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first part is read, and the image says that something may be missing."""
    path, data = "usr/lib/sysimage/rpm/Packages.db", ndb_of(MANY, pages=2)
    assert {one.limit for one in layer.CATALOGERS if one.wants(path)} == {limits.RPM_DATABASE_BYTES}
    small = tuple(one._replace(limit=len(data) // 2) if one.wants(path) else one for one in layer.CATALOGERS)
    monkeypatch.setattr(layer, "CATALOGERS", small)
    facts = of_image(tmp_path, Tar().file(path, data))
    assert 0 < len(facts.components) < len(MANY)
    assert f"{path}: only the first {len(data) // 2} of {len(data)} bytes were read" in facts.unread


@pytest.mark.parametrize(
    ("system", "version", "url", "where"),
    [
        (("rhel", "9.4"), "1-2", "pkg:rpm/redhat/a@1-2?distro=rhel-9.4", "Red Hat:enterprise_linux:9"),
        (("almalinux", "8.10"), "3:1-2", "pkg:rpm/almalinux/a@1-2?distro=almalinux-8.10&epoch=3", "AlmaLinux:8"),
        (("rocky", "9"), "1~rc-2^g", "pkg:rpm/rocky/a@1~rc-2%5Eg?distro=rocky-9", "Rocky Linux:9"),
        (("opensuse-leap", "15.6"), "1-2", "pkg:rpm/opensuse/a@1-2?distro=opensuse-leap-15.6", "openSUSE:Leap 15.6"),
        (("opensuse-tumbleweed", "20260101"), "1-2", "pkg:rpm/opensuse/a@1-2?distro=opensuse-tumbleweed-20260101",
         "openSUSE:Tumbleweed"),
        (("sles", "15.6"), "1-2", "pkg:rpm/sles/a@1-2?distro=sles-15.6", "SUSE:Linux Enterprise Server 15 SP6"),
        (("sles", "16"), "1-2", "pkg:rpm/sles/a@1-2?distro=sles-16", "SUSE:Linux Enterprise Server 16"),
        (("mariner", "2.0"), "1-2", "pkg:rpm/mariner/a@1-2?distro=mariner-2.0", "Azure Linux:2"),
        (("fedora", "40"), "1-2", "pkg:rpm/fedora/a@1-2?distro=fedora-40", "fedora:40"),
        (("debian", "12"), "1-2", "pkg:rpm/debian/a@1-2?distro=debian-12", "unknown"),
        (("", ""), "1-2", "pkg:rpm/a@1-2", "unknown"),
    ],
    ids=range(11),
)  # fmt: skip
def test_packages_are_named_as_osv_and_purl_name_them(
    system: tuple[str, str], version: str, url: str, where: str
) -> None:
    """The epoch is a qualifier; distributions have the names of OSV, and one without rpm has no advisories for it."""
    found = FoundPackage(kind="rpm", name="a", version=version, location="x")
    release = OsRelease(id=system[0], version_id=system[1])
    assert (purl(found, release), ecosystem(found, release)) == (url, where)


def test_a_source_package_of_another_name_is_in_the_purl() -> None:
    """`upstream` names it as its file is called; a source with the package's own name and version goes unsaid."""
    found = FoundPackage(kind="rpm", name="a", version="1:1-2", location="x", source_name="b")
    assert purl(found, OsRelease()) == "pkg:rpm/a@1-2?epoch=1&upstream=b-1-2.src.rpm"
