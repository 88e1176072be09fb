"""A Debian archive: the signed release file of a suite, and the package index that it names.

Trust, in order: (1) the shipped keys sign InRelease; (2) it is the suite that was asked for, and is still valid;
(3) it names the SHA-256 of the package index; (4) the index names the SHA-256 of every package.
"""

import datetime as dt
import email.utils
import hashlib
import io
import lzma
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tidewaiter.assembly.debian import control, signature
from tidewaiter.assembly.recipe import Suite
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import (
    InputError,
    IntegrityError,
    LimitError,
    NotFoundError,
    NotVerifiedError,
)
from tidewaiter.core.progress import Progress
from tidewaiter.oci.layer import check_path
from tidewaiter.sbom.versions import dpkg
from tidewaiter.transport.client import Client

_HASH_LINE = re.compile(r"([0-9a-f]{64}) +(\d{1,15}) +(\S+)")
_MIRROR = "Try again later or name another archive in TIDEWAITER_DEBIAN_MIRROR; nothing of this one was used."


class Mirror(msgspec.Struct, frozen=True):
    """Where archives are read."""

    address: str
    snapshot: str = ""
    """Time of a snapshot, `20260901T000000Z`, which stands in addresses after the archive's name."""
    frozen: bool = False
    """Whether what it holds is meant to be old, so that how long a release file is valid does not count."""

    def root(self, archive: str) -> str:
        """Address of the archive of that name."""
        return "/".join(filter(None, (self.address, archive, self.snapshot)))

    @property
    def moment(self) -> dt.datetime | None:
        """When its release files must be valid; None: at any time."""
        if self.snapshot:
            return dt.datetime.strptime(self.snapshot, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        return None if self.frozen else clock.now()


def mirror_of(snapshot: str, *, mirror: str, snapshots: str) -> Mirror:
    """Where a recipe with this `snapshot` is resolved, given the addresses of the mirror and of the snapshots.

    Raises:
        InputError: it names a time, and snapshots are turned off, or no such time exists.
    """
    if not snapshot:
        return Mirror(mirror)
    if snapshot.startswith("http"):
        return Mirror(snapshot.rstrip("/"), frozen=True)
    if not snapshots:
        raise InputError(
            f"the recipe asks for the snapshot {snapshot}, but TIDEWAITER_DEBIAN_SNAPSHOT is empty",
            next_step="Set it to an archive of snapshots, or take `snapshot` out of the recipe.",
        )
    found = Mirror(snapshots, snapshot=snapshot)
    try:
        _ = found.moment
    except ValueError as error:
        raise InputError(
            f"{snapshot} is no time", next_step="Write it like 20260901T000000Z.", code="bad_recipe"
        ) from error
    return found


class Release(msgspec.Struct, frozen=True):
    """A verified release file."""

    suite: Suite
    date: dt.datetime
    by_hash: bool
    indexes: dict[str, tuple[int, str]]
    """Size in bytes and SHA-256 by path below the suite."""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A package of an index."""

    name: str
    version: str
    architecture: str
    suite: Suite
    path: str
    """Path in the archive's pool."""
    size: int
    sha256: str
    depends: tuple[tuple[control.Relation, ...], ...]
    """Depends and Pre-Depends."""
    provides: tuple[control.Relation, ...]
    conflicts: tuple[control.Relation, ...]
    """Conflicts and Breaks."""


def _moment(text: str, source: str) -> dt.datetime:
    try:
        return email.utils.parsedate_to_datetime(text).replace(tzinfo=dt.UTC)
    except (ValueError, TypeError) as error:
        raise InputError(f"{source}: {text[:60]!r} is no date", next_step=_MIRROR) from error


def parse_release(text: bytes, suite: Suite, *, source: str, moment: dt.datetime | None = None) -> Release:
    """The release file in `text` (already verified), which must be valid at `moment` unless that is None.

    Raises:
        InputError: it is malformed, or of another suite.
        NotVerifiedError: it is no longer valid.
    """
    try:
        fields = control.paragraph(text.decode(), source=source)
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8", next_step=_MIRROR) from error
    if fields.get("codename") != suite.name:
        raise InputError(
            f"{source} is the release file of {fields.get('codename', 'no suite')!r}, not of {suite.name!r}",
            next_step=_MIRROR,
        )
    date = _moment(control.required(fields, "date", source=source), source)
    until = fields.get("valid-until")
    if until and moment is not None and _moment(until, source) < moment:
        raise NotVerifiedError(
            f"{source} was valid until {until}: the mirror is behind, or holds back security updates",
            next_step=_MIRROR,
            code="release_expired",
        )
    indexes = {
        match[3]: (int(match[2]), match[1])
        for match in map(_HASH_LINE.fullmatch, fields.get("sha256", "").split("\n"))
        if match
    }
    return Release(suite, date, fields.get("acquire-by-hash", "no").lower() == "yes", indexes)


def fetch_release(suite: Suite, client: Client, mirror: Mirror, *, key_folder: Path | None = None) -> Release:
    """The verified release file of `suite` from `mirror`.

    Raises:
        NotVerifiedError, MissingToolError, InputError: as `verify` and `parse_release`.
        NotFoundError: the snapshot is gone.
        NetworkError: the mirror cannot be read.
    """
    url = f"{mirror.root(suite.archive)}/dists/{suite.name}/InRelease"
    try:
        data = client.get(url, limit=limits.INRELEASE_BYTES)
    except NotFoundError as error:
        if not mirror.snapshot and not mirror.frozen:
            raise
        raise NotFoundError(
            f"the snapshot {mirror.snapshot or mirror.address} is gone: {url} is not there",
            next_step="Name another `snapshot` in the recipe, or in TIDEWAITER_DEBIAN_SNAPSHOT an archive that has it.",
            code="snapshot_gone",
        ) from error
    text = signature.verify(data, signature.keys(suite.keys, key_folder), source=url)
    return parse_release(text, suite, source=url, moment=mirror.moment)


def fetch_index(
    release: Release, architecture: str, client: Client, mirror: Mirror, progress: Progress
) -> Iterator[bytes]:
    """Paragraphs of the package index that `release` names for `architecture`, as they stand there.

    Raises:
        IntegrityError: the index is not the one that was signed.
        InputError: the release file names none.
        LimitError: it is larger than accepted.
    """
    suite = release.suite
    path = f"{suite.component}/binary-{architecture}/Packages.xz"
    if path not in release.indexes:
        raise InputError(
            f"the release file of {suite.name} names no {path}",
            next_step="Check the component in the recipe, and whether the suite has this architecture.",
        )
    size, sha256 = release.indexes[path]
    if size > limits.PACKAGES_BYTES:
        raise LimitError(f"{path} of {suite.name} has {size} bytes", next_step=_MIRROR)
    below = f"{mirror.root(suite.archive)}/dists/{suite.name}"
    sink = io.BytesIO()
    with progress.task(f"Package index of {suite.name}", total=size, unit="bytes") as task:
        by_hash = f"{below}/{path.rpartition('/')[0]}/by-hash/SHA256/{sha256}"
        try:
            client.download(by_hash if release.by_hash else f"{below}/{path}", sink, limit=size, advance=task.advance)
        except NotFoundError:
            if not release.by_hash:
                raise
            client.download(f"{below}/{path}", sink, limit=size, advance=task.advance)
    data = sink.getvalue()
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise IntegrityError(
            f"{path} of {suite.name} is not the file that its release file names (SHA-256 {sha256})",
            next_step=_MIRROR,
        )
    return _paragraphs(data, f"{path} of {suite.name}")


def _paragraphs(data: bytes, source: str) -> Iterator[bytes]:
    total = 0
    rest = b""
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.XZ_MEMORY_BYTES)
    try:
        while not unpacker.eof:
            chunk = unpacker.decompress(data, 1 << 20)
            data = b""
            if not chunk and unpacker.needs_input:
                raise InputError(f"{source} ends in the middle", next_step=_MIRROR)
            total += len(chunk)
            if total > limits.PACKAGES_BYTES:
                raise LimitError(f"{source} unpacks to over {limits.PACKAGES_BYTES} bytes", next_step=_MIRROR)
            *whole, rest = (rest + chunk).split(b"\n\n")
            if len(rest) > limits.DEB_CONTROL_BYTES:
                raise LimitError(f"{source} has an endless paragraph", next_step=_MIRROR)
            yield from filter(bytes.strip, whole)
    except lzma.LZMAError as error:
        raise InputError(f"{source} is not xz: {error}", next_step=_MIRROR) from error
    if rest.strip():
        yield rest


def package(paragraph: bytes, suite: Suite) -> Package:
    """The package that a paragraph of an index describes; raises `InputError`."""
    source = f"the package index of {suite.name}"
    fields = control.paragraph(paragraph.decode(errors="replace"), source=source)
    name = control.package_name(fields, source=source)
    source = f"{name} in {source}"
    version = control.required(fields, "version", source=source)
    dpkg.key(version)
    size = control.required(fields, "size", source=source)
    sha256 = control.required(fields, "sha256", source=source)
    if not re.fullmatch(r"\d{1,15}", size) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InputError(f"{source} has no usable size or SHA-256", next_step=_MIRROR)

    def field(key: str) -> tuple[tuple[control.Relation, ...], ...]:
        return control.relations(fields.get(key, ""), source=source)

    return Package(
        name=name,
        version=version,
        architecture=control.required(fields, "architecture", source=source),
        suite=suite,
        path=check_path(control.required(fields, "filename", source=source), source=source),
        size=int(size),
        sha256=sha256,
        depends=field("pre-depends") + field("depends"),
        provides=tuple(one for group in field("provides") for one in group),
        conflicts=tuple(one for key in ("conflicts", "breaks") for group in field(key) for one in group),
    )
