"""Files that Git LFS keeps beside a repository, fetched by its batch API and checked against their pointers.

A pointer, which the commit holds, names a file by SHA-256 and size: so the commit pins it, whoever delivers it. Only
the basic way of transfer is spoken, over https; `.lfsconfig` of a repository, which could name any server, does not
count.
"""

import hashlib
import os
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, NetworkError, RefusedError
from tidewaiter.core.settings import Settings, SourceTable
from tidewaiter.pipelines import connecting
from tidewaiter.pipelines.sources.bounds import Left
from tidewaiter.pipelines.sources.credentials import Secret
from tidewaiter.pipelines.sources.git import Git, Note
from tidewaiter.pipelines.sources.places import Place
from tidewaiter.transport import address
from tidewaiter.transport.client import Client

_MEDIA_TYPE = "application/vnd.git-lfs+json"
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)
FAILED = "source_lfs"
_HEADERS = 20
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


class Pointer(msgspec.Struct, frozen=True):
    """What a commit holds in the place of a large file."""

    path: str
    oid: str
    """SHA-256 of the file."""
    size: int


class _Action(msgspec.Struct):
    href: Annotated[str, msgspec.Meta(max_length=8192)]
    header: dict[str, str] = {}


class _Failure(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Object(msgspec.Struct):
    oid: str
    size: int
    authenticated: bool = False
    actions: dict[str, _Action] | None = None
    error: _Failure | None = None


class _Batch(msgspec.Struct):
    objects: list[_Object]
    transfer: str = "basic"


def pointers(git: Git, folder: Path, small: tuple[str, ...], left: Left) -> tuple[Pointer, ...]:
    """The pointers among the small files of a work tree, which its attributes say are of LFS; counted in `left`."""
    found = []
    for path in small:
        data = (folder / path).read_bytes()
        match = _POINTER.fullmatch(data)
        if match is not None:
            found.append(Pointer(path, match[1].decode(), int(match[2])))
    if not found:
        return ()
    asked = "".join(f"{one.path}\0" for one in found).encode()
    answer = git.ask(folder, "check-attr", "-z", "--stdin", "filter", given=asked).decode().split("\0")
    of_lfs = {path for path, value in zip(answer[::3], answer[2::3], strict=False) if value == "lfs"}
    chosen = tuple(one for one in found if one.path in of_lfs)
    left.take_large(len(chosen), sum(one.size for one in chosen))
    return chosen


class Server:
    """The server of large files that belongs to a repository."""

    def __init__(self, settings: Settings, place: Place, table: SourceTable | None, secret: Secret | None) -> None:
        self._settings = settings
        self._place = place
        self._authorization: dict[str, str] = {}
        if secret is not None and place.scheme in {"https", "http"}:
            self._authorization["Authorization"] = address.basic(table.username if table else "oauth2", secret.text)

    def fetch(self, wanted: tuple[Pointer, ...], *, store: Path, git: Git, note: Note) -> None:
        """Have every file that `wanted` names in `store`, under its SHA-256, before the deadline of `git`.

        Raises:
            DeadlineError: it took longer.
            RefusedError: the repository is one of ssh or a path, or the server sends elsewhere without TLS.
            NetworkError: the server does not give them.
            IntegrityError: what came is something else.
        """
        missing = {one.oid: one for one in wanted if not _is_there(store, one)}
        if not missing:
            return
        if self._place.scheme not in {"https", "http"}:
            raise RefusedError(
                "files of Git LFS are fetched over https only, and the repository's address is none",
                next_step="Give the [[source]] an https address and a token, or turn its `lfs` off.",
                code=FAILED,
            )
        store.mkdir(parents=True, exist_ok=True)
        with connecting.client(self._settings) as client:
            late = threading.Timer(max(git.deadline - time.monotonic(), 0.0), client.interrupt)
            late.daemon = True
            late.start()
            try:
                self._fetch(client, list(missing.values()), store, git, note)
            except NetworkError as error:
                if time.monotonic() >= git.deadline:
                    raise git.late(f"fetching large files of {self._place.url}") from error
                raise
            finally:
                late.cancel()

    def _fetch(self, client: Client, todo: list[Pointer], store: Path, git: Git, note: Note) -> None:
        for begin in range(0, len(todo), limits.LFS_BATCH):
            part = todo[begin : begin + limits.LFS_BATCH]
            told = self._asked(client, part)
            for one in part:
                # The timer cuts what is under way, not what begins later.
                if time.monotonic() >= git.deadline:
                    raise git.late(f"fetching large files of {self._place.url}")
                self._download(client, one, told.get(one.oid), store)
                note(f"large file {one.path}: {one.size} bytes")

    def _asked(self, client: Client, part: list[Pointer]) -> dict[str, _Object]:
        url = self._place.url
        base = url if url.endswith(".git") else f"{url.rstrip('/')}.git"
        body: dict[str, Any] = {
            "operation": "download",
            "transfers": ["basic"],
            "hash_algo": "sha256",
            "objects": [{"oid": one.oid, "size": one.size} for one in part],
        }
        answer = client.request(
            "POST",
            f"{base}/info/lfs/objects/batch",
            headers={"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE, **self._authorization},
            content=msgspec.json.encode(body),
            limit=limits.JSON_BODY_BYTES,
            repeat=True,
        )
        if answer.status != 200:
            raise NetworkError(
                f"{url} gives no large files: it answered {answer.status}",
                next_step="Check the `credential` of the [[source]], and whether the server has Git LFS turned on.",
                code=FAILED,
            )
        try:
            found = msgspec.json.decode(answer.body, type=_Batch)
        except (ValueError, RecursionError) as error:
            raise NetworkError(
                f"{url} gives no answer of Git LFS", next_step="See what its proxy says.", code=FAILED
            ) from error
        if found.transfer not in {"", "basic"}:
            raise NetworkError(
                f"{url} gives large files in another way than `basic`",
                next_step="Turn on basic transfers at the server.",
                code=FAILED,
            )
        return {one.oid: one for one in found.objects}

    def _download(self, client: Client, one: Pointer, told: _Object | None, store: Path) -> None:
        action = (told.actions or {}).get("download") if told is not None else None
        if told is None or action is None:
            code = told.error.code if told is not None and told.error else 0
            raise NetworkError(
                f"{self._place.url} does not have the large file {one.path[:200]!a} ({code or 'no way to fetch it'})",
                next_step="Push it with `git lfs push --all`.",
                code=FAILED,
            )
        headers = self._headers(action, authenticated=told.authenticated)
        partial = store / f".{one.oid}.{os.urandom(6).hex()}"
        try:
            with partial.open("wb") as file:
                sink = _Hashed(file)
                client.download(action.href, sink, limit=one.size, headers=headers)
            if sink.hash.hexdigest() != one.oid:
                raise IntegrityError(
                    f"the large file {one.path[:200]!a} is not the one that the commit names",
                    next_step="Look who can change what the server of large files keeps.",
                )
            partial.replace(store / one.oid)
        finally:
            partial.unlink(missing_ok=True)

    def _headers(self, action: _Action, *, authenticated: bool) -> dict[str, str]:
        """What is sent to where a file lies: the server's own headers, and our credential to its own host only."""
        there = address.parse(action.href)
        port = "" if address.is_default(there.scheme, there.port) else f":{there.port}"
        where = f"{there.host}{port}"
        own = (there.scheme, where) == (self._place.scheme, self._place.host)
        if there.scheme != "https" and not own and not {there.host, where} & self._settings.plain_http:
            raise RefusedError(
                f"{self._place.url} sends to {address.redacted(action.href)[:200]} for a large file, without TLS",
                next_step="Have the server give https addresses, or name the host in plain_http.",
                code=FAILED,
            )
        headers = {name: value for name, value in list(action.header.items())[:_HEADERS] if _fits(name, value)}
        if own and not authenticated and "authorization" not in {name.lower() for name in headers}:
            headers |= self._authorization
        return headers


def _is_there(store: Path, one: Pointer) -> bool:
    try:
        return (store / one.oid).stat().st_size == one.size
    except FileNotFoundError:
        return False


def _fits(name: str, value: str) -> bool:
    return (
        _HEADER_NAME.fullmatch(name) is not None and value.isprintable() and len(value) <= limits.CREDENTIAL_CHARACTERS
    )


class _Hashed:
    """A file that is hashed while it is written."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - any binary file
        self._file = file
        self.hash = hashlib.sha256()

    def write(self, data: bytes, /) -> object:
        self.hash.update(data)
        return self._file.write(data)


def place_files(git: Git, folder: Path, wanted: tuple[Pointer, ...], store: Path) -> None:
    """Put the files in the place of their pointers, as checking out with Git LFS does.

    Git is told not to compare them: it has no filter that would.
    """
    for one in wanted:
        target = folder / one.path
        mode = target.stat().st_mode
        made = target.with_name(f".{os.urandom(8).hex()}")
        with (store / one.oid).open("rb") as given, made.open("xb") as file:
            shutil.copyfileobj(given, file, 1 << 20)
        made.chmod(mode & 0o777)
        made.replace(target)
    asked = "".join(f"{one.path}\0" for one in wanted).encode()
    git.ask(folder, "update-index", "--assume-unchanged", "-z", "--stdin", given=asked)
