"""Steps: copy between places, pull into the store, export into a file.

The store is opened, and with it the catalog, only when it is one of the two places.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from tidewaiter.core.errors import InputError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.distribution.blob_places import BlobPlaces
from tidewaiter.distribution.copy import CopyResult, choose, copy
from tidewaiter.distribution.endpoints import Source, Target
from tidewaiter.distribution.registry import Registry
from tidewaiter.distribution.registry_place import RegistryPlace
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Platform
from tidewaiter.oci.reference import ArchiveReference, LayoutReference, Reference, RegistryReference, StoreReference
from tidewaiter.pipelines import connecting
from tidewaiter.transport.client import Client

if TYPE_CHECKING:
    from tidewaiter.oci.archive_writer import ArchiveNames
    from tidewaiter.pipelines.workshop import Workshop

DEFAULT_PLATFORM = Platform(os="linux", architecture="amd64")
"""What is taken out of an index where only one image fits: into the store, into a docker-archive."""


class Copied(msgspec.Struct, frozen=True):
    """A finished copy."""

    source: str
    destination: str
    """Without the transport; with the tag that was written."""
    result: CopyResult


class _Origin(msgspec.Struct, frozen=True):
    """An opened source: where to read, what, and how it was named."""

    place: Source
    root: Descriptor
    shown: str
    name: str
    """Repository name; with host for a registry's, empty where there is none."""
    tag: str
    """Empty when it was named by digest, or has none."""


class Places:
    """Opens places for the length of one command, each thing when it is first needed.

    A `workshop` that is given was opened by somebody else, who closes it.
    """

    def __init__(self, settings: Settings, progress: Progress, *, workshop: "Workshop | None" = None) -> None:
        self.settings = settings
        self.progress = progress
        self._stack = ExitStack()
        self._client: Client | None = None
        self._workshop = workshop
        self._registries: dict[str, Registry] = {}
        self._known: list[tuple[str, BlobPlaces]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def workshop(self) -> "Workshop":
        """Store and catalog."""
        if self._workshop is None:
            from tidewaiter.pipelines.workshop import opened

            self._workshop = self._stack.enter_context(opened(self.settings, self.progress))
        return self._workshop

    @property
    def client(self) -> Client:
        """HTTP."""
        if self._client is None:
            self._client = (
                self._workshop.client if self._workshop else self._stack.enter_context(connecting.client(self.settings))
            )
        return self._client

    def registry(self, given: RegistryReference, *, opens: bool = False) -> RegistryPlace:
        """The repository that `given` names; what is known of its host is shared by both sides of a copy.

        `opens` as in `RegistryPlace`.
        """
        known = next((found for host, found in self._known if host == given.host), None)
        if known is None and self.settings.home.path.is_dir():  # hints alone are no reason to make a home
            known = BlobPlaces(self.settings.home.cache / "blob-places", given.host)
            self._known.append((given.host, known))
        # One registry for both sides: they share connections' tokens.
        registry = self._registries.get(given.host)
        if registry is None:
            repository = connecting.connect(self.client, self.settings, given)
            self._registries[given.host] = repository.registry
        else:
            repository = registry.repository(given.repository)
        return RegistryPlace(repository, known=known, opens=opens)

    # Sources

    def origin(self, given: Reference, *, beside: bool = False) -> _Origin:
        """The source that `given` names; of the store, with what is attached to the image there when `beside` says so.

        Raises:
            NotFoundError: there is no such image.
            NetworkError: the registry could not be asked.
        """
        if isinstance(given, RegistryReference):
            place = self.registry(given)
            root = place.repository.resolve(given.target)
            tag = "" if given.digest and not given.tag else given.tag or "latest"
            return _Origin(place, root, str(given), f"{given.host}/{given.repository}", tag)
        if isinstance(given, StoreReference):
            return self._stored(given, beside=beside)
        if isinstance(given, LayoutReference):
            from tidewaiter.distribution.layout_place import LayoutPlace, name_of
            from tidewaiter.oci.layout import Layout

            layout = Layout(given.path)
            entry = layout.resolve(given.tag)
            return _Origin(LayoutPlace(layout), _bare(entry), str(given), "", given.tag or name_of(entry) or "")
        from tidewaiter.distribution.archive_place import ArchiveSource
        from tidewaiter.distribution.layout_place import name_of
        from tidewaiter.oci.archive import open_archive

        archive = open_archive(given)
        entry = archive.descriptor
        docker = given.name if given.kind == "docker-archive" else None
        name = references.parse_registry(docker).target if docker else name_of(entry)
        return _Origin(ArchiveSource(archive), _bare(entry), str(given), "", name or "")

    def _stored(self, given: StoreReference, *, beside: bool) -> _Origin:
        from tidewaiter.distribution.layout_place import LayoutPlace
        from tidewaiter.pipelines.images import store_reference, stored_descriptor

        shop = self.workshop
        found = store_reference(shop, given)
        place = LayoutPlace(shop.store)
        if beside:
            from tidewaiter.pipelines.attachments import attaching  # loads the libraries of signatures

            there = attaching.stored(shop, found.digest)
            place = LayoutPlace(shop.store, names=there.names(found.digest), beside=there.referrers)
        shown = f"{found.name}:{found.tag}" if found.tag else f"{found.name}@{found.digest}"
        return _Origin(place, stored_descriptor(shop.store, found.digest), shown, found.name, found.tag)

    # Targets

    @contextmanager
    def target(self, given: Reference, origin: _Origin) -> Iterator[tuple[Target, tuple[str, ...], str]]:
        """The target that `given` names, the tags to write, and how it is shown."""
        if isinstance(given, RegistryReference):
            if given.digest is not None:
                raise InputError(
                    f"{given} names a digest, which only what is copied can decide", next_step="Write HOST/REPO:TAG."
                )
            tag = given.tag or _tag_of(origin)
            named = RegistryReference(host=given.host, repository=given.repository, tag=tag or None)
            shown = str(named) if tag else f"{named}@{origin.root.digest}"
            near = isinstance(origin.place, RegistryPlace) and origin.place.host == given.host
            yield self.registry(given, opens=not near), (tag,) if tag else (), shown
        elif isinstance(given, LayoutReference):
            from tidewaiter.distribution.layout_place import LayoutPlace
            from tidewaiter.oci.layout import Layout

            layout = Layout(given.path, synced=False)  # only the store keeps what the user has nowhere else
            layout.create()
            tag = given.tag or _tag_of(origin) or "latest"
            yield LayoutPlace(layout), (tag,), str(LayoutReference(path=given.path, tag=tag))
        elif isinstance(given, ArchiveReference):
            from tidewaiter.distribution.archive_place import ArchiveTarget
            from tidewaiter.oci.archive_writer import ArchiveWriter

            names = _names(given, origin)
            with ArchiveWriter(given.path) as writer:
                docker = given.kind == "docker-archive"
                yield ArchiveTarget(writer, names, docker=docker), (names.tag or "latest",), str(given)
        else:
            raise InputError(f"{given} is in the store", next_step="Use `tidewaiter pull` to put an image there.")


def _bare(entry: Descriptor) -> Descriptor:
    return Descriptor(media_type=entry.media_type, digest=entry.digest, size=entry.size)


def _tag_of(origin: _Origin) -> str:
    """The source's tag, when it is one: names of foreign layouts may be whole references."""
    try:
        return references.check_tag(origin.tag) if origin.tag else ""
    except InputError:
        return ""


def _names(given: ArchiveReference, origin: _Origin) -> "ArchiveNames":
    """Names as `docker save` writes them: containerd wants the host, Docker leaves its own out."""
    from tidewaiter.oci.archive_writer import ArchiveNames

    tag = _tag_of(origin)
    if given.name and given.kind == "oci-archive":
        return ArchiveNames(tag=given.name)
    if given.name:
        full = references.parse_registry(given.name)
        tag = full.tag or "latest"
        full = msgspec.structs.replace(full, tag=tag)
    elif tag and origin.name:
        full = references.parse_registry(f"{origin.name}:{tag}")
    else:
        return ArchiveNames(tag=tag)
    familiar = str(full).removeprefix("docker.io/").removeprefix("library/") if full.host == "docker.io" else str(full)
    return ArchiveNames(tag=tag, full=str(full), familiar=familiar)


def _require_cleared(places: Places, given: StoreReference, target: RegistryReference) -> None:
    from tidewaiter.pipelines.images import store_reference
    from tidewaiter.policy import environments

    found = store_reference(places.workshop, given)
    said = environments.said_by(places.workshop.settings)
    least = environments.least(said, found.name, f"{target.host}/{target.repository}")
    places.workshop.catalog.require_cleared(found.name, found.digest, found.tag or None, least=least)


def copy_image(
    places: Places,
    source: str,
    destination: str | ArchiveReference,
    *,
    platform: Platform | None = None,
    all_platforms: bool = False,
    referrers: bool = False,
) -> Copied:
    """Copy an image, an index or an artifact from one place to another; into the store it is pulled.

    Of an index everything is copied, into the store and into a docker-archive one platform.

    Raises:
        DeniedError: the source is in the store and not cleared, the destination is a registry.
        InputError: a reference is malformed, or the two places do not fit.
        NotFoundError: there is no such image or platform.
        NetworkError: a registry could not be reached or refused.
    """
    given = references.parse(source)
    wanted = references.parse(destination) if isinstance(destination, str) else destination
    if isinstance(wanted, StoreReference):
        if all_platforms:
            raise _one_platform("the store")
        name = StoreReference(name=wanted.name, tag=wanted.tag, digest=wanted.digest)
        return pull(places, source, name, platform=platform, referrers=referrers)
    if isinstance(given, StoreReference) and isinstance(wanted, RegistryReference):
        _require_cleared(places, given, wanted)
    if isinstance(wanted, ArchiveReference) and wanted.kind == "docker-archive":
        if all_platforms:
            raise _one_platform("a docker-archive")
        platform = platform or DEFAULT_PLATFORM
    origin = places.origin(given, beside=referrers)
    with places.target(wanted, origin) as (target, tags, shown):
        result = copy(
            origin.place,
            target,
            choose(origin.place, origin.root, platform),
            tags=tags,
            referrers=referrers,
            progress=places.progress,
            title=f"copying to {shown}",
        )
    return Copied(origin.shown, shown, result)


def _one_platform(where: str) -> InputError:
    return InputError(f"{where} holds images of one platform", next_step="Choose one with --platform OS/ARCHITECTURE.")


def pull(
    places: Places,
    source: str,
    name: StoreReference | None = None,
    *,
    platform: Platform | None = None,
    referrers: bool = False,
) -> Copied:
    """Put an image into the store, under its own name unless another is given; recorded as pulled, not cleared.

    Raises:
        InputError: the source is in the store itself, or is no container image.
        NotFoundError: there is no such image or platform.
        IntegrityError: bytes do not have their digest or size.
        NetworkError: the registry could not be reached or refused.
        StorageError: the disk refused.
    """
    from tidewaiter.distribution.layout_place import LayoutPlace
    from tidewaiter.oci import image as images
    from tidewaiter.pipelines import pulled

    given = references.parse(source)
    if isinstance(given, StoreReference):
        raise InputError(f"{source} is in the store already", next_step="Name an image elsewhere: HOST/REPO:TAG.")
    if name is not None and name.digest is not None:
        raise InputError(f"{name} names a digest", next_step="Name it NAME:TAG.")
    origin = places.origin(given)
    name = _store_name(given, origin, name)
    root = choose(origin.place, origin.root, platform or DEFAULT_PLATFORM)
    shop = places.workshop
    title = f"pulling {origin.shown}"
    if not referrers:
        result = copy(origin.place, LayoutPlace(shop.store), root, progress=places.progress, title=title)
        pulled.record(shop, images.load(shop.store, root), name, origin.shown)
        return Copied(origin.shown, str(name), result)
    from tidewaiter.pipelines.attachments.taking import Taking  # loads the libraries of signatures

    taking = Taking(shop, root.digest)
    result = copy(origin.place, taking, root, referrers=True, progress=places.progress, title=title)
    pulled.record(shop, images.load(shop.store, root), name, origin.shown)
    taking.record()
    return Copied(origin.shown, str(name), result)


def _store_name(given: Reference, origin: _Origin, name: StoreReference | None) -> StoreReference:
    tag = (name.tag if name else None) or _tag_of(origin)
    if name is not None:
        repository = name.name
    elif isinstance(given, RegistryReference):
        repository = given.repository
    else:
        raise InputError(f"{origin.shown} has no name of its own", next_step="Name it: NAME:TAG.")
    return StoreReference(name=repository, tag=tag or _short(origin.root.digest))


def _short(digest: Digest) -> str:
    """A tag for what has none: the first digits of its digest, as for a commit."""
    return digest.partition(":")[2][:12]


def export(places: Places, source: str, file: str, *, platform: Platform | None = None) -> Copied:
    """Write an image of one platform into a file that Docker, containerd, podman and skopeo load.

    Raises: as `copy_image`.
    """
    return copy_image(places, source, ArchiveReference(path=Path(file), kind="docker-archive"), platform=platform)
