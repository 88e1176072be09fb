"""One pass over one layer: proven to be the promised bytes, and every cataloger fed on the way."""

from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING

from tidewaiter.inspection import links, unpacked, waste
from tidewaiter.inspection.catalogers import (
    Cataloger,
    apk,
    binaries,
    bounded,
    conda,
    framework_binaries,
    frameworks,
    gems,
    jar,
    models,
    npm,
    ownership,
    permissions,
    programs,
    secrets,
    system,
)
from tidewaiter.inspection.catalogers.debian import copyright as debian_copyright
from tidewaiter.inspection.catalogers.debian import status
from tidewaiter.inspection.catalogers.python import develop, eggs, installs, metadata
from tidewaiter.inspection.catalogers.rpm import packages as rpm
from tidewaiter.inspection.layer_facts import SYMLINK, UNREAD_LINK, Collector, FoundLink, LayerFacts
from tidewaiter.inspection.paths import readable
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layer import OPAQUE_WHITEOUT, WHITEOUT_PREFIX, Entry, Reader
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.oci.verified import VerifiedLayer

if TYPE_CHECKING:
    from tidewaiter.oci.image import BlobSource

CATALOGERS: tuple[Cataloger, ...] = (
    status.CATALOGER,
    debian_copyright.CATALOGER,
    apk.CATALOGER,
    metadata.CATALOGER,
    installs.CATALOGER,
    develop.CATALOGER,
    *rpm.CATALOGERS,
    *ownership.CATALOGERS,
    conda.CATALOGER,
    npm.CATALOGER,
    npm.ELSEWHERE,
    gems.CATALOGER,
    *frameworks.CATALOGERS,
    system.OS_RELEASE,
    system.USERS,
)

_AMONG = frozenset(
    {
        *(key for cataloger in CATALOGERS for key in cataloger.among),
        *(*jar.SUFFIXES, *eggs.AMONG, *models.AMONG),
    }
)
_CHUNK = 1 << 20
_FOLDERS = tuple(key for key in _AMONG if key.endswith("/"))
_Read = Callable[[str, Entry, IO[bytes], Collector], None]
_ARCHIVES: tuple[tuple[Callable[[str], bool], _Read], ...] = (
    (jar.wants, jar.read),
    (eggs.wants, eggs.read),
    (models.wants, models.read),
)
_TELLING = (
    *(cataloger for cataloger in CATALOGERS if cataloger.names_packages),
    system.OS_RELEASE,
    *(read for _, read in _ARCHIVES),
)
"""Those whose silence may mean that something goes unseen."""


def is_known(path: str, name: str) -> bool:
    """Whether some cataloger or reader of archives may want the file, whose own name is `name`: few files are so."""
    return name in _AMONG or name[name.rfind(".") :] in _AMONG or path.startswith(_FOLDERS)


def wanted_by(path: str) -> list[Cataloger]:
    """The catalogers that want the file."""
    return [cataloger for cataloger in CATALOGERS if cataloger.wants(path)]


def archive_reader(path: str) -> _Read | None:
    """Who reads the file, if its name is that of an archive or a model."""
    return next((read for wants, read in _ARCHIVES if wants(path)), None)


def _whiteout(path: str, folder: str, name: str, collector: Collector) -> None:
    """Record a whiteout."""
    collector.keep(path)
    if name == OPAQUE_WHITEOUT:
        collector.opaque.add(folder)
    elif not name.startswith(WHITEOUT_PREFIX * 2):  # `.wh..wh.` names are aufs' own bookkeeping
        hidden = name.removeprefix(WHITEOUT_PREFIX)
        collector.whiteouts.add(f"{folder}/{hidden}" if folder else hidden)


def _catalog(path: str, entry: Entry, file: IO[bytes] | None, wanting: list[Cataloger], collector: Collector) -> None:
    """Feed the catalogers that want `path`."""
    for cataloger in wanting:
        if file is not None:
            cataloger.read(path, bounded(path, entry, file, cataloger.limit, collector), collector)
        elif entry.kind == "symlink" and cataloger.names_packages:
            collector.note(path, SYMLINK)


def _readers(path: str) -> tuple[object, ...]:
    """Who reads a file of this name for more than its being a program or a text."""
    name = path[path.rfind("/") + 1 :]
    if is_known(path, name):
        if wanting := wanted_by(path):
            return tuple(wanting)
        if (reader := archive_reader(path)) is not None:
            return (reader,)
    return (framework_binaries,) if framework_binaries.wants(path) else ()


def _link(path: str, entry: Entry, collector: Collector) -> None:
    """Say of a hard link what is known of its file, or that its file was not read as what the link's name says."""
    target = readable(entry.target)
    readers = _readers(path)
    alike = readers == _readers(target)
    links.say(collector, path, target, alike=alike)
    if not alike and any(one in _TELLING for one in readers):
        collector.note(path, UNREAD_LINK)


def _look_inside(path: str, name: str, entry: Entry, file: IO[bytes], collector: Collector) -> None:
    """Read what is known by more than its name: programs and texts. One of them reads a file."""
    if name.startswith(framework_binaries.BEGINNINGS) and framework_binaries.wants(path):
        framework_binaries.read(path, file, collector)
    else:
        program, text = binaries.wants(path, entry), secrets.wants(path, entry)
        if program or text:
            magic = file.read(len(binaries.MAGIC))
            if magic == binaries.MAGIC:
                if program:
                    binaries.read(path, entry, magic, file, collector)
            elif text:
                secrets.read(path, entry, magic, file, collector)


def _take(entry: Entry, file: IO[bytes] | None, collector: Collector) -> None:
    """Record one entry, and forget what an earlier one of the same path has said."""
    path = readable(entry.path)
    if not path:
        return
    folder, _, name = path.rpartition("/")
    if name.startswith(WHITEOUT_PREFIX):
        _whiteout(path, folder, name, collector)
        return
    directory = entry.kind == "directory"
    collector.listing.add(path, entry, readable(entry.target) if entry.kind == "hardlink" else "")
    collector.forget(path)
    permissions.read(path, entry, collector)
    if not directory:
        _look(path, name, entry, file, collector)


def _look(path: str, name: str, entry: Entry, file: IO[bytes] | None, collector: Collector) -> None:
    """Record what the entry, which is no directory, is by its name and content."""
    if entry.kind == "file":
        collector.files += 1
        collector.file_bytes += entry.size
    elif entry.kind == "symlink":
        target = readable(entry.target)
        collector.keep(path, target)
        collector.links[path] = target
    if programs.runnable(entry) and (program := programs.kind_of(path)) is not None:
        collector.add_program(path, program, entry)
    known = is_known(path, name)
    if known and (wanting := wanted_by(path)):
        _catalog(path, entry, file, wanting, collector)
    elif known and file is not None and (reader := archive_reader(path)) is not None:
        reader(path, entry, file, collector)
    elif file is not None:
        _look_inside(path, name, entry, file, collector)
    if entry.kind == "hardlink":
        _link(path, entry, collector)
    if name.startswith(frameworks.BEGINNINGS):
        build = frameworks.of_name(path)
        if build is not None and path not in collector.builds:
            collector.add_build(build)


def read(
    source: "BlobSource",
    descriptor: Descriptor,
    diff_id: Digest,
    *,
    advance: Callable[[int], None] | None = None,
    keep: Callable[[bytes], None] | None = None,
) -> LayerFacts:
    """Facts of the layer; `advance` is told compressed bytes, `keep` is given the `listing` of what lies in it.

    Raises:
        IntegrityError: the bytes are not those of the descriptor, or not those of the diff ID.
        InputError: the layer is not a tar, or holds a path that would leave the image.
        LimitError: it is over a bound of `core.limits`.
        NotFoundError: the source has no such blob.
    """
    layer = VerifiedLayer(source, descriptor, diff_id, advance=advance)
    return _collected(layer, lambda: (diff_id, layer.tar_size), keep)


def read_unnamed(blob: IO[bytes], *, keep: Callable[[bytes], None] | None = None) -> LayerFacts:
    """As `read`, of a blob that has no name yet, to its end: whoever hands out the bytes knows whose they are.

    The facts hold the diff ID that it turns out to have.
    """
    layer = Reader(blob, ahead=True)

    def found() -> tuple[Digest, int]:
        while blob.read(_CHUNK):
            pass  # what lies behind the tar belongs to the blob, too
        return layer.diff_id, layer.tar_size

    return _collected(layer, found, keep)


def _settle(collector: Collector) -> None:
    """Forget what no unpacking leaves, and tell what layers below have to say, now that the walk has ended."""
    data = collector.listing.finish()
    if collector.listing.has_links:
        for path, target in unpacked.linked_below(data).items():
            collector.keep(path, target)
            collector.linked[path] = FoundLink(path, target, _readers(path) == _readers(target))
    listed, implied = collector.listing.listed, collector.listing.implied
    listed.pack()
    implied.pack()
    if listed.repeats or listed.files_among(implied):
        left = unpacked.settled(data, implied)
        for path in left.gone:
            collector.forget(path)
        collector.listing, collector.files, collector.file_bytes = left.listing, left.files, left.file_bytes


def _collected(
    entries: Iterable[tuple[Entry, IO[bytes] | None]],
    found: Callable[[], tuple[Digest, int]],
    keep: Callable[[bytes], None] | None,
) -> LayerFacts:
    """Facts from `entries`, when these have ended without an error; then `found` says diff ID and size of the tar."""
    collector = Collector()
    for entry, file in entries:
        _take(entry, file, collector)
    diff_id, size = found()
    _settle(collector)
    listing = collector.listing.finish()
    if keep is not None:
        keep(listing)
    return collector.facts(diff_id, size, waste.measure(listing, collector.found()))
