"""Cosign's tag scheme: what is attached to an image lies beside it under a tag made of its digest."""

from typing import Literal

from tidewaiter.core.errors import NotFoundError
from tidewaiter.distribution.registry import Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor

Suffix = Literal["sig", "att", "sbom"]
SUFFIXES: tuple[Suffix, ...] = ("sig", "att", "sbom")


def tag(image: Digest, suffix: Suffix) -> str:
    """`sha256-HEX.sig`, `.att` or `.sbom`: the tag beside the image `image`."""
    return f"{digests.algorithm(image)}-{digests.hexadecimal(image)}.{suffix}"


def find(repository: Repository, image: Digest, suffix: Suffix) -> Descriptor | None:
    """Descriptor of what is attached to `image` in `repository`; None when the registry says that there is nothing.

    Raises:
        NetworkError: the registry could not be asked.
    """
    try:
        return repository.resolve(tag(image, suffix))
    except NotFoundError:
        return None
