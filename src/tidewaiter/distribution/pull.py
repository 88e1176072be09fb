"""Fetching an image from a registry into a layout: only what is missing, every blob verified before it is visible."""

from functools import partial

from tidewaiter.core import limits
from tidewaiter.core.progress import SILENT, Progress, Task
from tidewaiter.distribution.registry import Repository
from tidewaiter.distribution.transfer import Stop, in_parallel
from tidewaiter.oci import image as images
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import BlobWriter, Layout
from tidewaiter.oci.manifest import Descriptor


class _StoppableSink:
    def __init__(self, writer: BlobWriter, stop: Stop) -> None:
        self._writer = writer
        self._stop = stop

    def write(self, data: bytes, /) -> None:
        self._stop.check()
        self._writer.write(data)


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
    blobs = {blob.digest: blob for blob in (remote.manifest.config, *remote.manifest.layers)}
    layout.create()
    with progress.task(f"pulling {repository}", total=sum(b.size for b in blobs.values()), unit="bytes") as task:
        in_parallel(partial(_fetch, repository, layout, task), blobs.values(), threads=threads)
    with layout.writer() as writer:
        writer.write(repository.read(remote.digest, limit=limits.MANIFEST_BYTES))
        writer.commit(remote.digest, size=remote.size)
    return images.load(layout, remote.descriptor, architecture=architecture)


def _fetch(repository: Repository, layout: Layout, task: Task, blob: Descriptor, stop: Stop) -> None:
    stop.check()
    if layout.verify(blob):
        task.advance(blob.size)
        return
    with layout.writer() as writer:
        repository.download(blob, _StoppableSink(writer, stop), task.advance)
        writer.commit(blob.digest, size=blob.size)
