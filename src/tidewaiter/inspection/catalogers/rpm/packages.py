"""What package an rpm header is, and the files of an image that hold headers."""

import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger, ownership
from tidewaiter.inspection.catalogers.rpm import Damaged, bdb, header, ndb, sqlite
from tidewaiter.inspection.catalogers.rpm.header import Header
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.sbom.licenses import expression

_FOLDERS = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
"""Of most distributions; of newer Fedora and SUSE releases; of images made with rpm-ostree."""
_DATABASES = frozenset(
    f"{folder}/{name}" for folder in _FOLDERS for name in ("rpmdb.sqlite", "Packages.db", "Packages")
)
_JOURNALS = frozenset(f"{folder}/rpmdb.sqlite-wal" for folder in _FOLDERS)
_MANIFEST = "var/lib/rpmmanifest/container-manifest-2"
_MANIFEST_FIELDS = 10

# Wider than what rpmbuild takes today, for old packages; a hyphen or colon would make a version ambiguous.
_NAME = re.compile(r"[A-Za-z0-9_][!-~]{0,199}")
_PART = re.compile(r"[!-,./0-9;-~]{1,200}")
_SOURCE = re.compile(r"(\S+)-([^-\s]+-[^-\s]+)\.(?:no)?src\.rpm")
_NO_PACKAGE = "gpg-pubkey"
"""Under this name a key that rpm trusts stands among the packages."""


def _names(texts: list[str], *but: str) -> tuple[str, ...]:
    """What is required or provided, by name (`libc.so.6()(64bit)`); no conditions, rpm features or hints of SUSE's."""
    names = {clean(text, 200) for text in texts if not text.startswith(("(", "rpmlib(", "weakremover("))}
    return tuple(sorted(names.difference(but, ("",))))


def _package(
    path: str, *, name: str, version: str, release: str, epoch: int, source: str, architecture: str
) -> FoundPackage | None:
    """The package; None when name or version are not what rpm allows. Its version is `[EPOCH:]VERSION-RELEASE`."""
    if not (_NAME.fullmatch(name) and _PART.fullmatch(version) and _PART.fullmatch(release)):
        return None
    own = f"{version}-{release}"
    made_from = _SOURCE.fullmatch(source)
    source_name, source_version = made_from.groups() if made_from else (name, own)
    return FoundPackage(
        kind="rpm",
        name=name,
        version=f"{epoch}:{own}" if epoch else own,
        location=path,
        architecture=clean(architecture, 40),
        source_name="" if source_name == name or not _NAME.fullmatch(source_name) else source_name,
        source_version="" if source_version == own else clean(source_version, 200),
    )


def _of_header(path: str, head: Header, requires: list[str], provides: list[str]) -> FoundPackage | None:
    package = _package(
        path,
        name=head.text(header.NAME),
        version=head.text(header.VERSION),
        release=head.text(header.RELEASE),
        epoch=head.number(header.EPOCH) or 0,
        source=head.text(header.SOURCE),
        architecture=head.text(header.ARCHITECTURE),
    )
    if package is None:
        return None
    license_ = clean(head.text(header.LICENSE), limits.LICENSE_CHARACTERS)
    return msgspec.structs.replace(
        package,
        licenses=(expression(license_) or license_,) if license_ else (),
        supplier=clean(head.text(header.VENDOR), 200),
        description=clean(head.text(header.SUMMARY), 200),
        depends=_names(requires),
        provides=_names(provides, package.name),
    )


def _blobs(data: bytes) -> Iterator[bytes | Damaged]:
    """What a database of whatever format holds; raises `Damaged` when it is none that is known."""
    if data.startswith(sqlite.MAGIC):
        return sqlite.headers(data)
    if data.startswith(ndb.MAGIC):
        return ndb.headers(data)
    if bdb.is_one(data):
        return bdb.headers(data)
    raise Damaged("it is no rpm database of a format that is known")


def _headers(data: bytes, note: Callable[[str], None]) -> Iterator[Header]:
    """Headers of the database, while they are no more than one of its size can hold."""
    unread = len(data)
    for number, found in enumerate(_blobs(data), 1):
        if isinstance(found, Damaged):
            note(str(found))
        else:
            unread -= len(found)
            try:
                head = Header(found)
            except Damaged as damage:
                note(str(damage))
            else:
                yield head
        if unread < 0 or number >= limits.RPM_RECORDS:
            note("it gives more headers than are read from a database of its size")
            return


def _read_database(path: str, data: bytes, collector: Collector) -> None:
    """Record every package of the database, and which files it calls its own; an empty database has no packages."""
    packages: list[FoundPackage] = []
    reasons: set[str] = set()  # a damaged database may give the same one for every page
    relations, room = limits.RPM_RELATIONS, limits.RPM_PATHS_BYTES
    try:
        for head in _headers(data, reasons.add) if data else ():
            if head.text(header.NAME) == _NO_PACKAGE:
                continue
            requires, provides = (head.texts(tag, relations) for tag in (header.REQUIRES, header.PROVIDES))
            relations = max(relations - len(requires) - len(provides), 0)
            if not relations:
                reasons.add("its packages require and provide more than is kept")
            package = _of_header(path, head, requires, provides)
            if package is None:
                reasons.add("a header names no package and version")
                continue
            packages.append(package)
            if len(packages) > limits.COMPONENTS:
                break  # `add_packages` refuses them
            files, room = head.files(room)
            ownership.claim(collector, f"rpm {package.name}", files)
    except Damaged as damage:
        reasons.add(str(damage))
    for reason in reasons:
        collector.note(path, reason)
    collector.add_packages(path, tuple(packages))


def _read_journal(path: str, data: bytes, collector: Collector) -> None:
    """Note a journal that is not empty: what it says may not have reached the database."""
    if data:
        collector.note(path, "what rpm wrote last may be in this journal, which is not read")


def _read_manifest(path: str, data: bytes, collector: Collector) -> None:
    """Record what `rpm --query` said while the image was made; such an image has no database (Azure Linux distroless).

    Tabs between NAME, VERSION-RELEASE, INSTALLTIME, BUILDTIME, VENDOR, EPOCH, SIZE, ARCH, EPOCHNUM and SOURCERPM.
    """
    packages = []
    broken = False
    for line in data.decode("utf-8", "replace").split("\n"):
        fields = ["" if field == "(none)" else field for field in line.split("\t")]
        if fields == [""] or fields[0] == _NO_PACKAGE:
            continue
        package = None
        if len(fields) >= _MANIFEST_FIELDS:
            version, _, release = fields[1].partition("-")
            epoch = fields[8] if fields[8].isascii() and fields[8].isdigit() and len(fields[8]) <= 10 else "0"
            package = _package(
                path,
                name=fields[0],
                version=version,
                release=release,
                epoch=int(epoch),
                source=fields[9],
                architecture=fields[7],
            )
        if package is None:
            broken = True
        else:
            packages.append(msgspec.structs.replace(package, supplier=clean(fields[4], 200)))
    if broken:
        collector.note(path, "a line names no package and version")
    collector.add_packages(path, tuple(packages))


def _names_of(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple({path.rpartition("/")[2] for path in paths})


CATALOGERS = (
    Cataloger(
        "rpm",
        _names_of(_DATABASES),
        _DATABASES.__contains__,
        _read_database,
        limits.RPM_DATABASE_BYTES,
        names_packages=True,
    ),
    Cataloger("rpm-journal", _names_of(_JOURNALS), _JOURNALS.__contains__, _read_journal, names_packages=True),
    Cataloger("rpm-manifest", _names_of({_MANIFEST}), _MANIFEST.__eq__, _read_manifest, names_packages=True),
)
