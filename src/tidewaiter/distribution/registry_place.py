"""A repository of a registry as a place to copy from and to."""

from collections.abc import Iterator, Sequence

from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, NotFoundError
from tidewaiter.distribution.blob_places import BlobPlaces
from tidewaiter.distribution.endpoints import Pieces, Source
from tidewaiter.distribution.registry import RawManifest, Repository
from tidewaiter.distribution.transfer import Stop
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor

_MANIFESTS = ", ".join(sorted(documents.MANIFEST_TYPES | documents.INDEX_TYPES))


class RegistryPlace:
    """One repository; blobs that it lacks are first mounted from where they are known to lie on the same host.

    With `opens`, for a target that is on another host than the source, small blobs are asked for by opening an upload.
    """

    near = False
    parallel = True

    def __init__(
        self,
        repository: Repository,
        *,
        mount_from: Sequence[str] = (),
        known: BlobPlaces | None = None,
        opens: bool = False,
    ) -> None:
        self.repository = repository
        self._opens = opens
        self._mount_from = tuple(mount_from)
        self._known = known

    @property
    def host(self) -> str:
        """The registry's host, as references name it."""
        return self.repository.registry.host

    # Source

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:  # noqa: ARG002 - manifests are always bounded
        """A manifest, verified."""
        return self.repository.known_manifest(digest).data

    def has_blob(self, digest_or_blob: Digest | Descriptor) -> bool:
        """Whether the repository has the blob."""
        if isinstance(digest_or_blob, Descriptor):
            digest = digest_or_blob.digest
            found = (self.repository.has_or_opens if self._opens_for(digest_or_blob) else self.repository.has_blob)(
                digest
            )
        else:
            digest = digest_or_blob
            found = self.repository.has_blob(digest)
        if not found:
            return False
        self.remember(digest)
        return True

    def _opens_for(self, blob: Descriptor) -> bool:
        """Whether to ask for a blob by opening an upload: it is small, and there is no other place to mount it from."""
        if blob.size > limits.OPENED_BLOB_BYTES or blob.urls or digests.algorithm(blob.digest) != "sha256":
            return False
        elsewhere = self._mount_from or (self._known is not None and self._known.repositories(blob.digest))
        return self._opens and not elsewhere

    def pieces(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
        """The blob's bytes from `offset` on; a cut stream goes on where it stopped. Not verified.

        Raises:
            NotFoundError: there is no such blob.
            NetworkError: the registry could not be asked, refused, or was cut too often.
        """
        yield from self.repository.pieces(blob, offset, verify=False)
        self.remember(blob.digest)

    def check(self, blob: Descriptor) -> None:
        """Nothing: what a registry holds is only known by reading it."""

    def tagged(self, tag: str) -> Descriptor | None:
        """What a tag names; None when nothing does."""
        try:
            return self.repository.resolve(tag)
        except NotFoundError:
            return None

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Manifests whose subject is the one given, by the referrers API or the fallback tag."""
        return self.repository.referrers(subject)

    # Target

    def named(self, tag: str) -> Digest | None:
        """What the tag names now, as the registry states it; None when nothing does."""
        registry = self.repository.registry
        answer = registry.call(
            "HEAD",
            f"/v2/{self.repository.name}/manifests/{tag}",
            # What is asked of a target is what it takes to write there; a repository that is new may hide otherwise.
            scope=f"repository:{self.repository.name}:pull,push",
            headers={"Accept": _MANIFESTS},
        )
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise registry.refusal(answer, f"{self.repository.name}:{tag}")
        stated = answer.headers.get("docker-content-digest")
        return digests.parse(stated) if stated else self.repository.resolve(tag).digest

    def has_manifest(self, digest: Digest) -> bool:
        """Whether the manifest is there; a registry takes a manifest only when it has what that names."""
        return self.repository.has_manifest(digest)

    def remember(self, digest: Digest) -> None:
        """Keep in mind that the blob lies here, so that other repositories can mount it."""
        if self._known is not None:
            self._known.add(digest, self.repository.name)

    def take_over(self, blob: Descriptor, source: Source) -> bool:
        """Whether the registry mounted the blob from the source's repository, or from another that had it."""
        candidates = list(self._mount_from)
        if isinstance(source, RegistryPlace) and source.host == self.host:
            candidates.append(source.repository.name)
        if self._known is not None:
            candidates += [name for name in self._known.repositories(blob.digest) if name not in candidates]
        for name in candidates:
            if name == self.repository.name or not self.repository.mount(blob.digest, name):
                continue
            # docker-registry 2.8 says that it mounted a SHA-512 blob, and then knows it by its SHA-256 only.
            if digests.algorithm(blob.digest) != "sha256" and not self.repository.has_blob(blob.digest):
                continue
            self.remember(blob.digest)
            return True
        return False

    def write(self, blob: Descriptor, pieces: Pieces, stop: Stop) -> None:  # noqa: ARG002 - `pieces` stops by itself
        """Send the blob; the registry verifies it."""
        try:
            self.repository.push_blob(blob, lambda: pieces(0))
        except IntegrityError as error:
            raise IntegrityError(
                f"{self.repository} refused {blob.digest}: the bytes that were read are not that blob",
                next_step="Try again; if it stays so, the blob is damaged where the image comes from.",
                code=error.code,
            ) from error
        self.remember(blob.digest)

    def put_manifest(self, descriptor: Descriptor, data: bytes, tags: Sequence[str]) -> None:
        """Store a manifest under its digest, or under each of `tags`; errors as in `Repository.put_manifest`."""
        for target in tags or (descriptor.digest,):
            self.repository.put_manifest(target, data, descriptor.media_type)

    def attach(self, tag: str, descriptor: Descriptor, data: bytes) -> None:
        """Let a tag of cosign's name a manifest, together with what others attached; errors as in `attached.add`."""
        from tidewaiter.distribution import attached

        ours = RawManifest(data, descriptor.media_type, descriptor.digest)
        attached.add(self.repository, tag, ours, lambda _: None)  # its blobs are here already

    def finish(self) -> None:
        """Keep in mind which blobs lie here."""
        if self._known is not None:
            self._known.save()
