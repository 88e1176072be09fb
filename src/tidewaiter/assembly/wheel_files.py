"""Which files each wheel brings, remembered beside its layer, and whether two wheels fight over a path."""

import hashlib
import io
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.assembly import installation
from tidewaiter.assembly.installation import distribution, site_packages
from tidewaiter.assembly.python_lock import LockedWheel, normalised
from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layer import LayerInfo, Reader
from tidewaiter.oci.layout import Layout

if TYPE_CHECKING:
    from tidewaiter.assembly.wheel import Wheel

_CHOOSE = "Leave one of the two packages out, or pin releases that do not share the path."


class Listing(msgspec.Struct, frozen=True):
    """The files of one wheel by path relative to the root, with their hashes as RECORD writes them."""

    wheel: str
    """Name and version."""
    files: dict[str, str]


class _Verdict(msgspec.Struct, frozen=True):
    """These layers do not fight over a path; what they hold beside that."""

    layers: list[tuple[Digest, list[str]]]
    """Digest of each, and the hashes of its wheels."""
    folders: list[str]
    check: str = ""
    """SHA-256 of the rest, so that a damaged verdict is none."""

    @property
    def sealed(self) -> "_Verdict":
        """This verdict with the right `check`."""
        said = msgspec.json.encode([self.layers, self.folders])
        return msgspec.structs.replace(self, check=hashlib.sha256(said).hexdigest())


class WheelFiles:
    """Listings of wheels, kept as files in `directory`; one that is lost is read from the layer in `store` again."""

    def __init__(self, directory: Path, python: str, store: Layout, site: str | None = None) -> None:
        self._directory = directory
        self._site = site or site_packages(python)
        place = "" if site is None else "-" + hashlib.sha256(site.encode()).hexdigest()[:16]
        self._suffix = f"{python}-{installation.FORMAT_VERSION}{place}.json"
        self._store = store

    def _path(self, wheel: LockedWheel) -> Path:
        return self._directory / f"{wheel.sha256}-{self._suffix}"

    def remember(self, wheel: "Wheel") -> Listing:
        """The listing of an opened wheel, kept for later builds."""
        listing = Listing(str(wheel.locked), {path: file.record_hash for path, file in wheel.files.items()})
        durable.write_atomically(self._path(wheel.locked), msgspec.json.encode(listing))
        return listing

    def of(self, group: Sequence[LockedWheel], layer: LayerInfo) -> list[Listing]:
        """The listings of the wheels in a finished layer."""
        found: list[Listing] = []
        for one in group:
            try:
                found.append(msgspec.json.decode(self._path(one).read_bytes(), type=Listing))
            except (FileNotFoundError, ValueError, RecursionError):
                return self._from_layer(group, layer)
        return found

    def folders(self, layers: Sequence[tuple[Sequence[LockedWheel], LayerInfo]]) -> tuple[str, ...]:
        """Every folder that holds shared libraries of the wheels in `layers`, sorted.

        It is remembered that the wheels were compared, so that equal layers are not compared again.

        Raises:
            InputError: two wheels write different files to one path.
        """
        about = [(layer.digest, [one.sha256 for one in group]) for group, layer in layers]
        name = hashlib.sha256(msgspec.json.encode(about)).hexdigest()
        path = self._directory / f"disjoint-{name}-{self._suffix}"
        try:
            known = msgspec.json.decode(path.read_bytes(), type=_Verdict)
            if known.layers == about and known == known.sealed:
                return tuple(known.folders)
        except (FileNotFoundError, ValueError, RecursionError):
            pass
        listings = [listing for group, layer in layers for listing in self.of(group, layer)]
        require_disjoint(listings)
        files = (path for listing in listings for path in listing.files)
        found = sorted({posixpath.dirname(file) for file in files if ".so" in posixpath.basename(file)})
        durable.write_atomically(path, msgspec.json.encode(_Verdict(about, found).sealed))
        return tuple(found)

    def _from_layer(self, group: Sequence[LockedWheel], layer: LayerInfo) -> list[Listing]:
        by_name = {one.name: one for one in group}
        found: list[Listing] = []
        site = self._site
        with self._store.open(layer.digest) as blob:
            for entry, content in Reader(blob):
                folder, name = posixpath.split(entry.path)
                if name != "RECORD" or not folder.endswith(".dist-info") or content is None:
                    continue
                if posixpath.dirname(folder) != site:
                    continue  # of what a wheel carries along inside itself
                import csv

                rows = csv.reader(io.StringIO(content.read(limits.WHEEL_METADATA_BYTES).decode(), newline=""))
                files = {posixpath.normpath(f"{site}/{row[0]}"): row[1] for row in rows if row[1]}
                one = by_name[normalised(distribution(posixpath.basename(folder)))]
                listing = Listing(str(one), files)
                durable.write_atomically(self._path(one), msgspec.json.encode(listing))
                found.append(listing)
        return found


def require_disjoint(listings: Iterable[Listing]) -> None:
    """Raise `InputError` when wheels write different bytes to one path, or one a file where another has a folder."""
    files: dict[str, tuple[str, str]] = {}
    folders: dict[str, str] = {}
    for listing in listings:
        for path, recorded in listing.files.items():
            other, before = files.setdefault(path, (listing.wheel, recorded))
            if before != recorded:
                raise InputError(
                    f"{other} and {listing.wheel} both install /{path}, with different content",
                    next_step=_CHOOSE,
                    code="conflicting_wheels",
                )
            folder = path.rpartition("/")[0]
            while folder and folder not in folders:
                folders[folder] = listing.wheel
                folder = folder.rpartition("/")[0]
    for path in sorted(files.keys() & folders.keys()):
        raise InputError(
            f"/{path} is a file of {files[path][0]} and a folder of {folders[path]}",
            next_step=_CHOOSE,
            code="conflicting_wheels",
        )
