"""Images that exist already as what a project stands on: named by digest, kept as they are, only added to."""

from pathlib import Path
from typing import Protocol

import msgspec

from tidewaiter.assembly.foundation import NOT_FOR_PRODUCTION, Foundation
from tidewaiter.assembly.ground import Ground, Listings, listings_of
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.core.errors import InputError, ProjectError
from tidewaiter.core.progress import Progress
from tidewaiter.core.project import Project
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import LayerInfo
from tidewaiter.oci.manifest import History, Platform
from tidewaiter.oci.reference import ArchiveReference, LayoutReference, RegistryReference, StoreReference


class ImageName(msgspec.Struct, frozen=True):
    """An image as a project file names it."""

    place: RegistryReference | LayoutReference | StoreReference
    digest: Digest | None
    shown: str
    """As it is written, without `docker://`, `oci:` and `store:`."""


class Images(Protocol):
    """Where images of other places come from; whoever builds has the way there."""

    def digest(self, name: ImageName) -> Digest:
        """What a name without digest means now; raises `NotFoundError`, `NetworkError`."""

    def bring(self, name: ImageName, platform: Platform) -> Image:
        """The image, of an index that of `platform`, with all of its blobs in the store.

        Raises:
            NotFoundError: there is no such image or platform.
            NetworkError: the registry could not be asked.
            IntegrityError: bytes do not have their digest.
        """


def parse_name(text: str, directory: Path) -> ImageName:
    """The image that `text` names; a relative layout lies below `directory`. Raises `InputError`."""
    if text.startswith("oci:"):
        path, at, digest = text.removeprefix("oci:").partition("@")
        # A layout's own tag may be a whole reference, so what is asked for here is the folder and the digest.
        place = LayoutReference(path=directory / path)
        return ImageName(place, digests.parse(digest) if at else None, text.removeprefix("oci:"))
    given = references.parse(text)
    if isinstance(given, ArchiveReference | LayoutReference):
        raise InputError(
            f"{text} has no digest of its own",
            next_step="Run `tidewaiter pull` with it, then name it store:NAME@sha256:….",
        )
    return ImageName(given, given.digest, str(given))


def required(project: Project, key: str, text: str, images: Images) -> ImageName:
    """The image that `key` of the project file names.

    Raises:
        ProjectError: it is named without a digest; the message says which one it has now.
        InputError: it is no reference.
        NotFoundError, NetworkError: there is no such image, or it could not be asked for.
    """
    name = parse_name(text, project.directory)
    if name.digest is None:
        head = text.rsplit(":", 1)[0] if isinstance(name.place, RegistryReference) and name.place.tag else text
        if isinstance(name.place, StoreReference):
            head = f"store:{name.place.name}"
        raise ProjectError(
            f"{project.path}: {key} is {text}, which may mean another image tomorrow",
            next_step=f'Write "{head}@{images.digest(name)}", which is what it means now.',
        )
    return name


def require_platform(image: Image, shown: str, wanted: Platform) -> Platform:
    """The platform of the image; raises `InputError` when it is not the one that is built for."""
    found = Platform(architecture=image.config.architecture, os=image.config.os, variant=image.config.variant)
    if (found.os, found.architecture) != (wanted.os, wanted.architecture):
        raise InputError(
            f"{shown} is for {found.os}/{found.architecture}, the image is built for {wanted.os}/{wanted.architecture}",
            next_step=f"Build with --platform {found.os}/{found.architecture}, or name an image of the other platform.",
        )
    return found


def foundation(image: Image, name: str, *, wanted: Options, listings: Listings, progress: Progress) -> Foundation:
    """What stands on `image`, whose blobs are in the store: its layers as they are, its config, its history.

    Raises:
        InputError: it is of another platform, or a Docker schema 2 image that zstd layers cannot be added to.
        IntegrityError: a layer is not the one that the image promises.
    """
    platform = require_platform(image, name, wanted.platform)
    docker = image.media_type == documents.DOCKER_MANIFEST
    if docker and wanted.compression == "zstd":
        raise InputError(
            f"{name} is a Docker schema 2 image, which cannot have zstd layers",
            next_step="Build without --compression zstd, or copy the base to an OCI image first.",
        )
    found = listings_of(image, listings, progress)
    history = _history(image)
    titles = [entry.created_by or "" for entry in history if not entry.empty_layer]
    parts = tuple(
        Part(
            info=LayerInfo(digest=layer.digest, size=layer.size, diff_id=diff_id, tar_size=listing.tar_size),
            kind="base",
            title=title,
            contents=(),
            reused=True,
            media_type=layer.media_type,
        )
        for (layer, diff_id), listing, title in zip(image.layers, found, titles, strict=True)
    )
    return Foundation(
        name=name,
        image=image.descriptor,
        parts=parts,
        base_layers=len(parts),
        production=image.annotations.get(NOT_FOR_PRODUCTION) != "false",
        platform=platform,
        config=image.config.config,
        docker=docker,
        history=history,
        ground=Ground(listing.entries for listing in found),
        images=((name, image.digest),),
    )


def _history(image: Image) -> tuple[History, ...]:
    """The image's own history; one that does not fit its layers is replaced, or ours would be taken for theirs."""
    history = tuple(image.config.history)
    if sum(not entry.empty_layer for entry in history) == len(image.layers):
        return history
    return tuple(History(created_by=f"layer {layer.digest}") for layer, _ in image.layers)
