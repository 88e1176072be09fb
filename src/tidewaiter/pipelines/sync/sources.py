"""Where images are taken in from: a registry, a folder, a file, the store. Each has repositories with targets.

A source only looks and reads; what is known, and so not read, is the business of `syncing`.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, NamedTuple, Protocol

import msgspec

from tidewaiter.catalog import synced
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.distribution.registry import RawManifest, Registry, Repository
from tidewaiter.oci import archive
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.layout import ATTACHED, REF_NAME, Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.oci.reference import ArchiveReference, LayoutReference, RegistryReference, is_host
from tidewaiter.pipelines import connecting
from tidewaiter.pipelines.workshop import Workshop

_ACCEPT = ", ".join(sorted(documents.MANIFEST_TYPES | documents.INDEX_TYPES))
_NO_API = frozenset({400, 404, 405, 501})
_STEP = "Write docker://HOST, HOST/PREFIX/, HOST/REPO[:TAG], oci:PATH, oci-archive:FILE, docker-archive:FILE or store:."


class Target(NamedTuple):
    """Something that a repository offers."""

    tag: str
    """Empty when nothing names it."""
    digest: Digest | None
    """None until it is looked at."""


class Offers(Protocol):
    """One repository as it lies there."""

    name: str
    """As the catalog calls it."""
    complete: bool
    """Whether `targets` are all that there are: a tag that is not among them is gone."""
    stored: bool
    """Whether it is one of the store, whose tags the catalog has."""
    blobs: BlobSource

    def targets(self) -> Sequence[Target]:
        """What it offers. Raises `NotFoundError` or `NetworkError`."""

    def look(self, target: Target) -> Digest:
        """What the target means now. Raises `NotFoundError` or `NetworkError`."""

    def manifest(self, digest: Digest) -> RawManifest:
        """A manifest or index, verified."""

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What is known to refer to a manifest, beside what tags name."""

    def ask(self) -> None:
        """Nothing when whoever keeps the repository answers; raises `NetworkError`."""


class Place(NamedTuple):
    """One place that a user named."""

    name: str
    repositories: Callable[[Callable[[str], object]], Iterable[Offers]]
    """All repositories there; what is refused is told to the function given."""
    single: bool
    """Whether it is one repository, which the user named."""


# Registries


class InRegistry:
    """A repository of a registry."""

    stored = False

    def __init__(self, host: "_Host", repository: Repository, given: RegistryReference | None = None) -> None:
        self._host = host
        self._repository = repository
        self._given = given
        self.name = f"{host.registry.host}/{repository.name}"
        self.complete = given is None
        self.blobs: BlobSource = repository

    def targets(self) -> Sequence[Target]:
        """Its tags, or the one that was named."""
        if self._given is not None:
            return (Target(self._given.tag or "", self._given.digest),)
        return [Target(tag, None) for tag in self._repository.tags()]

    def look(self, target: Target) -> Digest:
        """The digest that the registry states for a tag, by HEAD; when it states none, that of what it sends."""
        if target.digest is not None:
            return target.digest
        registry, name = self._repository.registry, self._repository.name
        tag = references.check_tag(target.tag)
        answer = registry.call(
            "HEAD",
            f"/v2/{name}/manifests/{tag}",
            scope=f"repository:{name}:pull",
            headers={"Accept": _ACCEPT},
        )
        if answer.status == 200 and (stated := answer.headers.get("docker-content-digest")):
            return digests.parse(stated)
        if answer.status in {200, 405}:
            return self._repository.resolve(tag).digest
        raise registry.refusal(answer, f"{name}:{tag}")

    def manifest(self, digest: Digest) -> RawManifest:
        """A manifest, verified."""
        return self._repository.manifest(digest)

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """By the referrers API; a registry without one keeps them under tags."""
        if not self._host.lists_referrers(self._repository, digest):
            return ()
        return self._repository.referrers(digest)

    def ask(self) -> None:
        """Nothing when the registry answers."""
        self._repository.registry.ping()


class _Host:
    """One registry, and whether it knows the referrers API."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._lists: bool | None = None

    def lists_referrers(self, repository: Repository, digest: Digest) -> bool:
        if self._lists is None:  # several threads may ask at once, and learn the same
            answer = repository.get(f"/v2/{repository.name}/referrers/{digest}")
            if answer.status != 200 and answer.status not in _NO_API:
                return True  # whoever asks for them learns why it refused
            self._lists = answer.status == 200
        return self._lists

    def repository(self, name: str) -> InRegistry:
        return InRegistry(self, self.registry.repository(name))

    def listed(self, prefix: str, refused: Callable[[str], object]) -> Iterator[Offers]:
        """The repositories that the registry lists, of those below `prefix`."""
        for name in self.registry.repositories():
            if not name.startswith(prefix):
                continue
            try:
                yield self.repository(name)
            except InputError as error:
                refused(error.message)


def _registry_place(workshop: Workshop, text: str) -> Place:
    name = text.removeprefix("docker://")
    host, slash, rest = name.partition("/")
    whole = not rest or rest.endswith(("/", "/*")) or rest == "*"
    # Any repository makes the reference: it is read for the host.
    given = references.parse_registry(f"{host}/any" if whole else name)
    if whole and given.host != host:
        raise InputError(f"{text[:100]!r} names no registry", next_step=_STEP)
    repository = connecting.connect(workshop.client, workshop.settings, given)
    opened = _Host(repository.registry)
    if not whole:
        exact = given if given.tag or given.digest else None
        return Place(str(given), lambda _: (InRegistry(opened, repository, exact),), single=True)
    prefix = rest.removesuffix("*")
    if prefix:
        references.check_repository(prefix.removesuffix("/"))
    shown = f"{given.host}{slash}{prefix}".rstrip("/")
    return Place(shown, lambda refused: opened.listed(prefix, refused), single=False)


# Folders and files


class InFolder:
    """Manifests of an OCI layout, which is a repository by itself; or those of one repository of the store."""

    def __init__(
        self, layout: Layout, name: str, entries: Sequence[tuple[str, Digest]], *, complete: bool, stored: bool = False
    ) -> None:
        self.name = name
        self.complete = complete
        self.stored = stored
        self.blobs: BlobSource = layout
        self._entries = entries

    def targets(self) -> Sequence[Target]:
        """Everything that `index.json` lists."""
        return [Target(tag, digest) for tag, digest in self._entries]

    def look(self, target: Target) -> Digest:
        """As `index.json` says."""
        return _stated(target)

    def manifest(self, digest: Digest) -> RawManifest:
        """A manifest of the folder, verified."""
        return _read(self.blobs, digest)

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:  # noqa: ARG002 - as the protocol says
        """What refers to an image is listed beside it."""
        return ()

    def ask(self) -> None:
        """Nothing: the folder is here."""


class _Images:
    """The blobs of several images of one file."""

    def __init__(self) -> None:
        self.opened: list[BlobSource] = []

    def open(self, digest: Digest) -> IO[bytes]:
        """A stream of the blob; raises `NotFoundError`."""
        for one in self.opened[:-1]:
            with contextlib.suppress(NotFoundError):
                return one.open(digest)
        return self.opened[-1].open(digest)

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        """A small blob, verified."""
        for one in self.opened[:-1]:
            with contextlib.suppress(NotFoundError):
                return one.read(digest, limit=limit)
        return self.opened[-1].read(digest, limit=limit)


class InFile:
    """The images of an archive."""

    stored = False

    def __init__(self, given: ArchiveReference) -> None:
        self.name = synced.file_name(given)
        self.complete = given.name is None
        self._images = _Images()
        self.blobs: BlobSource = self._images
        self._given = given

    def targets(self) -> Sequence[Target]:
        """The image that was named, else every one that has a name, else the only one."""
        names: Sequence[str | None] = [self._given.name] if self._given.name else archive.names(self._given) or [None]
        found = []
        for name in names:
            one = archive.open_archive(msgspec.structs.replace(self._given, name=name))
            self._images.opened.append(one)
            found.append(Target(name or "", one.descriptor.digest))
        return found

    def look(self, target: Target) -> Digest:
        """As the table of contents says."""
        return _stated(target)

    def manifest(self, digest: Digest) -> RawManifest:
        """A manifest of the file, verified."""
        return _read(self.blobs, digest)

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:  # noqa: ARG002 - as the protocol says
        """None: an archive carries images."""
        return ()

    def ask(self) -> None:
        """Nothing: the file is here."""


def _stated(target: Target) -> Digest:
    assert target.digest is not None  # noqa: S101  # folders and files name everything by digest
    return target.digest


def _read(blobs: BlobSource, digest: Digest) -> RawManifest:
    data = blobs.read(digest, limit=limits.MANIFEST_BYTES)
    stated = documents.decode_manifest(data).media_type
    return RawManifest(data, stated or documents.MANIFEST, digest)


def _layout_place(given: LayoutReference) -> Place:
    layout = Layout(given.path)
    listed = [layout.resolve(given.tag)] if given.tag else layout.index()
    entries = [((one.annotations or {}).get(REF_NAME, ""), one.digest) for one in listed]
    name = synced.file_name(given)
    return Place(name, lambda _: (InFolder(layout, name, entries, complete=given.tag is None),), single=True)


def _store_place(store: Layout, wanted: str) -> Place:
    """The images that the store lists, by repository; of those below `wanted`, or of all."""
    names: dict[str, list[tuple[str, Digest]]] = {}
    refused: list[str] = []
    for entry in store.index():
        listed = (entry.annotations or {}).get(REF_NAME, "")
        name, _, tag = listed.rpartition(":")
        try:
            references.check_repository(name)
        except InputError:
            if listed and not ATTACHED.fullmatch(listed):
                refused.append(f"the store lists {listed[:200]!r}, which is no NAME:TAG")
            continue
        if not wanted or wanted in {name, listed}:
            names.setdefault(name, []).append((tag, entry.digest))
    if wanted and not names:
        raise NotFoundError(f"the store lists no {wanted}", next_step="`tidewaiter catalog sync store:` takes in all.")

    def offers(tell: Callable[[str], object]) -> Iterator[Offers]:
        for one in refused:
            tell(one)
        for name, entries in sorted(names.items()):
            yield InFolder(store, name, entries, complete=False, stored=True)

    return Place(f"store:{wanted}", offers, single=False)


def parse(workshop: Workshop, text: str) -> Place:
    """The place that a user named.

    Raises:
        InputError: it is no place.
        NotFoundError: there is no such folder, file or image.
    """
    if text.startswith("store:"):
        return _store_place(workshop.store, text.removeprefix("store:"))
    if text.startswith(("oci:", "oci-archive:", "docker-archive:")):
        given = references.parse(text)
        if isinstance(given, LayoutReference):
            return _layout_place(given)
        if isinstance(given, ArchiveReference):
            return Place(synced.file_name(given), lambda _: (InFile(given),), single=True)
    if "/" not in text.removeprefix("docker://") and not text.startswith("docker://") and not is_host(text):
        raise InputError(f"{text[:100]!r} names no place", next_step=_STEP)
    if len(text) > limits.PATH_BYTES or not text.isprintable():
        raise InputError(f"{text[:100]!r} names no place", next_step=_STEP)
    return _registry_place(workshop, text)
