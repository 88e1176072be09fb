"""A registry in a few lines, for what no real one does: hostile lists, lies, an end half-way. It notes each request."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from servers import Serve, reply
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index, Manifest

_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<what>manifests|blobs|tags|referrers)/(?P<target>[^/]+)")
Fault = Callable[[BaseHTTPRequestHandler], bool]
"""Answers a request in the registry's place, and says whether it did."""


class LittleRegistry:
    """Anonymous, plain HTTP; `host` is its HOST:PORT."""

    def __init__(self, serve: Serve) -> None:
        self.tags: dict[str, dict[str, Digest]] = {}
        self.listed: list[str] | None = None
        """What it says that it holds, when that is a lie."""
        self.said_tags: dict[str, list[str]] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.referrers: dict[str, list[Descriptor]] | None = None
        """None: it has no referrers API."""
        self.fault: Fault | None = None
        self.seen: list[tuple[str, str]] = []
        self.busiest = 0
        self._now = 0
        self._lock = threading.Lock()
        self.host = urlsplit(serve(self._answer)).netloc

    def put(self, name: str, tag: str, layout: Layout, descriptor: Descriptor) -> Digest:
        """Hold what the layout has, under a tag."""
        self._take(layout, descriptor)
        self.tags.setdefault(name, {})[tag] = descriptor.digest
        return descriptor.digest

    def put_raw(self, name: str, tag: str, data: bytes, media_type: str) -> Digest:
        """Hold a manifest as it is, under a tag."""
        digest = digests.of(data)
        self.manifests[digest] = (data, media_type)
        self.tags.setdefault(name, {})[tag] = digest
        return digest

    def _take(self, layout: Layout, descriptor: Descriptor) -> None:
        data = layout.read(descriptor.digest)
        self.manifests[descriptor.digest] = (data, descriptor.media_type)
        document = documents.decode_manifest(data, descriptor.media_type)
        if isinstance(document, Index):
            for child in document.manifests:
                self._take(layout, child)
        elif isinstance(document, Manifest):
            for blob in (document.config, *document.layers):
                self.blobs[blob.digest] = layout.blob_path(blob.digest).read_bytes()

    def asked(self, what: str) -> list[str]:
        """Paths of the requests for `manifests` or `blobs` that were no HEAD, since `seen` was emptied."""
        return [path for method, path in self.seen if method == "GET" and f"/{what}/" in path]

    # One request

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.seen.append((handler.command, handler.path))
            self._now += 1
            self.busiest = max(self.busiest, self._now)
        try:
            if self.fault is None or not self.fault(handler):
                self._serve(handler)
        finally:
            with self._lock:
                self._now -= 1

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        if parts.path == "/v2/":
            reply(handler, 200, b"{}")
        elif parts.path == "/v2/_catalog":
            self._list(handler, "repositories", self.listed if self.listed is not None else sorted(self.tags))
        elif (found := _PATH.fullmatch(parts.path)) is None:
            reply(handler, 404)
        elif found["what"] == "tags":
            if found["name"] in self.tags:
                self._list(handler, "tags", self.said_tags.get(found["name"]) or sorted(self.tags[found["name"]]))
            else:
                reply(handler, 404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}')
        elif found["what"] == "blobs":
            data = self.blobs.get(found["target"])
            reply(handler, 404 if data is None else 200, data or b"")
        elif found["what"] == "referrers":
            self._refer(handler, found["target"])
        else:
            self._manifest(handler, found["name"], found["target"])

    def _list(self, handler: BaseHTTPRequestHandler, what: str, names: list[str]) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        size, last = int(query.get("n", ["1000"])[0]), query.get("last", [""])[0]
        left = [name for name in names if name > last] if last else names
        path = urlsplit(handler.path).path
        link = f'<{path}?n={size}&last={left[size - 1]}>; rel="next"' if len(left) > size else ""
        reply(handler, 200, json.dumps({what: left[:size]}).encode(), Content_Type="application/json", Link=link)

    def _refer(self, handler: BaseHTTPRequestHandler, subject: str) -> None:
        if self.referrers is None:
            reply(handler, 404)
            return
        index = Index(schema_version=2, media_type=documents.INDEX, manifests=self.referrers.get(subject, []))
        reply(handler, 200, documents.encode(index), Content_Type=documents.INDEX)

    def _manifest(self, handler: BaseHTTPRequestHandler, name: str, target: str) -> None:
        digest = target if ":" in target else self.tags.get(name, {}).get(target, "")
        if digest not in self.manifests:
            reply(handler, 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such manifest"}]}')
            return
        data, media_type = self.manifests[digest]
        reply(handler, 200, data, Content_Type=media_type, Docker_Content_Digest=digest)
