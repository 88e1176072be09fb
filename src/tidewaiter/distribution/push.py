"""Sending an image from a layout to a registry."""

from collections.abc import Sequence

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.distribution.copy import copy
from tidewaiter.distribution.layout_place import LayoutPlace
from tidewaiter.distribution.registry import Repository
from tidewaiter.distribution.registry_place import RegistryPlace
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor


class PushResult(msgspec.Struct, frozen=True):
    """What a push did; bytes are of blobs (configs and layers), not of manifests."""

    digest: Digest
    sent_bytes: int
    mounted_bytes: int
    skipped_bytes: int
    """Already there."""


def push(
    layout: Layout,
    descriptor: Descriptor,
    repository: Repository,
    *,
    tags: Sequence[str] = (),
    mount_from: Sequence[str] = (),
    threads: int = limits.TRANSFERS,
    progress: Progress = SILENT,
) -> PushResult:
    """Send the image or index `descriptor` names, then let each of `tags` name it; errors as in `copy`."""
    done = copy(
        LayoutPlace(layout),
        RegistryPlace(repository, mount_from=mount_from),
        msgspec.structs.replace(descriptor, annotations=None),
        tags=tags,
        threads=threads,
        progress=progress,
        title=f"pushing to {repository}",
    )
    return PushResult(done.digest, done.sent.bytes, done.mounted.bytes, done.skipped.bytes)
