"""Sending an image from the store to a registry: missing blobs in parallel, then manifests, children first."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError
from tidewaiter.core.progress import SILENT, Progress, Task
from tidewaiter.distribution.registry import Repository
from tidewaiter.distribution.transfer import Stop, in_parallel
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index

_CHUNK = 1 << 20


class PushResult(msgspec.Struct, frozen=True):
    """What a push did; bytes are of blobs (configs and layers), not of manifests."""

    digest: Digest
    sent_bytes: int
    mounted_bytes: int
    skipped_bytes: int
    """Already there."""


class _Plan(msgspec.Struct, frozen=True):
    """Manifests children first, and every blob that they need once."""

    manifests: dict[Digest, tuple[bytes, str]]
    blobs: dict[Digest, Descriptor]


def _plan(layout: Layout, descriptor: Descriptor, plan: _Plan, depth: int = 1) -> None:
    if depth > limits.INDEX_DEPTH:
        raise InputError(f"indexes are nested deeper than {limits.INDEX_DEPTH}", next_step="Do not use this image.")
    data = layout.read(descriptor.digest, limit=limits.MANIFEST_BYTES)
    document = documents.decode_manifest(data, descriptor.media_type)
    if isinstance(document, Index):
        for child in document.manifests:
            _plan(layout, child, plan, depth + 1)
    else:
        for blob in (document.config, *document.layers):
            # Foreign layers (`urls`) stay where they are, unless the store has them.
            if not blob.urls or layout.has(blob.digest, blob.size):
                plan.blobs[blob.digest] = blob
    plan.manifests[descriptor.digest] = (data, descriptor.media_type)


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
    """Send the image or index `descriptor` names, then let each of `tags` name it.

    Blobs that the registry has are not sent again; the others are first asked from the repositories `mount_from`
    of the same registry. No tag moves before everything is there.

    Raises:
        NotFoundError: the store lacks a part of the image.
        IntegrityError: a blob of the store is damaged.
        NetworkError: the registry could not be reached or refused.
    """
    plan = _Plan({}, {})
    _plan(layout, descriptor, plan)
    total = sum(blob.size for blob in plan.blobs.values())
    with progress.task(f"pushing to {repository}", total=total, unit="bytes") as task:
        send = partial(_send, layout=layout, repository=repository, mount_from=tuple(mount_from), task=task)
        outcomes = in_parallel(send, plan.blobs.values(), threads=threads)
    for digest, (data, media_type) in plan.manifests.items():
        # One request for an image with a tag; children and untagged images go by digest.
        targets = list(tags) if digest == descriptor.digest and tags else [digest]
        for target in targets:
            repository.put_manifest(target, data, media_type)

    def size(wanted: str) -> int:
        return sum(blob.size for blob, outcome in zip(plan.blobs.values(), outcomes, strict=True) if outcome == wanted)

    return PushResult(descriptor.digest, size("sent"), size("mounted"), size("skipped"))


def _send(
    blob: Descriptor, stop: Stop, *, layout: Layout, repository: Repository, mount_from: tuple[str, ...], task: Task
) -> Literal["sent", "mounted", "skipped"]:
    stop.check()
    if repository.has_blob(blob.digest):
        task.advance(blob.size)
        return "skipped"
    for source in mount_from:
        if repository.mount(blob.digest, source):
            task.advance(blob.size)
            return "mounted"
    counted = 0

    def pieces() -> Iterator[bytes]:
        nonlocal counted
        sent = 0
        with layout.open(blob.digest) as file:
            while data := file.read(_CHUNK):
                stop.check()
                yield data
                sent += len(data)
                if sent > counted:  # a repeated upload does not count twice
                    task.advance(sent - counted)
                    counted = sent

    layout.open(blob.digest).close()  # says that the store lacks the blob before the registry is troubled
    if not layout.has(blob.digest, blob.size):
        raise _damaged(layout, blob)
    try:
        repository.push_blob(blob, pieces)
    except IntegrityError as error:
        if layout.verify(blob):
            raise
        raise _damaged(layout, blob) from error
    return "sent"


def _damaged(layout: Layout, blob: Descriptor) -> IntegrityError:
    return IntegrityError(
        f"blob {blob.digest} in {layout.path} is damaged",
        next_step=f"Remove {layout.blob_path(blob.digest)} and build or pull the image again.",
    )
