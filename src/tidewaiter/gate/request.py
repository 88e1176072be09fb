"""One request to the registry: its path and query strictly parsed, its body as it arrives, its answer.

The path is taken as it was sent, before anything is decoded: what is not spelled in the plainest way names nothing. The
one escape that is understood is the colon of a digest.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from tidewaiter.access.identity import Identity
from tidewaiter.access.passes import Access
from tidewaiter.access.roles import Permission
from tidewaiter.catalog.versions import Version
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Kind = Literal["base", "catalog", "token", "manifest", "blob", "uploads", "upload", "tags", "referrers"]
ANONYMOUS = Identity(name="anonymous", kind="anonymous", roles={})
ACTIONS: Mapping[Permission, str] = {
    Permission.IMAGE_PULL: "pull",
    Permission.IMAGE_PUSH: "push",
    Permission.IMAGE_DELETE: "delete",
}
"""What a pass calls what it grants."""

_ROUTES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("base", re.compile(r"/?")),
    ("catalog", re.compile(r"/_catalog")),
    ("token", re.compile(r"/token")),
    ("uploads", re.compile(r"/(?P<name>.+)/blobs/uploads/?")),
    ("upload", re.compile(r"/(?P<name>.+)/blobs/uploads/(?P<last>[^/]+)")),
    ("blob", re.compile(r"/(?P<name>.+)/blobs/(?P<last>[^/]+)")),
    ("manifest", re.compile(r"/(?P<name>.+)/manifests/(?P<last>[^/]+)")),
    ("referrers", re.compile(r"/(?P<name>.+)/referrers/(?P<last>[^/]+)")),
    ("tags", re.compile(r"/(?P<name>.+)/tags/list")),
)
_PLAIN = re.compile(r"[A-Za-z0-9._:/+=-]*")
_COLON = re.compile(r"%3a", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:_\[\]-]+")
_WHOLE = re.compile(r"[0-9]{1,18}")


class Target(msgspec.Struct, frozen=True):
    """What a path names."""

    kind: Kind
    repository: str = ""
    last: str = ""
    """A tag or digest, or the name of an upload."""


def target(raw: bytes) -> Target:
    """What a path behind `/v2`, as it was sent, names.

    Raises:
        RefusalError: nothing, or a name that no repository, tag or digest can have.
    """
    text = raw.decode("latin-1")
    if len(text) > limits.GATE_PATH_BYTES:
        raise RefusalError("NAME_INVALID", "the path is too long", status=404)
    text = _COLON.sub(":", text)
    if not _PLAIN.fullmatch(text):
        raise RefusalError("NAME_INVALID", "the path holds what no name may hold", status=404)
    for kind, route in _ROUTES:
        found = route.fullmatch(text)
        if found is None:
            continue
        parts = found.groupdict()
        name = parts.get("name", "")
        if "name" in parts:
            try:
                references.check_repository(name)
            except InputError as error:
                raise RefusalError("NAME_INVALID", error.message, status=404) from error
        return Target(kind, name, _last(kind, parts.get("last", "")))
    raise RefusalError("NAME_UNKNOWN", "a registry has nothing under this path")


def _last(kind: Kind, text: str) -> str:
    try:
        if kind in {"blob", "referrers"} or (kind == "manifest" and ":" in text):
            return digests.parse(text)
        if kind == "manifest":
            return references.check_tag(text)
    except InputError as error:
        # A digest of an algorithm that is not spoken here is one that nobody has.
        if kind == "manifest" and ":" not in text:
            raise RefusalError("MANIFEST_INVALID", error.message, status=404) from error
        raise RefusalError("DIGEST_INVALID", error.message) from error
    return text


def challenge(origin: str, raw: bytes, method: str) -> str:
    """What tells a client where to get a pass, and which, for a request to the path `raw` behind `/v2`.

    `origin` is what it called this server, `SCHEME://HOST`.
    """
    if not _ORIGIN.fullmatch(origin):
        origin = "http://localhost"
    told = f'Bearer realm="{origin}/v2/token",service="tidewaiter"'
    try:
        wanted = target(raw)
    except RefusalError:
        return told
    if wanted.kind == "catalog":
        return f'{told},scope="registry:catalog:*"'
    if not wanted.repository:
        return told
    actions = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(method, "pull,push")
    if wanted.kind in {"upload", "uploads"}:
        actions = "pull,push"
    return f'{told},scope="repository:{wanted.repository}:{actions}"'


class Request:
    """A request and the way its answer goes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.headers: Mapping[str, str] = _headers(scope["headers"])
        state = scope.get("state") or {}
        given = state.get("identity")
        self.identity: Identity = given if isinstance(given, Identity) else ANONYMOUS
        self.access: Access | None = state.get("access")
        self.token: str = state.get("token", "")
        self.version: Version | None = state.get("version")
        """Of the catalog, as it was told after this request came."""
        self.began = False

    def is_granted(self, permission: Permission, repository: str) -> bool:
        """Whether no pass was shown, or one that is good for that."""
        return self.access is None or ACTIONS[permission] in self.access.get(repository, ())

    @property
    def challenge(self) -> str:
        """`WWW-Authenticate`: where a pass for this request is to be had."""
        state = self.scope.get("state") or {}
        return challenge(state.get("origin") or f"http://{self.headers.get('host', '')}", self.raw_path, self.method)

    @property
    def raw_path(self) -> bytes:
        """The path behind `/v2`, as it was sent."""
        raw: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        return raw.partition(b"?")[0].removeprefix(b"/v2")

    @property
    def query(self) -> dict[str, list[str]]:
        """Parameters; raises `RefusalError` when they are none."""
        found: dict[str, list[str]] = {}
        try:
            text = self.scope["query_string"].decode("ascii")
            for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=200, errors="strict"):
                found.setdefault(name, []).append(value)
        except ValueError as error:
            raise RefusalError("UNSUPPORTED", "the query is malformed", status=400) from error
        return found

    def one(self, name: str) -> str | None:
        """The one value of a parameter, None without it; raises `RefusalError` when there are several."""
        values = self.query.get(name, [])
        if len(values) > 1:
            raise RefusalError("UNSUPPORTED", f"{name} is given twice", status=400)
        return values[0] if values else None

    def digest(self, name: str) -> Digest | None:
        """The digest in a parameter; raises `RefusalError` when it is none."""
        text = self.one(name)
        try:
            return None if text is None else digests.parse(text)
        except InputError as error:
            raise RefusalError("DIGEST_INVALID", error.message) from error

    def length(self) -> int | None:
        """Announced bytes of the body; None when it comes in chunks of its own."""
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not _WHOLE.fullmatch(text):
            raise RefusalError("SIZE_INVALID", "Content-Length is no number")
        return int(text)

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces of the body as they arrive.

        Raises:
            DisconnectedError: the client left.
            RefusalError: it is silent for too long.
        """
        more = True
        while more:
            try:
                async with asyncio.timeout(limits.GATE_SILENT_SECONDS):
                    message = await self._receive()
            except TimeoutError as error:
                raise RefusalError("BLOB_UPLOAD_INVALID", "nothing came for too long", status=408) from error
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            more = message.get("more_body", False)
            if message.get("body"):
                yield message.pop("body")  # nothing here holds it while the next one is waited for

    async def read(self, limit: int, *, code: str) -> bytes:
        """The whole body; raises as `body`, and `RefusalError` of `code` when it is over `limit`."""
        too_long = RefusalError(code, f"the body is over {limit} bytes", status=413)
        if (self.length() or 0) > limit:
            raise too_long
        pieces: list[bytes] = []
        size = 0
        async for piece in self.body():
            size += len(piece)
            if size > limit:
                raise too_long
            pieces.append(piece)
        return b"".join(pieces)

    async def start(self, status: int, headers: Mapping[str, str], repeated: Iterable[tuple[str, str]] = ()) -> None:
        """Begin the answer; `repeated` are headers of which there may be several."""
        self.began = True
        every = {"Docker-Distribution-API-Version": "registry/2.0", **headers}
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in (*every.items(), *repeated)]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def piece(self, data: bytes, *, more: bool) -> None:
        """Go on with the answer, or end it."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """The whole answer; `_` in header names is `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Content-Length", str(len(body)))
        await self.start(status, named)
        await self.piece(b"" if self.method == "HEAD" else body, more=False)


class DisconnectedError(Exception):
    """The client left before its request was whole."""


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; of one that is given twice the first, but such a length or range counts as none."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key = name.decode("latin-1").lower()
        if key in found and key in {"content-range", "range", "content-type"}:
            found[key] = ""
        found.setdefault(key, value.decode("latin-1").strip())
    return found
