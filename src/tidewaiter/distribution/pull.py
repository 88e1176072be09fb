"""Fetching an image of one platform from a registry into a layout."""

from tidewaiter.core import limits
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.distribution.copy import copy
from tidewaiter.distribution.layout_place import LayoutPlace
from tidewaiter.distribution.registry import Repository
from tidewaiter.distribution.registry_place import RegistryPlace
from tidewaiter.oci import image as images
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout


def pull(
    repository: Repository,
    target: str,
    layout: Layout,
    *,
    architecture: str = "amd64",
    threads: int = limits.TRANSFERS,
    progress: Progress = SILENT,
) -> Image:
    """The image that a tag or digest names, for `linux/architecture`, once all of it lies in `layout`; untagged.

    Raises:
        NotFoundError: no such image, blob or platform.
        IntegrityError: bytes do not have their digest or size.
        NetworkError: the registry could not be reached or refused.
        InputError: the documents are malformed or over the limits.
    """
    remote = images.load(repository, repository.resolve(target), architecture=architecture)
    layout.create()
    copy(
        RegistryPlace(repository),
        LayoutPlace(layout),
        remote.descriptor,
        threads=threads,
        progress=progress,
        title=f"pulling {repository}",
    )
    return images.load(layout, remote.descriptor, architecture=architecture)
