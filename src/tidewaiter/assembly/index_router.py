"""One index on the loopback in front of several: every package is asked for where the project says, and nowhere else.

uv takes the packages that a project requires itself from the index pinned for them, but not those that these require
in turn, so that a public package could stand in for a private one of the same name. Here the resolver knows one index
only. The index that is responsible for a name answers for it alone; that it does not know a name is the answer, too.

1. The path holds a random word, so that other users of this machine cannot use our credentials.
2. A name that the project routes is asked for at its own index, every other at the public one.
3. Files of indexes with credentials are handed through; `restored` puts their real addresses into the lock.
4. What was offered is remembered: `require_offered` accepts no file from elsewhere.
"""

import secrets
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote, unquote, urlsplit

import msgspec
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename

from tidewaiter.assembly import simple_index
from tidewaiter.assembly.python_lock import toml
from tidewaiter.assembly.simple_index import File, Index
from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, NotFoundError, TidewaiterError
from tidewaiter.transport.address import redacted
from tidewaiter.transport.client import Body, Client

_METADATA = ".metadata"
_WAIT_SECONDS = 5.0


class Made(msgspec.Struct, frozen=True):
    """A wheel that was built from a source distribution: the file, and its METADATA."""

    path: Path
    metadata: bytes


Make = Callable[[str, str, File], Made]
"""Builds the wheel of name, version and source distribution."""


class _Way(msgspec.Struct, frozen=True):
    """What stands behind a path of the router."""

    index: Index
    name: str
    version: str
    file: File
    built: bool


class Router:
    """Answers as one package index. Use as a context manager; nothing is served after it."""

    def __init__(
        self,
        routes: Mapping[str, Index],
        public: Index,
        client: Client,
        *,
        buildable: frozenset[str] = frozenset(),
        make: Make | None = None,
    ) -> None:
        self._routes = routes
        self._public = public
        self._client = client
        self._buildable = buildable
        self._make = make
        self._word = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._pages: dict[str, tuple[File, ...]] = {}
        self._ways: list[_Way] = []
        self._paths: dict[tuple[str, str], str] = {}
        self.failure: TidewaiterError | None = None
        """Why the first request could not be answered; what a resolver says after it is not to be believed."""
        self._server = _Server(self)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_WAIT_SECONDS)

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{self._word}"

    @property
    def url(self) -> str:
        """Address of the simple repository API."""
        return f"{self._base}/simple"

    @property
    def wheels_url(self) -> str:
        """As `url`, with nothing that would have to be built: what builds one thing is not built itself."""
        return f"{self._base}/wheels"

    def index_of(self, name: str) -> Index:
        """The only index that may offer the package."""
        return self._routes.get(canonicalize_name(name), self._public)

    # After the resolver

    def restored(self, text: str) -> str:
        """`text` with real addresses instead of those of the router."""
        with self._lock:
            for (_, url), path in self._paths.items():
                text = text.replace(f'"{self._base}{path}"', toml(url))
        return text

    def built(self, url: str) -> tuple[str, str, File] | None:
        """Name, version and source distribution behind an address of the router whose wheel is built here."""
        with self._lock:
            found = [way for number, way in enumerate(self._ways) if url == f"{self._base}{self._path(number, way)}"]
        return (found[0].name, found[0].version, found[0].file) if found and found[0].built else None

    def require_offered(self, name: str, filename: str, sha256: str) -> None:
        """Raise `IntegrityError` unless the index of `name` offered this very file."""
        index = self.index_of(name)
        pages = self._pages.get(canonicalize_name(name), ())
        if not any(file.filename == filename and file.sha256 in {sha256, ""} for file in pages):
            raise IntegrityError(
                f"{filename} does not come from {redacted(index.url)}, the index of {name}",
                next_step="Require it by name, without an address; see [[python.indexes]] in tidewaiter.toml.",
            )

    # Before it: one request

    def page(self, name: str, *, built: bool) -> bytes:
        """PEP 691 page of `name`, with what its index offers and, if `built`, what can be built of it.

        Raises what `simple_index.files` raises.
        """
        name = canonicalize_name(name)
        index = self.index_of(name)
        with self._lock:
            known = self._pages.get(name)
        if known is None:
            known = simple_index.files(index, name, self._client)
        with self._lock:
            self._pages[name] = known
            listed = [self._listed(index, name, file) for file in known]
            if built and name in self._buildable:
                listed += self._from_source(index, name, known)
        return msgspec.json.encode({"meta": {"api-version": "1.1"}, "name": name, "files": listed})

    def _listed(self, index: Index, name: str, file: File) -> dict[str, object]:
        handed_through = index.name or index.headers(file.url)
        url = self._base + self._register(_Way(index, name, "", file, built=False)) if handed_through else file.url
        entry: dict[str, object] = {
            "filename": file.filename,
            "url": url,
            "hashes": {"sha256": file.sha256} if file.sha256 else {},
            "yanked": file.yanked,
            "core-metadata": file.metadata,
        }
        told = {"size": file.size, "requires-python": file.requires_python, "upload-time": file.upload_time}
        return entry | {key: value for key, value in told.items() if value is not None}

    def _from_source(self, index: Index, name: str, known: tuple[File, ...]) -> list[dict[str, object]]:
        """Wheels that are not there yet, of versions that have none; built when the resolver looks into one."""
        listed: list[dict[str, object]] = []
        with_wheels = {"-".join(file.filename.split("-")[1:2]) for file in known if file.filename.endswith(".whl")}
        for file in known:
            try:
                version = str(parse_sdist_filename(file.filename)[1])
            except InvalidSdistFilename:
                continue
            if version in with_wheels or not file.sha256:
                continue
            path = self._register(_Way(index, name, version, file, built=True))
            entry: dict[str, object] = {
                "filename": path.rpartition("/")[2],
                "url": self._base + path,
                "hashes": {},
                "yanked": file.yanked,
                "core-metadata": True,
            }
            listed.append(entry | ({"requires-python": file.requires_python} if file.requires_python else {}))
        return listed

    def _register(self, way: _Way) -> str:
        key = ("built" if way.built else "", way.file.url)
        if key not in self._paths:
            self._ways.append(way)
            self._paths[key] = self._path(len(self._ways) - 1, way)
        return self._paths[key]

    @staticmethod
    def _path(number: int, way: _Way) -> str:
        name = f"{way.name.replace('-', '_')}-{way.version}-py3-none-any.whl" if way.built else way.file.filename
        return f"/file/{number}/{quote(name)}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request of the resolver."""
        try:
            self._answer(handler)
        except NotFoundError:
            _reply(handler, 404)
        except TidewaiterError as error:
            with self._lock:
                self.failure = self.failure or error
            _reply(handler, 500)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        word, _, rest = urlsplit(handler.path).path.lstrip("/").partition("/")
        kind, _, name = rest.partition("/")
        if not secrets.compare_digest(word.encode(), self._word.encode()):
            _reply(handler, 404)
        elif kind in {"simple", "wheels"}:
            _reply(handler, 200, self.page(unquote(name).strip("/"), built=kind == "simple"), simple_index.JSON)
        elif kind == "file":
            self._file(handler, name)
        else:
            _reply(handler, 404)

    def _file(self, handler: BaseHTTPRequestHandler, rest: str) -> None:
        number, _, name = rest.partition("/")
        with self._lock:
            way = self._ways[int(number)] if number.isdecimal() and int(number) < len(self._ways) else None
        if way is None:
            _reply(handler, 404)
            return
        if way.built:
            self._built(handler, way, metadata=name.endswith(_METADATA))
            return
        url = way.file.url + (_METADATA if name.endswith(_METADATA) else "")
        asked = {"Range": handler.headers["Range"]} if handler.headers["Range"] else {}
        found = self._client.stream(url, limit=limits.WHEEL_BYTES, headers={**way.index.headers(url), **asked})
        with found.body as body:
            _stream(handler, found.status, found.headers, body)

    def _built(self, handler: BaseHTTPRequestHandler, way: _Way, *, metadata: bool) -> None:
        if self._make is None:
            _reply(handler, 404)
            return
        with self._building:  # the second request for one wheel finds it made
            made = self._make(way.name, way.version, way.file)
        if metadata:
            _reply(handler, 200, made.metadata)
            return
        size = made.path.stat().st_size
        with made.path.open("rb") as file:
            _stream(handler, 200, {"content-length": str(size)}, file)


def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def _stream(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: IO[bytes] | Body) -> None:
    handler.send_response(status)
    for name in ("content-length", "content-range", "accept-ranges"):
        if name in headers:
            handler.send_header(name, headers[name])
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    if handler.command != "HEAD":
        while data := body.read(limits.MIB):
            handler.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, router: Router) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = limits.READ_SECONDS

            def do_GET(self) -> None:
                router.answer(self)

            do_HEAD = do_GET  # noqa: N815  # a name that http.server looks for

            def log_message(self, *_: object) -> None:
                """Nothing: addresses may be secret."""

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: object) -> None:
        """Nothing: a resolver that has read enough hangs up."""
