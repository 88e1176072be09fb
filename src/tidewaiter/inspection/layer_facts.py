"""What one layer says, whatever lies below or above it: a value that depends on its bytes only."""

from typing import Any, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection.facts import ProgramKind, WasteKind
from tidewaiter.inspection.listing import Writer
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layer import Entry

FORMAT_VERSION = 5
"""Raise it when a cataloger finds something else, or something more, in the same layer."""


SYMLINK = "it is a symlink to a file that names no package"
"""Reason that a merged view takes back when the link leads to metadata that was read elsewhere."""


UNREAD_LINK = "it is a hard link to a file that was not read"


class FoundPackage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A package as its own metadata describes it; distribution and relations are known only in an image."""

    kind: Literal["deb", "apk", "rpm", "python", "conda", "npm", "golang", "cargo", "maven", "gem"]
    name: str
    version: str
    location: str
    architecture: str = ""
    source_name: str = ""
    source_version: str = ""
    licenses: tuple[str, ...] = ()
    supplier: str = ""
    description: str = ""
    depends: tuple[str, ...] = ()
    """Debian: names, alternatives apart; rpm: names without conditions; Python: `Requires-Dist` as written."""
    provides: tuple[str, ...] = ()
    """Further names under which others ask for it."""
    hashes: tuple[str, ...] = ()
    """`ALGORITHM:HEX` of what was installed, where the metadata gives one."""


class FoundLink(msgspec.Struct, frozen=True, order=True):
    """A hard link to a file of a layer below."""

    path: str
    target: str
    alike: bool
    """Whether who reads files of the one name reads those of the other: then both say the same."""


class FoundProgram(msgspec.Struct, frozen=True):
    """A program by its path; `link` when the path is a symlink, which counts only if it leads to something."""

    path: str
    kind: ProgramKind
    link: bool = False


ExposureKind = Literal["set_uid", "set_gid", "world_writable", "secret"]


class Exposure(msgspec.Struct, frozen=True, omit_defaults=True, order=True):
    """Something that helps an attacker; of a secret only the rule that knew it, and the line."""

    path: str
    kind: ExposureKind
    rule: str = ""
    line: int = 0


class FoundBuild(msgspec.Struct, frozen=True, omit_defaults=True):
    """A framework or one of its libraries as a file shows it; `version` is empty where the file does not say."""

    path: str
    name: str
    version: str = ""
    details: dict[str, str] = {}


class FoundModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that lies in the layer."""

    path: str
    format: Literal["saved_model", "tflite"]
    name: str
    version: str = ""
    """Name of its version folder; empty when it lies in none."""
    tags: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    tensorflow: str = ""
    """Version of TensorFlow that saved it."""
    problem: str = ""
    """Why the file could not be read, if so."""


class OsRelease(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of `os-release` that matter."""

    id: str = ""
    version_id: str = ""
    version: str = ""
    name: str = ""
    """`PRETTY_NAME`, else `NAME`."""


class Unread(msgspec.Struct, frozen=True, order=True):
    """Metadata that could not be read whole, so that something may be missing from the facts."""

    path: str
    reason: str


class Pile(msgspec.Struct, frozen=True, array_like=True):
    """Wasted files of one kind: bytes, number, and path and bytes of the largest."""

    size: int
    files: int
    examples: tuple[tuple[str, int], ...] = ()


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """The regular files of a layer that are seen, as pairs of bytes and number; a hard link adds nothing."""

    visible: tuple[int, int] = (0, 0)
    unowned: tuple[int, int] = (0, 0)
    """Those that no package calls its own."""
    owned: dict[str, tuple[int, int]] = {}
    """By `waste.owner_keys`."""
    piles: dict[WasteKind, Pile] = {}
    libraries: tuple[tuple[str, int], ...] = ()
    """Large shared libraries: path and bytes."""


UNMEASURED = Measured()


class LayerFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Facts of one layer. Paths are `paths.readable`, relative to the root."""

    diff_id: Digest
    unpacked_size: int
    """Bytes of the tar."""
    files: int
    """Regular files."""
    file_bytes: int
    paths: bytes
    """`PathSet.pack` of everything in the layer but whiteouts."""
    whiteouts: tuple[str, ...] = ()
    """Paths of lower layers that this one deletes."""
    opaque: tuple[str, ...] = ()
    """Directories of which this layer hides all lower content; the root is empty."""
    links: dict[str, str] = {}
    """Symlinks with their targets as written."""
    packages: tuple[FoundPackage, ...] = ()
    copyrights: dict[str, tuple[str, ...]] = {}
    """Licences by path of a Debian copyright file."""
    programs: tuple[FoundProgram, ...] = ()
    exposures: tuple[Exposure, ...] = ()
    builds: tuple[FoundBuild, ...] = ()
    models: tuple[FoundModel, ...] = ()
    editable: tuple[str, ...] = ()
    """Files that say of a Python distribution that its code lies elsewhere."""
    develop: dict[str, tuple[str, ...]] = {}
    """Folders that `.egg-link` and `easy-install.pth` files name: the distributions in them are editable."""
    archives: dict[str, tuple[str, ...]] = {}
    """By path of a `direct_url.json`: hashes of the archive from which the Python distribution was installed."""
    os_releases: dict[str, OsRelease] = {}
    users: dict[str, dict[str, int]] = {}
    """By path of a passwd file: the lowest uid of each name."""
    unread: tuple[Unread, ...] = ()
    implied: bytes = b""
    """`PathSet.pack` of folders that the layer does not list, though something lies in them."""
    measured: Measured = UNMEASURED
    """The layer weighed by itself."""
    linked: tuple[FoundLink, ...] = ()
    """Hard links to files of layers below, which are in the container whatever becomes of those."""


class Collector:
    """Gathers a layer's facts during the walk, with a bound on what is kept in memory.

    Within a layer the last entry of a path wins, as it does when a runtime unpacks it.
    """

    def __init__(self) -> None:
        self.files = 0
        self.file_bytes = 0
        self.whiteouts: set[str] = set()
        self.opaque: set[str] = set()
        self.links: dict[str, str] = {}
        self.packages: dict[str, tuple[FoundPackage, ...]] = {}
        self.copyrights: dict[str, tuple[str, ...]] = {}
        self.programs: dict[str, FoundProgram] = {}
        self.exposures: dict[str, tuple[Exposure, ...]] = {}
        self.builds: dict[str, FoundBuild] = {}
        self.models: dict[str, FoundModel] = {}
        self.editable: set[str] = set()
        self.develop: dict[str, tuple[str, ...]] = {}
        self.archives: dict[str, tuple[str, ...]] = {}
        self.os_releases: dict[str, OsRelease] = {}
        self.users: dict[str, dict[str, int]] = {}
        self.linked: dict[str, FoundLink] = {}
        """Hard links to files of layers below, when the walk has ended."""
        self.listing = Writer()
        self._notes: dict[str, tuple[Unread, ...]] = {}
        self._kept = 0
        self._by_path: tuple[dict[str, Any], ...] = (
            self.links,
            self.packages,
            self.copyrights,
            self.programs,
            self.exposures,
            self.builds,
            self.models,
            self.develop,
            self.archives,
            self.os_releases,
            self.users,
            self.linked,
            self._notes,
        )
        self.of_content: tuple[dict[str, Any], ...] = (
            self.links,
            self.copyrights,
            self.builds,
            self.models,
            self.develop,
            self.archives,
            self.os_releases,
            self.users,
            self._notes,
        )
        """What is known of a file by what it holds; packages and exposures have their own ways in."""

    @property
    def unread(self) -> set[Unread]:
        """What could not be read whole."""
        return {note for notes in self._notes.values() for note in notes}

    def keep(self, *texts: str) -> None:
        """Account for texts that are kept; raises `LimitError` over `limits.LAYER_FACTS_BYTES`."""
        self._kept += sum(map(len, texts)) + 64
        if self._kept > limits.LAYER_FACTS_BYTES:
            raise LimitError(
                f"the layer holds more links, whiteouts and metadata than fit in {limits.LAYER_FACTS_BYTES} bytes",
                next_step="Do not use this image: it may be a bomb.",
            )

    def forget(self, path: str) -> None:
        """Drop what an earlier entry of the same layer said about `path`."""
        for said in self._by_path:
            if path in said:
                del said[path]
        self.editable.discard(path)

    def add_packages(self, path: str, packages: tuple[FoundPackage, ...]) -> None:
        """Record the packages that the metadata file `path` names.

        Raises:
            LimitError: the layer names more than `limits.COMPONENTS`.
        """
        self.packages[path] = packages
        for package in packages:
            self.keep(package.name, package.version, package.description, *package.depends, *package.licenses)
        if len(packages) > limits.COMPONENTS or len(self.packages) > limits.COMPONENTS:
            raise LimitError(
                f"the layer names more than {limits.COMPONENTS} packages", next_step="Do not use this image."
            )

    def add_program(self, path: str, kind: ProgramKind, entry: Entry) -> None:
        """Record a program."""
        self.keep(path)
        self.programs[path] = FoundProgram(path, kind, link=entry.kind == "symlink")

    def add_exposure(self, exposure: Exposure) -> None:
        """Record something that helps an attacker."""
        self.keep(exposure.path)
        self.exposures[exposure.path] = (*self.exposures.get(exposure.path, ()), exposure)

    def add_build(self, build: FoundBuild) -> None:
        """Record a framework or one of its libraries."""
        self.keep(build.path, build.version, *build.details, *build.details.values())
        self.builds[build.path] = build

    def add_model(self, model: FoundModel) -> None:
        """Record a model."""
        self.keep(model.path, model.name, *model.tags, *model.signatures)
        self.models[model.path] = model

    def note(self, path: str, reason: str) -> None:
        """Record that something could not be read whole."""
        self.keep(path, reason)
        self._notes[path] = (*self._notes.get(path, ()), Unread(path, reason))

    def found(self) -> tuple[FoundPackage, ...]:
        """The packages, sorted by the place of their metadata."""
        return tuple(package for _, found in sorted(self.packages.items()) for package in found)

    def facts(self, diff_id: Digest, unpacked_size: int, measured: Measured = UNMEASURED) -> LayerFacts:
        """The finished value; the same layer always gives the same."""
        self.listing.finish()  # the sets of its paths are complete then
        return LayerFacts(
            diff_id=diff_id,
            unpacked_size=unpacked_size,
            files=self.files,
            file_bytes=self.file_bytes,
            paths=self.listing.listed.pack(),
            whiteouts=tuple(sorted(self.whiteouts)),
            opaque=tuple(sorted(self.opaque)),
            links=dict(sorted(self.links.items())),
            packages=self.found(),
            copyrights=dict(sorted(self.copyrights.items())),
            programs=tuple(program for _, program in sorted(self.programs.items())),
            exposures=tuple(sorted(exposure for found in self.exposures.values() for exposure in found)),
            builds=tuple(build for _, build in sorted(self.builds.items())),
            models=tuple(model for _, model in sorted(self.models.items())),
            editable=tuple(sorted(self.editable)),
            develop=dict(sorted(self.develop.items())),
            archives=dict(sorted(self.archives.items())),
            os_releases=dict(sorted(self.os_releases.items())),
            users=dict(sorted(self.users.items())),
            unread=tuple(sorted(self.unread)),
            implied=self.listing.implied.pack(),
            measured=measured,
            linked=tuple(sorted(self.linked.values())),
        )
