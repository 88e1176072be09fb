"""Images in one tar file, read in place: `oci-archive` (a layout) and `docker-archive` (what `docker save` writes).

A docker-archive has no manifest of the registry kind. We give it one: the config as it stands, and a
descriptor for each layer file, so that it loads like every other image. Its digest is that of our manifest
and names the content; it is not the digest under which a registry would know the image.
"""

import hashlib
import io
import posixpath
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol, cast

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NotFoundError
from tidewaiter.core.files import open_regular
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import unambiguous
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource, Image, load
from tidewaiter.oci.layout import ATTACHED, REF_NAME, only_image
from tidewaiter.oci.manifest import Descriptor, Index, Manifest
from tidewaiter.oci.plain_tar import Info
from tidewaiter.oci.reference import ArchiveReference, parse_registry

_CHUNK = 1 << 20
_LINK_DEPTH = 8
_NEXT = "Save the image again with `skopeo copy` or `docker save`."


class Archive(BlobSource, Protocol):
    """A tar file, and one image in it."""

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor of the image's manifest or index."""

    @property
    def listed(self) -> Sequence[Descriptor]:
        """Everything that the table of contents lists: the image, and what refers to it."""


class _Slice(io.RawIOBase):
    """`size` bytes of a file from `offset` on, with a handle of its own, so that threads do not disturb each other."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb")
        self._file.seek(offset)
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no length
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Place(msgspec.Struct, frozen=True):
    """Where a member's bytes lie in the archive."""

    offset: int
    size: int


class _Members:
    """Table of contents of a tar file: names to places, symlinks followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        places: dict[str, _Place] = {}
        links: dict[str, str] = {}
        try:
            with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=Info, errorlevel=1) as tar:
                for count, member in enumerate(tar):
                    tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every member otherwise
                    if count >= limits.ARCHIVE_MEMBERS:
                        raise LimitError(f"{path} holds more than {limits.ARCHIVE_MEMBERS} files", next_step=_NEXT)
                    name = posixpath.normpath("/" + member.name).lstrip("/")
                    if member.isreg() and not member.issparse():
                        places[name] = _Place(member.offset_data, member.size)
                    elif member.issym():
                        links[name] = posixpath.join(posixpath.dirname(name), member.linkname)
                    elif member.islnk():
                        links[name] = member.linkname
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {path}", next_step="Name the archive's path.") from error
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            raise InputError(
                f"{path} is not a readable tar: {error}",
                next_step="Unpack it first if it is compressed (gunzip, unzstd), or save the image again.",
            ) from error
        self._places = places
        self._links = {name: posixpath.normpath("/" + target).lstrip("/") for name, target in links.items()}

    def place(self, name: str) -> _Place | None:
        """Where the file `name` lies; None when there is none."""
        wanted = posixpath.normpath("/" + name).lstrip("/")
        for _ in range(_LINK_DEPTH):
            found = self._places.get(wanted)
            if found is not None or wanted not in self._links:
                return found
            wanted = self._links[wanted]
        return None

    def open(self, place: _Place) -> IO[bytes]:
        """A stream of the bytes at `place`."""
        return cast("IO[bytes]", io.BufferedReader(_Slice(self.path, place.offset, place.size), _CHUNK))

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a small file.

        Raises:
            InputError: there is none of that name.
            LimitError: it is over `limit`.
        """
        place = self.place(name)
        if place is None:
            raise InputError(f"{self.path} has no {name[:200]}", next_step=_NEXT)
        if place.size > limit:
            raise LimitError(f"{name[:200]} in {self.path} is over {limit} bytes", next_step=_NEXT)
        with self.open(place) as file:
            return file.read()


def _verified(path: Path, digest: Digest, data: bytes) -> bytes:
    actual = f"{digests.algorithm(digest)}:{hashlib.new(digests.algorithm(digest), data).hexdigest()}"
    if actual != digest:
        raise IntegrityError(f"{digest} in {path} is damaged: its bytes have digest {actual}", next_step=_NEXT)
    return data


def _missing(path: Path, digest: Digest) -> NotFoundError:
    return NotFoundError(f"{path} has no blob {digest}", next_step=_NEXT, code="blob_unknown")


def _choose(path: Path, entries: Sequence[Descriptor], name: str | None) -> Descriptor:
    """The image `name`, or the one image; signatures and other things that refer to it are listed beside it."""
    named = [(entry.annotations or {}).get(REF_NAME, "") for entry in entries]
    chosen = [entry for entry, its in zip(entries, named, strict=True) if its == name]
    alone = only_image(entries) if name is None else chosen[0] if len(chosen) == 1 else None
    if alone is None:
        raise _ambiguous(path, len(entries), sorted(filter(None, named)), f"oci-archive:{path}:TAG", name)
    return alone


def _ambiguous(path: Path, count: int, names: Sequence[str], written: str, name: str | None) -> NotFoundError:
    """Nothing in the archive, or several things, are what was asked for."""
    listed = f"{': ' if names else ''}{', '.join(names[:20])}"
    if name is None:
        return NotFoundError(f"{path} holds {count} images{listed}", next_step=f"Name one of them: {written}.")
    return NotFoundError(
        f"{path} does not hold one image {name}, but {count} images{listed}",
        next_step=f"Name it as it is listed: {written}. Leave the name out when there is one image.",
    )


def _same(saved: str, name: str) -> bool:
    """Whether two names of Docker's mean the same image: with or without host, `library/` and `:latest`."""
    try:
        first, second = parse_registry(saved), parse_registry(name)
    except InputError:
        return False
    return (first.host, first.repository, first.target) == (second.host, second.repository, second.target)


def names(reference: ArchiveReference) -> list[str]:
    """What the images of the archive are called, each once; of signatures and the like, nothing.

    Raises: as `open_archive`.
    """
    members = _Members(reference.path)
    if reference.kind == "docker-archive":
        return list(dict.fromkeys(image.repo_tags[0] for image in _all_saved(members) if image.repo_tags))
    listed = documents.decode_manifest(members.read("index.json", limits.MANIFEST_BYTES), documents.INDEX)
    entries = listed.manifests if isinstance(listed, Index) else []
    called = ((entry.annotations or {}).get(REF_NAME) for entry in entries)
    return list(dict.fromkeys(name for name in called if name and not ATTACHED.fullmatch(name)))


class OciArchive:
    """An OCI layout in a tar file, and the image `name` in it, or its only one."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._members = _Members(path)
        index = documents.decode_manifest(self._members.read("index.json", limits.MANIFEST_BYTES), documents.INDEX)
        if not isinstance(index, Index):
            raise InputError(f"index.json in {path} is not an index", next_step=_NEXT)
        self.listed: Sequence[Descriptor] = index.manifests
        self.descriptor = _choose(path, index.manifests, name)

    def open(self, digest: Digest) -> IO[bytes]:
        """The blob's bytes, not verified; raises `NotFoundError`."""
        place = self._members.place(f"blobs/{digests.algorithm(digest)}/{digests.hexadecimal(digest)}")
        if place is None:
            raise _missing(self._members.path, digest)
        return self._members.open(place)

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        """A small blob, verified; raises `NotFoundError`, `LimitError` or `IntegrityError`."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise LimitError(f"blob {digest} is over {limit} bytes", next_step=_NEXT)
        return _verified(self._members.path, digest, data)


class _Saved(msgspec.Struct, frozen=True):
    """One image of a docker-archive's `manifest.json`."""

    config: str = msgspec.field(name="Config")
    layers: list[str] = msgspec.field(name="Layers")
    repo_tags: list[str] | None = msgspec.field(name="RepoTags", default=None)


def _all_saved(members: _Members) -> list[_Saved]:
    try:
        data = members.read("manifest.json", limits.MANIFEST_BYTES)
        return msgspec.convert(unambiguous.read(data, _Saved), list[_Saved])
    except (ValueError, RecursionError) as error:
        raise InputError(f"manifest.json in {members.path} is malformed: {error}", next_step=_NEXT) from error


class DockerArchive:
    """What `docker save`, `podman save` and `skopeo copy … docker-archive:` write, and the image `name` in it."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._members = _Members(path)
        saved = self._saved(name)
        config = self._members.read(saved.config, limits.CONFIG_BYTES)
        diff_ids = documents.decode_config(config).rootfs.diff_ids
        if len(diff_ids) != len(saved.layers) or len(saved.layers) > limits.IMAGE_LAYERS:
            raise InputError(f"{path} lists {len(saved.layers)} layers and {len(diff_ids)} diff IDs", next_step=_NEXT)
        self._places: dict[Digest, _Place] = {}
        layers = [self._layer(name, diff_id) for name, diff_id in zip(saved.layers, diff_ids, strict=True)]
        manifest = documents.encode(
            Manifest(
                schema_version=2,
                media_type=documents.MANIFEST,
                config=Descriptor(media_type=documents.CONFIG, digest=digests.of(config), size=len(config)),
                layers=layers,
            )
        )
        self._documents = {digests.of(config): config, digests.of(manifest): manifest}
        self.descriptor = Descriptor(media_type=documents.MANIFEST, digest=digests.of(manifest), size=len(manifest))
        self.listed: Sequence[Descriptor] = ()

    def _saved(self, name: str | None) -> _Saved:
        path = self._members.path
        images = _all_saved(self._members)
        chosen = [one for one in images if name is None or any(_same(tag, name) for tag in one.repo_tags or [])]
        if len(chosen) != 1:
            names = [tag for image in images for tag in image.repo_tags or []]
            raise _ambiguous(path, len(images), names, f"docker-archive:{path}:NAME:TAG", name)
        return chosen[0]

    def _layer(self, name: str, diff_id: Digest) -> Descriptor:
        place = self._members.place(name)
        if place is None:
            raise InputError(f"{self._members.path} has no layer {name[:200]}", next_step=_NEXT)
        with self._members.open(place) as file:
            compressed = file.read(2) == b"\x1f\x8b"
        digest, media_type = diff_id, documents.LAYER
        if compressed:
            # Docker's containerd store saves blobs as they are; their digest is known only by reading them.
            found = hashlib.sha256()
            with self._members.open(place) as file:
                while data := file.read(_CHUNK):
                    found.update(data)
            digest, media_type = digests.from_sha256(found.hexdigest()), documents.LAYER_GZIP
        self._places[digest] = place
        return Descriptor(media_type=media_type, digest=digest, size=place.size)

    def open(self, digest: Digest) -> IO[bytes]:
        """The blob's bytes, layers not verified; raises `NotFoundError`."""
        if digest in self._documents:
            return io.BytesIO(self._documents[digest])
        if digest not in self._places:
            raise _missing(self._members.path, digest)
        return self._members.open(self._places[digest])

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        """A small blob, verified; raises `NotFoundError`, `LimitError` or `IntegrityError`."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise LimitError(f"blob {digest} is over {limit} bytes", next_step=_NEXT)
        return _verified(self._members.path, digest, data)


def open_archive(reference: ArchiveReference) -> Archive:
    """The archive that `reference` names, ready for `image.load(archive, archive.descriptor)`.

    Raises:
        NotFoundError: no such file, or it holds no image of that name, or none was named and there are several.
        InputError: it is not an archive of that kind.
        LimitError: it is over a bound of `core.limits`.
    """
    if reference.kind == "oci-archive":
        return OciArchive(reference.path, reference.name)
    return DockerArchive(reference.path, reference.name)


def load_archive(reference: ArchiveReference, *, architecture: str = "amd64") -> Image:
    """The image in the archive; raises what `open_archive` and `image.load` raise."""
    archive = open_archive(reference)
    return load(archive, archive.descriptor, architecture=architecture)
