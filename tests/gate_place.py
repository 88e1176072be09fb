"""A gate on a home of its own, asked as an ASGI application: every byte of path, headers and body is the test's."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

import postgres
from tidewaiter.access.identity import Identity
from tidewaiter.access.passes import Passes
from tidewaiter.access.roles import Role
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.gate import GateCatalog
from tidewaiter.core import settings as all_settings
from tidewaiter.gate.app import Gate
from tidewaiter.gate.judging import Allowed, Judgement
from tidewaiter.gate.registry import Registry
from tidewaiter.gate.terms import Terms
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.web.registry import upstream_of
from tidewaiter.web.source import Source

JSON = "application/vnd.acme.thing+json"


def somebody(role: Role, project: str = "*", *, name: str = "alice") -> Identity:
    """Who has that role there."""
    return Identity(name=name, kind="token", roles={project: frozenset({role})})


MAINTAINER = somebody("maintainer")
NOBODY = Identity(name="anonymous", kind="anonymous", roles={})


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of the first error."""
        return str(self.json["errors"][0]["code"])

    @property
    def message(self) -> str:
        """Of the first error."""
        return str(self.json["errors"][0]["message"])


class Place:
    """The gate of a home; the judge and the terms are the test's."""

    def __init__(
        self,
        folder: Path,
        *,
        judge: Callable[[str, str, Descriptor], Judgement] = lambda *_: Allowed("research"),
        terms: Callable[[str], Terms] = lambda _: Terms(environment="open"),
    ) -> None:
        self.settings = all_settings.load({"TIDEWAITER_HOME": str(folder), **postgres.variables(folder)})
        self.database = Catalog.open(self.settings)
        self.catalog = GateCatalog(self.database.database)
        self.store = Layout(self.settings.home.store)
        self.store.create()
        self.registry = Registry(
            self.settings.home.path,
            self.store,
            lambda: self.catalog,
            judge,
            terms,
            passes=Passes(folder / "passes.secret"),
            upstream=upstream_of(self.settings, Source(self.settings)),
        )
        self.gate = Gate(self.registry, changes=lambda: None)

    def close(self) -> None:
        self.registry.close()
        self.database.close()

    async def asked(
        self,
        method: str,
        path: str | bytes,
        body: bytes | Iterable[bytes] = b"",
        *,
        who: Identity = MAINTAINER,
        leaves: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to a request behind `/v2`; `leaves`: the client is gone after what it sent."""
        raw = path if isinstance(path, bytes) else path.encode()
        raw, _, query = raw.partition(b"?")
        pieces = [body] if isinstance(body, bytes) else list(body)
        sent = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        if leaves:
            sent.append({"type": "http.disconnect"})
        else:
            sent[-1]["more_body"] = False
        coming = iter(sent)

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            return next(coming)

        got: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            await asyncio.sleep(0)
            got.append(message)

        given = dict(headers or {})
        if isinstance(body, bytes) and not leaves:
            given.setdefault("content-length", str(len(body)))
        scope = {
            "type": "http",
            "method": method,
            "path": "/v2" + raw.decode("latin-1"),
            "raw_path": b"/v2" + raw,
            "query_string": query,
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "state": {"identity": who},
        }
        await self.gate(scope, receive, send)
        if not got:
            return Answer(0, {}, b"")
        names = {name.decode(): value.decode() for name, value in got[0]["headers"]}
        return Answer(got[0]["status"], names, b"".join(one.get("body", b"") for one in got[1:]))

    def ask(self, method: str, path: str | bytes, body: bytes | Iterable[bytes] = b"", **options: Any) -> Answer:
        """As `asked`, for a request alone."""
        return asyncio.run(self.asked(method, path, body, **options))

    def blob(self, repository: str, data: bytes, **options: Any) -> str:
        """Push a blob; its digest."""
        digest = digest_of(data)
        done = self.ask("POST", f"/{repository}/blobs/uploads/?digest={digest}", data, **options)
        assert done.status == 201, done
        return digest

    def image(self, repository: str, contents: bytes = b"layer") -> bytes:
        """Push the blobs of an image, whose manifest this is."""
        layer = self.blob(repository, contents)
        config = json.dumps({"os": "linux", "architecture": "amd64", "of": layer}).encode()
        return manifest(
            {"mediaType": documents.CONFIG, "digest": self.blob(repository, config), "size": len(config)},
            [{"mediaType": documents.LAYER_GZIP, "digest": layer, "size": len(contents)}],
        )

    def put(self, repository: str, reference: str, data: bytes, **options: Any) -> Answer:
        """Push a manifest."""
        return asyncio.run(self.putting(repository, reference, data, **options))

    async def putting(
        self, repository: str, reference: str, data: bytes, *, media_type: str = documents.MANIFEST, **options: Any
    ) -> Answer:
        """As `put`, beside others."""
        headers = {"content-type": media_type}
        return await self.asked("PUT", f"/{repository}/manifests/{reference}", data, headers=headers, **options)


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """`algorithm:hex`."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def manifest(config: dict[str, Any], layers: list[dict[str, Any]], **more: Any) -> bytes:
    """An image manifest."""
    head = {"schemaVersion": 2, "mediaType": documents.MANIFEST, "config": config, "layers": layers}
    return json.dumps({**head, **more}).encode()


def artifact(place: Place, repository: str, kind: str, *, subject: bytes | None = None, **more: Any) -> bytes:
    """The manifest of an artifact whose blobs are pushed; it refers to the manifest `subject`."""
    config = {"mediaType": documents.EMPTY, "digest": place.blob(repository, b"{}"), "size": 2}
    if subject is not None:
        more["subject"] = {"mediaType": documents.MANIFEST, "digest": digest_of(subject), "size": len(subject)}
    layer = {"mediaType": JSON, "digest": config["digest"], "size": 2}
    return manifest(config, [layer], artifactType=kind, **more)


def index(*children: bytes) -> bytes:
    """An index of those manifests."""
    platforms = ("amd64", "arm64", "s390x")
    entries = [
        {
            "mediaType": documents.MANIFEST,
            "digest": digest_of(child),
            "size": len(child),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for child, architecture in zip(children, platforms, strict=False)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": documents.INDEX, "manifests": entries}).encode()
