"""The registry behind the gate, where there is one: what is allowed lies there before anybody sees it here.

1. Blobs and manifests are sent; what is there already is not sent again, so it goes on wherever it was broken off.
2. One push at a time, of each repository, lets tags there name them, and then here.
3. What the store has lost comes back from there, compared with its digest before its last byte is handed out.

What lies there without having been allowed here is never looked at. Whatever goes wrong there is no answer of ours.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager

from tidewaiter.core.errors import StorageError, TidewaiterError, UndeterminedError
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor

_TURNS = 64


class Upstream:
    """Repositories have the same names there, after `prefix`. Safe from any thread.

    Every method raises `UndeterminedError` when the registry cannot be asked, refuses, or sends what it should not.
    """

    def __init__(self, store: Layout, registry: Registry, prefix: str = "") -> None:
        self._store = store
        self._registry = registry
        self._prefix = prefix
        # Few locks for many repositories: two that share one only wait for each other.
        self._turns = tuple(threading.Lock() for _ in range(_TURNS))

    def _repository(self, name: str) -> Repository:
        return self._registry.repository(f"{self._prefix}/{name}" if self._prefix else name)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise  # of our own store
        except TidewaiterError as error:
            raise UndeterminedError(
                f"the registry {self._registry.host} behind this one: {error.message}", next_step=error.next_step
            ) from error

    def send(self, repository: str, manifest: Descriptor, *, refers: bool) -> None:
        """Bring a manifest of the store there, with all that it names; `refers`: it has a subject."""
        with self._asked():
            there = self._repository(repository)
            push(self._store, manifest, there)
            if refers:  # that it lies there does not say that it is listed
                there.put_manifest(manifest.digest, self._store.read(manifest.digest), manifest.media_type)

    @contextmanager
    def turn(self, repository: str, alone: AbstractContextManager[None]) -> Iterator[None]:
        """Nobody else tags in the repository until the block ends: no thread here, and (`alone`) no other server."""
        with self._turns[hash(repository) % _TURNS], alone:
            yield

    def tag(self, repository: str, manifest: Descriptor, tags: Sequence[str]) -> None:
        """Let tags there name a manifest that was sent."""
        with self._asked():
            there = self._repository(repository)
            data = self._store.read(manifest.digest) if tags else b""
            for tag in tags:
                there.put_manifest(tag, data, manifest.media_type)

    def remove(self, repository: str, reference: str) -> None:
        """Let a tag, or a manifest with its tags, be gone there, too; registries may refuse that."""
        with self._asked():
            self._repository(repository).delete_manifest(reference)

    def manifest(self, repository: str, digest: Digest, size: int) -> bytes:
        """A manifest of so many bytes, verified."""
        with self._asked():
            data = self._repository(repository).manifest(digest).data
        if len(data) != size:
            raise UndeterminedError(f"{digest} has {len(data)} bytes there, not {size}", next_step="Push it again.")
        return data

    def pieces(self, repository: str, blob: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob as they arrive; it ends only when they are that blob."""
        with self._asked(), closing(self._repository(repository).pieces(blob)) as found:
            yield from found

    def close(self) -> None:
        """End every exchange with it."""
        self._registry.client.interrupt()
        self._registry.client.close()
