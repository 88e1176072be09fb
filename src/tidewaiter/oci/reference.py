"""How a user names an image: `store:NAME[:TAG]`, `oci:PATH[:TAG]`, archives, and registries.

Grammar of repository, tag and digest: distribution-spec; host and default tag as skopeo and docker read them.
"""

import os.path
import re
from pathlib import Path
from typing import Literal

import msgspec

from tidewaiter.core.errors import InputError
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.digest import parse as parse_digest

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?"
)
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_LAYOUT_NAME = r"[A-Za-z0-9_]+(?:(?:[-.:@+/]|--+)[A-Za-z0-9_]+)*"
_NEXT = "Write HOST/REPO:TAG, store:NAME:TAG, oci:PATH:TAG, oci-archive:FILE or docker-archive:FILE."


class StoreReference(msgspec.Struct, frozen=True):
    """An image in the local store; `tag` None means every tag, or the only one."""

    name: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        return _join(self.name, self.tag, self.digest)


class LayoutReference(msgspec.Struct, frozen=True):
    """An image in an OCI layout folder."""

    path: Path
    tag: str | None = None
    """What names the image there: often a tag, in our store `NAME:TAG`."""

    def __str__(self) -> str:
        return _join(str(self.path), self.tag, None)


class ArchiveReference(msgspec.Struct, frozen=True):
    """An image in a tar file: an OCI layout or what `docker save` writes."""

    path: Path
    kind: Literal["oci-archive", "docker-archive"]
    name: str | None = None
    """Which of its images: the name in the layout's index, or `NAME[:TAG]` as Docker saved it."""

    def __str__(self) -> str:
        return _join(str(self.path), self.name, None)


class RegistryReference(msgspec.Struct, frozen=True):
    """An image in a registry."""

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        return _join(f"{self.host}/{self.repository}", self.tag, self.digest)

    @property
    def api_host(self) -> str:
        """Host that answers the API: Docker Hub's differs from its name."""
        return "registry-1.docker.io" if self.host == "docker.io" else self.host

    @property
    def target(self) -> str:
        """What to ask the manifest endpoint for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"


Reference = StoreReference | LayoutReference | ArchiveReference | RegistryReference


def _join(name: str, tag: str | None, digest: Digest | None) -> str:
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def check_repository(name: str) -> str:
    """`name` when it is a valid repository name; raises `InputError` otherwise."""
    if len(name) > 255 or not _REPOSITORY.fullmatch(name):
        raise InputError(f"{name[:260]!r} is not a repository name", next_step=_NEXT)
    return name


def check_tag(tag: str) -> str:
    """`tag` when it is a valid tag; raises `InputError` otherwise."""
    if not _TAG.fullmatch(tag):
        raise InputError(
            f"{tag[:140]!r} is not a tag", next_step="A tag is up to 128 letters, digits, `_`, `.` and `-`."
        )
    return tag


def _check_layout_name(name: str) -> str:
    """`name` when it may stand in `org.opencontainers.image.ref.name` (image-spec `annotations.md`)."""
    if len(name) > 512 or not re.fullmatch(_LAYOUT_NAME, name):
        raise InputError(
            f"{name[:140]!r} is not the name of an image in a layout",
            next_step="Write oci:PATH:TAG or oci:PATH:NAME:TAG, for a file oci-archive:FILE:TAG; "
            "a path that is not there yet may hold no colon.",
        )
    return name


def path_step(text: str) -> str:
    """What to do next for whoever wrote a path where an image is to be named."""
    return (
        f"Write docker-archive:{text[:200]} for what `docker save` wrote, oci-archive:{text[:200]} for an OCI layout "
        f"in a tar file, oci:{text[:200]} for one in a folder."
    )


def _split(text: str) -> tuple[str, str | None, Digest | None]:
    name, at, digest_text = text.partition("@")
    digest = parse_digest(digest_text) if at else None
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return head, check_tag(tag), digest
    return name, None, digest


def is_host(first: str) -> bool:
    """Whether the first part of a name is a registry's host."""
    return "." in first or ":" in first or first == "localhost" or first.startswith("[")


def familiar_host(host: str) -> str:
    """The one spelling of a registry's host: case does not count, and Docker Hub has several names."""
    host = host.lower()
    return "docker.io" if host.removesuffix(":443") in _DOCKER_HUB else host


def _registry(text: str) -> RegistryReference:
    name, tag, digest = _split(text)
    first, slash, rest = name.partition("/")
    if not slash or not is_host(first):
        first, rest = "docker.io", name if slash else f"library/{name}"
    if not _HOST.fullmatch(first):
        raise InputError(f"{first[:100]!r} is not a host name", next_step=_NEXT)
    return RegistryReference(host=familiar_host(first), repository=check_repository(rest), tag=tag, digest=digest)


def parse_registry(text: str) -> RegistryReference:
    """The registry reference in `text`, with or without `docker://`; a bare name means Docker Hub."""
    return _registry(text.removeprefix("docker://"))


def parse_store(text: str) -> StoreReference:
    """The store reference in `text`, with or without `store:`."""
    name, tag, digest = _split(text.removeprefix("store:"))
    return StoreReference(name=check_repository(name), tag=tag, digest=digest)


def _archive(kind: Literal["oci-archive", "docker-archive"], text: str) -> ArchiveReference:
    if os.path.lexists(text):  # pathlib raises for a text that is too long to be a path
        return ArchiveReference(path=Path(text), kind=kind)
    path, separator, name = text.partition(":")  # as skopeo does
    if separator and kind == "oci-archive":
        _check_layout_name(name)
    elif separator and _registry(name).digest is not None:
        raise InputError(f"{name[:140]} names a digest, which archives do not", next_step="Write NAME:TAG after FILE.")
    return ArchiveReference(path=Path(path), kind=kind, name=name if separator else None)


def parse(text: str) -> Reference:
    """The image that `text` names. A name without transport and host is in the local store.

    What follows `oci-archive:` and `docker-archive:` is a file when there is one of that name, even with a colon in it.

    Raises:
        InputError: the text is no reference.
    """
    if not text or len(text) > 4096 or any(ord(character) < 32 for character in text):
        raise InputError(f"{text[:100]!r} is not an image reference", next_step=_NEXT)
    transport, colon, rest = text.partition(":")
    if colon and transport == "oci":
        path, separator, name = rest.partition(":")  # as skopeo does: names may hold colons, the path none
        return LayoutReference(path=Path(path), tag=_check_layout_name(name) if separator else None)
    if colon and transport == "oci-archive":
        return _archive("oci-archive", rest)
    if colon and transport == "docker-archive":
        return _archive("docker-archive", rest)
    if text.startswith(("/", "./", "../")):
        raise InputError(f"{text[:100]} is a path, not the name of an image", next_step=path_step(text))
    first, slash, _ = text.partition("/")
    if text.startswith("docker://") or (transport != "store" and slash and is_host(first)):
        return parse_registry(text)
    return parse_store(text)
