"""Client of the registry API (OCI distribution-spec 1.1). What arrives is verified against its digest.

TLS always, but for hosts that the user has listed. A repository is a `BlobSource`, so a remote image is read
like a local one, layer by layer, without being stored.
"""

import hashlib
import io
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlencode

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NetworkError, NotFoundError
from tidewaiter.distribution import credentials as stored
from tidewaiter.distribution import refusals
from tidewaiter.distribution.api import Api
from tidewaiter.distribution.credentials import Credentials
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Index
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.transport.client import Client, Response, StreamedResponse

if TYPE_CHECKING:
    from tidewaiter.distribution.blobs import Download

_MANIFEST_ACCEPT = ", ".join([*sorted(documents.MANIFEST_TYPES), *sorted(documents.INDEX_TYPES)])
_CHUNK = 1 << 20
_UNDER_CONDITIONS = frozenset({400, 412, 501})
"""Answers that a request without conditions might not have had."""


class Sink(Protocol):
    """Where downloaded bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


class RawManifest(msgspec.Struct, frozen=True):
    """A manifest or index as it is stored: verified bytes, media type, digest."""

    data: bytes
    media_type: str
    digest: Digest
    etag: str = ""
    """As the registry sent it; empty without one."""

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor of these bytes."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.data))


def _digest_like(data: bytes, digest: Digest | None) -> Digest:
    algorithm = digests.algorithm(digest) if digest else "sha256"
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


class Registry(Api):
    """One registry host. Safe from many threads; asks for tokens when challenged."""

    def __init__(
        self,
        client: Client,
        host: str,
        *,
        plain_http: frozenset[str] = frozenset(),
        credentials: Credentials = stored.NONE,
        lock_directory: Path | None = None,
    ) -> None:
        super().__init__(client, host, plain_http, credentials)
        self.lock_directory = lock_directory

    def repository(self, name: str) -> "Repository":
        """The repository `name`; raises `InputError` when that is no repository name."""
        return Repository(self, references.check_repository(name))

    def ping(self) -> None:
        """Nothing when a registry answers and accepts us; raises `NetworkError`."""
        response = self.call("GET", "/v2/", scope="")
        if response.status != 200:
            raise self.refusal(response, "the registry API")

    def repositories(self) -> list[str]:
        """All repositories that the registry lists for us, sorted. Raises `LimitError` over `REPOSITORIES`."""
        return self.pages("/v2/_catalog", "repositories", scope="registry:catalog:*", most=limits.REPOSITORIES)

    def pages(self, path: str, what: Literal["tags", "repositories"], *, scope: str, most: int) -> list[str]:
        """All names of a list that comes in pages, sorted."""
        from tidewaiter.distribution import listing

        found: set[str] = set()
        path += f"?n={limits.TAG_PAGE}"
        while path:
            response = self.call("GET", path, scope=scope)
            if response.status != 200:
                raise self.refusal(
                    response, what if what == "repositories" else path.split("/", 2)[2].rpartition("/tags")[0]
                )
            page = list(listing.names(response, what, refusals.NOT_A_REGISTRY))
            before = len(found)
            found.update(page)
            if len(found) > most:
                raise LimitError(
                    f"{self.host}{path.partition('?')[0]} names more than {most} {what}",
                    next_step="Name the one you want.",
                )
            path = listing.next_page(response, path, page, limits.TAG_PAGE, fresh=len(found) > before)
        return sorted(found)


class Repository:
    """One repository of a registry; a `BlobSource` of verified bytes."""

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = name
        self._manifests: set[Digest] = set()
        self._latest: RawManifest | None = None
        self._sessions: dict[Digest, str] = {}

    def __str__(self) -> str:
        return f"{self.registry.host}/{self.name}"

    def _path(self, kind: str, target: str) -> str:
        return f"/v2/{self.name}/{kind}/{target}"

    def _scope(self, *, push: bool = False, delete: bool = False) -> str:
        actions = "delete,pull" if delete else "pull,push" if push else "pull"
        return f"repository:{self.name}:{actions}"

    def get(self, path: str) -> Response:
        """The answer to a GET of this repository, whatever its status."""
        return self.registry.call("GET", path, scope=self._scope(), limit=limits.MANIFEST_BYTES)

    # Manifests

    def manifest(self, target: str) -> RawManifest:
        """The manifest or index under a tag or digest, verified.

        Raises:
            NotFoundError: there is none.
            IntegrityError: its bytes are not what the digest asked for, or sent with them, promises.
            NetworkError: the registry could not be asked, refused, or is none.
            LimitError: it is over `MANIFEST_BYTES`.
        """
        asked = digests.parse(target) if ":" in target else None
        response = self.registry.call(
            "GET",
            self._path("manifests", target),
            scope=self._scope(),
            headers={"Accept": _MANIFEST_ACCEPT},
            limit=limits.MANIFEST_BYTES,
        )
        if response.status != 200:
            raise self.registry.refusal(response, f"{self.name}{'@' if asked else ':'}{target}")
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        if "json" not in media_type:
            raise NetworkError(
                f"{self} answered {media_type or 'an unnamed type'} for {target}, not a manifest "
                f"({refusals.asked(response)})",
                next_step=refusals.NOT_A_REGISTRY,
            )
        claimed = response.headers.get("docker-content-digest")
        promised = asked or (digests.parse(claimed) if claimed else None)
        actual = _digest_like(response.body, promised)
        if promised is not None and actual != promised:
            raise IntegrityError(
                f"{self} sent a manifest of digest {actual} for {promised}",
                next_step="Do not use what arrived. Try again; if it stays so, the registry's storage is damaged or "
                "tampered with.",
            )
        document = documents.decode_manifest(response.body, media_type)
        if isinstance(document, Index):
            self._manifests.update(
                child.digest
                for child in document.manifests
                if child.media_type in documents.MANIFEST_TYPES | documents.INDEX_TYPES
            )
        self._manifests.add(actual)
        etag = response.headers.get("etag", "")
        self._latest = RawManifest(response.body, document.media_type or media_type, actual, etag)
        return self._latest

    def resolve(self, target: str) -> Descriptor:
        """Descriptor of what a tag or digest names; errors as in `manifest`."""
        return self.manifest(target).descriptor

    def known_manifest(self, digest: Digest) -> RawManifest:
        """The manifest of a digest, not asked for again when it came last: first a tag is resolved, then it is read.

        Raises: as `manifest`.
        """
        latest = self._latest
        return latest if latest is not None and latest.digest == digest else self.manifest(digest)

    def has_manifest(self, target: str) -> bool:
        """Whether there is a manifest under a tag or digest."""
        response = self.registry.call(
            "HEAD", self._path("manifests", target), scope=self._scope(), headers={"Accept": _MANIFEST_ACCEPT}
        )
        return self._exists(response, f"{self.name}:{target}")

    def put_manifest(self, target: str, data: bytes, media_type: str) -> Digest:
        """Store a manifest under a tag or digest and return its digest; its blobs must be there already.

        A manifest with a `subject` is entered into the fallback tag of that subject when the registry does not say
        that it keeps the list of referrers itself.
        """
        digest = _digest_like(data, digests.parse(target) if ":" in target else None)
        response = self._put_manifest(target, data, media_type)
        if b'"subject"' not in data or "oci-subject" in response.headers:
            return digest
        from tidewaiter.distribution import referrers

        referring = referrers.subject_of(data)
        if referring is not None and referring.subject is not None:
            entry = referrers.describe(data, media_type, digest, referring)
            referrers.add(self, referring.subject.digest, [entry])
        return digest

    def put_referrer(self, data: bytes, media_type: str) -> bool:
        """Store a manifest with a `subject` under its digest; whether the registry lists it as a referrer itself.

        Where it does not, the caller enters it under the fallback tag: several at once take one rewriting of it.
        """
        return "oci-subject" in self._put_manifest(_digest_like(data, None), data, media_type).headers

    def replace_manifest(self, tag: str, data: bytes, media_type: str, *, conditions: Mapping[str, str]) -> bool:
        """Let the tag name this manifest; whether the registry did so, under the `conditions` (headers) given.

        If not, they do not hold, or it does not understand them: then the same without them says more.
        """
        return self._put_manifest(tag, data, media_type, conditions=conditions).status == 201

    def _put_manifest(
        self, target: str, data: bytes, media_type: str, *, conditions: Mapping[str, str] | None = None
    ) -> Response:
        response = self.registry.call(
            "PUT",
            self._path("manifests", target),
            scope=self._scope(push=True),
            headers={"Content-Type": media_type, **(conditions or {})},
            content=data,
            repeat=True,
        )
        if conditions and response.status in _UNDER_CONDITIONS:
            return response
        if response.status != 201:
            what = f"the manifest of {self.name}:{target}"
            denied = refusals.denial(self.registry.host, response, what)
            raise denied or self.registry.refusal(response, what)
        stored_as = response.headers.get("docker-content-digest", "")
        if stored_as.startswith("sha256:") and stored_as != _digest_like(data, None):
            raise IntegrityError(
                f"{self} stored the manifest as {stored_as} instead of {_digest_like(data, None)}",
                next_step="The registry changes manifests; signatures will not hold there. Use another one.",
            )
        return response

    def delete_manifest(self, target: str) -> None:
        """Delete the manifest of a digest, with all its tags, or one tag, where the registry can do that.

        Raises:
            NotFoundError: there is none.
            NetworkError: the registry could not be asked, or refused; many must be told to allow it.
        """
        asked = digests.parse(target) if ":" in target else None
        raw = self.manifest(target) if asked else None
        response = self.registry.call(
            "DELETE", self._path("manifests", target), scope=self._scope(delete=True), repeat=True
        )
        if response.status not in {202, 204}:
            raise self.registry.refusal(response, f"deletion of {self.name}{'@' if asked else ':'}{target}")
        self._manifests.discard(Digest(target))
        if raw is None:
            return
        from tidewaiter.distribution import referrers

        referring = referrers.subject_of(raw.data)
        if referring is not None and referring.subject is not None:
            entry = referrers.describe(raw.data, raw.media_type, raw.digest, referring)
            referrers.remove(self, referring.subject.digest, entry)

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """Descriptors of the manifests whose `subject` is `digest`, of one artifact type or all; may be empty.

        From the referrers API, else from the fallback tag.

        Raises:
            NetworkError: the registry could not be asked, refused, or is none.
            InputError: the fallback tag is no index.
            LimitError: there are more than `INDEX_MANIFESTS`.
        """
        from tidewaiter.distribution import referrers

        return referrers.find(self, digest, artifact_type)

    def tags(self) -> list[str]:
        """All tags, sorted; follows the registry's pages. Raises `LimitError` over `TAGS`."""
        return self.registry.pages(self._path("tags", "list"), "tags", scope=self._scope(), most=limits.TAGS)

    # Blobs

    def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is there; raises `NetworkError` when that could not be found out."""
        response = self.registry.call("HEAD", self._path("blobs", digest), scope=self._scope())
        return self._exists(response, f"blob {digest} in {self.name}")

    def _exists(self, response: Response, what: str) -> bool:
        if response.status not in {200, 404}:
            raise self.registry.refusal(response, what)
        if response.status == 200 and response.headers.get("content-type", "").startswith("text/html"):
            # A gateway that wants a log-in answers 200 for everything.
            raise NetworkError(
                f"{self.registry.host} answered a web page for {what} ({refusals.asked(response)})",
                next_step=refusals.NOT_A_REGISTRY,
            )
        return response.status == 200

    def _download(self, digest: Digest, *, size: int | None, offset: int = 0, verify: bool = True) -> "Download":
        from tidewaiter.distribution.blobs import Download

        path, scope = self._path("blobs", digest), self._scope()

        def ask(position: int) -> StreamedResponse:
            headers = {"Range": f"bytes={position}-"} if position else {}
            limit = limits.LAYER_BYTES if size is None else size
            return self.registry.stream(path, scope=scope, headers=headers, limit=limit)

        budget = self.registry.client.budget
        return Download(ask, budget, digest, str(self), size=size, offset=offset, verify=verify)

    def open(self, digest: Digest, offset: int = 0) -> IO[bytes]:
        """A stream of the blob; a lost connection is taken up again.

        Reading the end raises `IntegrityError` when the bytes are not the blob. From an `offset` on, the bytes cannot
        be verified: the caller must.

        Raises:
            NotFoundError: there is no such blob.
            NetworkError: the registry could not be asked, or refused.
        """
        from tidewaiter.distribution.blobs import File

        return io.BufferedReader(File(self._download(digest, size=None, offset=offset)), _CHUNK)

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        """A small blob or a manifest, verified; errors as in `open` and `manifest`."""
        if digest in self._manifests:
            return self.known_manifest(digest).data
        try:
            file = self.open(digest)
        except NotFoundError:
            # Registries keep manifests apart from blobs, and a digest alone does not say which it names.
            return self.manifest(digest).data
        with file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise LimitError(f"blob {digest} in {self} is over {limit} bytes", next_step="Do not use this image.")
        return data

    def pieces(self, blob: Descriptor, offset: int = 0, *, verify: bool = True) -> Generator[bytes, None, None]:
        """The bytes of a blob, or those from `offset` on, as they arrive; errors as in `download`."""
        download = self._download(blob.digest, size=blob.size, offset=offset, verify=verify)
        try:
            yield from download.pieces()
        finally:
            download.close()

    def download(
        self,
        blob: Descriptor,
        sink: Sink,
        advance: Callable[[int], None] | None = None,
        *,
        offset: int = 0,
        verify: bool = True,
    ) -> None:
        """Stream a blob, or its bytes from `offset` on, into `sink`; a lost connection is taken up again.

        A caller that verifies what the sink received saves time with `verify=False`; with an `offset` it must.

        Raises:
            NotFoundError: there is no such blob.
            IntegrityError: the bytes are not the blob, or fewer; the sink has them by then.
            LimitError: there are more than `blob.size`.
            NetworkError: the registry could not be asked, or refused.
        """
        with closing(self.pieces(blob, offset, verify=verify)) as pieces:
            for piece in pieces:
                sink.write(piece)
                if advance:
                    advance(len(piece))

    def _mounting(self, digest: Digest, source: str) -> Response | None:
        """The answer to the wish that a blob be taken over from `source`; None when we may not read that.

        The answer 202 says that an upload was opened instead, which `push_blob` goes on with.
        """
        query = urlencode({"mount": digest, "from": source})
        scope = self._scope(push=True) + (f" repository:{source}:pull" if source != self.name else "")
        try:
            response = self.registry.call(
                "POST",
                self._path("blobs", "uploads/") + f"?{query}",
                scope=scope,
                headers={"Content-Length": "0"},
                repeat=True,
            )
        except NetworkError as error:
            if error.code != "registry_unauthorized":
                raise
            return None  # the token service says no
        if response.status == 202:
            from tidewaiter.distribution.upload import session_url

            self._sessions[digest] = session_url(self.registry.host, response)
        return response

    def mount(self, digest: Digest, source: str) -> bool:
        """Whether the registry took the blob over from its repository `source`; if not, it must be sent."""
        response = self._mounting(digest, source)
        if response is None:
            return False
        if response.status >= 500 or response.status == 429:
            raise self.registry.refusal(response, f"a mount into {self.name}")
        return response.status == 201

    def has_or_opens(self, digest: Digest) -> bool:
        """Whether the blob is there; if not, an upload is open for it: one request instead of two.

        A registry that mounts nothing from a repository into itself opens one in any case, and the blob is sent again.
        """
        response = self._mounting(digest, self.name)
        if response is not None and response.status in {201, 202}:
            return response.status == 201
        return self.has_blob(digest)  # a mount into itself is not understood

    def push_blob(self, blob: Descriptor, pieces: Callable[[], Iterable[bytes]]) -> None:
        """Send a blob; `pieces` is called again for each attempt and yields exactly `blob.size` bytes.

        A blob over `UPLOAD_CHUNK_BYTES` is sent in chunks and taken up where the registry says it was cut.

        Raises:
            IntegrityError: the registry received other bytes than the digest names.
            NetworkError: the registry could not be reached, or refused.
        """
        from tidewaiter.distribution.upload import Upload

        call = partial(self.registry.call, scope=self._scope(push=True))
        session = self._sessions.pop(blob.digest, None)
        upload = Upload(call, (self.registry.host, self.name), blob, pieces, session=session)
        upload.run(self.registry.client.budget, lambda: self.has_blob(blob.digest))

    def delete_blob(self, digest: Digest) -> None:
        """Delete a blob of this repository; errors as in `delete_manifest`."""
        response = self.registry.call(
            "DELETE", self._path("blobs", digest), scope=self._scope(delete=True), repeat=True
        )
        if response.status not in {202, 204}:
            raise self.registry.refusal(response, f"deletion of blob {digest} in {self.name}")


def connect(
    client: Client,
    reference: RegistryReference,
    *,
    plain_http: frozenset[str],
    credentials: Credentials = stored.NONE,
    lock_directory: Path | None = None,
) -> Repository:
    """The repository that `reference` names.

    With a `lock_directory`, processes that use the same one take turns at the fallback tag of referrers.
    """
    if not reference.repository:
        raise InputError("the reference names no repository", next_step="Write HOST/REPO:TAG.")
    registry = Registry(
        client, reference.host, plain_http=plain_http, credentials=credentials, lock_directory=lock_directory
    )
    return registry.repository(reference.repository)
