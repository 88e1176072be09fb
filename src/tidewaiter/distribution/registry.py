"""Client of the registry API (OCI distribution-spec 1.1). What arrives is verified against its digest.

TLS always, but for hosts that the user has listed. A repository is a `BlobSource`, so a remote image is read
like a local one, layer by layer, without being stored.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NetworkError, NotFoundError
from tidewaiter.distribution import credentials as stored
from tidewaiter.distribution.authorization import Authorizer, parse_challenge
from tidewaiter.distribution.credentials import Credentials
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Index
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.transport import address, retry
from tidewaiter.transport.client import Client, Content, Response

_MANIFEST_ACCEPT = ", ".join([*sorted(documents.MANIFEST_TYPES), *sorted(documents.INDEX_TYPES)])
_CHUNK = 1 << 20
_WORTH_ANOTHER_UPLOAD = frozenset({NetworkError.default_code, "network_timeout"})
_NOT_A_REGISTRY = "Check the host and port: something other than a registry answers there."


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: list[_Problem] = []


class _Tags(msgspec.Struct, frozen=True):
    tags: list[str] | None = None


class Sink(Protocol):
    """Where downloaded bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


class RawManifest(msgspec.Struct, frozen=True):
    """A manifest or index as it is stored: verified bytes, media type, digest."""

    data: bytes
    media_type: str
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor of these bytes."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.data))


def _reason(response: Response) -> str:
    """What the registry says about its refusal, fit to be printed."""
    try:
        problems = msgspec.json.decode(response.body, type=_Problems).errors
        text = "; ".join(f"{problem.code} {problem.message}".strip() for problem in problems[:3])
    except (msgspec.DecodeError, RecursionError):
        text = ""
    return ": " + "".join(c if c.isprintable() else "?" for c in text[:300]) if text else ""


def _digest_like(data: bytes, digest: Digest | None) -> Digest:
    algorithm = digests.algorithm(digest) if digest else "sha256"
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


class _Verified(io.RawIOBase):
    """A stream that fails at its end when its bytes do not have the digest promised."""

    def __init__(self, body: io.RawIOBase, digest: Digest, source: str) -> None:
        self._body = body
        self._digest = digest
        self._source = source
        self._hash = hashlib.new(digests.algorithm(digest))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # typeshed's Buffer needs Python 3.12
        """Fill `buffer`; raises `IntegrityError` at the end of bytes that are not the blob asked for."""
        count = self._body.readinto(buffer) or 0
        self._hash.update(memoryview(buffer)[:count])
        if not count and len(buffer) and f"{digests.algorithm(self._digest)}:{self._hash.hexdigest()}" != self._digest:
            raise IntegrityError(
                f"{self._source} sent bytes that are not {self._digest}",
                next_step="Do not use this image; the registry's storage is damaged or tampered with.",
            )
        return count

    def close(self) -> None:
        """Close the connection's body as well."""
        self._body.close()
        super().close()


class Registry:
    """One registry host. Safe from many threads; asks for tokens when challenged."""

    def __init__(
        self,
        client: Client,
        host: str,
        *,
        plain_http: frozenset[str] = frozenset(),
        credentials: Credentials = stored.NONE,
    ) -> None:
        self.host = host
        self.client = client
        api_host = RegistryReference(host=host, repository="any").api_host
        self._base = f"{'http' if host.lower() in plain_http else 'https'}://{api_host}"
        self._authorizer = Authorizer(client, host, credentials.get(host.lower()), plain_http)

    def repository(self, name: str) -> "Repository":
        """The repository `name`; raises `InputError` when that is no repository name."""
        return Repository(self, references.check_repository(name))

    def ping(self) -> None:
        """Nothing when a registry answers and accepts us; raises `NetworkError`."""
        response = self.call("GET", "/v2/", scope="")
        if response.status != 200:
            raise self.refusal(response, "the registry API")

    def url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Absolute URL of an API path."""
        return self._base + path + (f"?{urlencode(query)}" if query else "")

    def headers(self, scope: str) -> Mapping[str, str]:
        """What authorises a request of `scope`, as far as the registry has asked for it."""
        return self._authorizer.header(scope)

    def call(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Content] | bytes | None = None,
        limit: int = limits.JSON_BODY_BYTES,
    ) -> Response:
        """The answer to one API request, whatever its status; a challenge is answered once.

        `path` is a path of this host, or an absolute URL that the registry has given; credentials go only to
        this host.
        """
        url = self.url(path) if path.startswith("/") else path
        own = address.origin(url) == address.origin(self._base)
        for attempt in range(2):
            authorization = self._authorizer.header(scope) if own else {}
            body = content() if callable(content) else content
            response = self.client.request(
                method, url, headers={**(headers or {}), **authorization}, content=body, limit=limit
            )
            challenge = parse_challenge(response.headers.get("www-authenticate", ""))
            if response.status != 401 or not own or attempt or challenge is None:
                break
            if not self._authorizer.answer(scope, challenge, authorization.get("Authorization")):
                break
        return response

    def upload_url(self, location: str | None, request_url: str) -> str:
        """Where an upload session lies; raises `NetworkError` when the registry leads us off TLS or nowhere."""
        if not location:
            raise NetworkError(f"{self.host} opened an upload without a Location", next_step=_NOT_A_REGISTRY)
        return address.redirected(request_url, location)

    def refusal(self, response: Response, what: str) -> NetworkError | NotFoundError:
        """The error that says why the registry did not do what was asked."""
        status = response.status
        said = f"{self.host} answered {status} for {what}{_reason(response)}"
        if status == 404:
            return NotFoundError(
                f"{self.host} has no {what}{_reason(response)}",
                next_step="Check the name and the tag; list them with `skopeo list-tags`.",
            )
        if status in {401, 403}:
            return NetworkError(
                said,
                next_step=f"Log in with `docker login {self.host}` (credential helpers are not asked) "
                "and check the account's rights.",
                code="registry_unauthorized" if status == 401 else "registry_forbidden",
            )
        if status == 429:
            return NetworkError(said, next_step="Wait; the registry limits how often it is asked.", code="busy")
        if status < 500:
            return NetworkError(said, next_step="Look into the registry's log for the reason.", code="registry_refused")
        return NetworkError(said, next_step="Try again later; if it persists, look into the registry's log.")


class Repository:
    """One repository of a registry; a `BlobSource` of verified bytes."""

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = name
        self._manifests: set[Digest] = set()

    def __str__(self) -> str:
        return f"{self.registry.host}/{self.name}"

    def _path(self, kind: str, target: str) -> str:
        return f"/v2/{self.name}/{kind}/{target}"

    def _scope(self, *, push: bool = False) -> str:
        return f"repository:{self.name}:{'pull,push' if push else 'pull'}"

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
                f"{self} answered {media_type or 'an unnamed type'} for {target}, not a manifest",
                next_step=_NOT_A_REGISTRY,
            )
        claimed = response.headers.get("docker-content-digest")
        promised = asked or (digests.parse(claimed) if claimed else None)
        actual = _digest_like(response.body, promised)
        if promised is not None and actual != promised:
            raise IntegrityError(
                f"{self} sent a manifest of digest {actual} for {promised}",
                next_step="Do not use this image; the registry's storage is damaged or tampered with.",
            )
        document = documents.decode_manifest(response.body, media_type)
        if isinstance(document, Index):
            self._manifests.update(
                child.digest
                for child in document.manifests
                if child.media_type in documents.MANIFEST_TYPES | documents.INDEX_TYPES
            )
        self._manifests.add(actual)
        return RawManifest(response.body, document.media_type or media_type, actual)

    def resolve(self, target: str) -> Descriptor:
        """Descriptor of what a tag or digest names; errors as in `manifest`."""
        return self.manifest(target).descriptor

    def has_manifest(self, target: str) -> bool:
        """Whether there is a manifest under a tag or digest."""
        response = self.registry.call(
            "HEAD", self._path("manifests", target), scope=self._scope(), headers={"Accept": _MANIFEST_ACCEPT}
        )
        return self._exists(response, f"{self.name}:{target}")

    def put_manifest(self, target: str, data: bytes, media_type: str) -> Digest:
        """Store a manifest under a tag or digest and return its digest; its blobs must be there already."""
        digest = _digest_like(data, digests.parse(target) if ":" in target else None)
        response = self.registry.call(
            "PUT",
            self._path("manifests", target),
            scope=self._scope(push=True),
            headers={"Content-Type": media_type},
            content=data,
        )
        if response.status != 201:
            raise self.registry.refusal(response, f"the manifest of {self.name}:{target}")
        stored_as = response.headers.get("docker-content-digest", digest)
        if stored_as.startswith("sha256:") and stored_as != _digest_like(data, None):
            raise IntegrityError(
                f"{self} stored the manifest as {stored_as} instead of {digest}",
                next_step="The registry changes manifests; signatures will not hold there. Use another one.",
            )
        return digest

    def tags(self) -> list[str]:
        """All tags, sorted; follows the registry's pages. Raises `LimitError` over `TAGS`."""
        found: set[str] = set()
        path = self._path("tags", "list") + f"?n={limits.TAG_PAGE}"
        while path:
            response = self.registry.call("GET", path, scope=self._scope())
            if response.status != 200:
                raise self.registry.refusal(response, f"repository {self.name}")
            try:
                page = msgspec.json.decode(response.body, type=_Tags).tags or []
            except (msgspec.DecodeError, RecursionError) as error:
                raise NetworkError(f"{self} answered no list of tags", next_step=_NOT_A_REGISTRY) from error
            if len(found) + len(page) > limits.TAGS:
                raise LimitError(f"{self} has more than {limits.TAGS} tags", next_step="Name the tag you want.")
            fresh = set(page) - found
            found |= fresh
            following = re.match(r'\s*<([^>]+)>\s*;[^,]*\brel="?next\b', response.headers.get("link", ""))
            # A page without news ends the walk: a hostile registry could lead us in a circle.
            path = address.redirected(response.url, following[1]) if following and fresh else ""
        return sorted(found)

    # Blobs

    def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is there; raises `NetworkError` when that could not be found out."""
        response = self.registry.call("HEAD", self._path("blobs", digest), scope=self._scope())
        return self._exists(response, f"blob {digest} in {self.name}")

    def _exists(self, response: Response, what: str) -> bool:
        if response.status not in {200, 404}:
            raise self.registry.refusal(response, what)
        return response.status == 200

    def open(self, digest: Digest) -> IO[bytes]:
        """A stream of the blob; reading its end raises `IntegrityError` when the bytes are not the blob.

        Raises:
            NotFoundError: there is no such blob.
            NetworkError: the registry could not be asked, or refused.
        """
        if not self.has_blob(digest):
            raise NotFoundError(f"{self} has no blob {digest}", next_step="Push the image again.", code="blob_unknown")
        url = self.registry.url(self._path("blobs", digest))
        answer = self.registry.client.stream(
            url, limit=limits.LAYER_BYTES, headers=self.registry.headers(self._scope())
        )
        if answer.status != 200:
            answer.body.close()
            raise self.registry.refusal(
                Response(answer.status, answer.headers, b"", answer.url), f"blob {digest} in {self.name}"
            )
        return io.BufferedReader(_Verified(answer.body, digest, str(self)), _CHUNK)

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        """A small blob or a manifest, verified; errors as in `open` and `manifest`."""
        if digest in self._manifests:
            return self.manifest(digest).data
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

    def download(self, blob: Descriptor, sink: Sink, advance: Callable[[int], None] | None = None) -> None:
        """Stream a blob into `sink`, resuming when cut. The caller verifies what the sink received."""
        if not self.has_blob(blob.digest):
            raise NotFoundError(
                f"{self} has no blob {blob.digest}", next_step="Push the image again.", code="blob_unknown"
            )
        self.registry.client.download(
            self.registry.url(self._path("blobs", blob.digest)),
            sink,
            limit=blob.size,
            advance=advance,
            headers=self.registry.headers(self._scope()),
        )

    def mount(self, digest: Digest, source: str) -> bool:
        """Whether the registry took the blob over from its repository `source`; if not, it must be sent."""
        query = urlencode({"mount": digest, "from": source})
        response = self.registry.call(
            "POST",
            self._path("blobs", "uploads/") + f"?{query}",
            scope=self._scope(push=True),
            headers={"Content-Length": "0"},
        )
        return response.status == 201

    def push_blob(self, blob: Descriptor, pieces: Callable[[], Iterable[bytes]]) -> None:
        """Send a blob; `pieces` is called again for each attempt and yields exactly `blob.size` bytes.

        Raises:
            IntegrityError: the registry received other bytes than the digest names.
            NetworkError: the registry could not be reached, or refused.
        """
        budget = retry.Budget()
        while True:
            try:
                self._upload(blob, pieces)
            except NetworkError as error:
                if error.code not in _WORTH_ANOTHER_UPLOAD or not budget.again():
                    raise
                continue
            return

    def _upload(self, blob: Descriptor, pieces: Callable[[], Iterable[bytes]]) -> None:
        scope = self._scope(push=True)
        opened = self.registry.call(
            "POST", self._path("blobs", "uploads/"), scope=scope, headers={"Content-Length": "0"}
        )
        if opened.status != 202:
            raise self.registry.refusal(opened, f"an upload to {self.name}")
        parts = urlsplit(self.registry.upload_url(opened.headers.get("location"), opened.url))
        query = parts.query + ("&" if parts.query else "") + urlencode({"digest": blob.digest})
        answer = self.registry.call(
            "PUT",
            urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")),
            scope=scope,
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)},
            content=pieces,
        )
        if answer.status == 400 and b"DIGEST_INVALID" in answer.body:
            raise IntegrityError(
                f"{self} received bytes that are not {blob.digest}",
                next_step="Check the local store: the blob in it is damaged.",
                code="digest_invalid",
            )
        if answer.status != 201:
            raise self.registry.refusal(answer, f"blob {blob.digest} of {self.name}")


def connect(
    client: Client,
    reference: RegistryReference,
    *,
    plain_http: frozenset[str],
    credentials: Credentials = stored.NONE,
) -> Repository:
    """The repository that `reference` names."""
    if not reference.repository:
        raise InputError("the reference names no repository", next_step="Write HOST/REPO:TAG.")
    return Registry(client, reference.host, plain_http=plain_http, credentials=credentials).repository(
        reference.repository
    )
