"""Commands that speak to a server, when the setting `server` names one.

What the server says counts: its answers are the types that the home gives, printed by the same code. Whatever is no
answer of a tidewaiter server (unreachable, a page of a proxy, another host, a document that lacks something) means
"could not find out", never a yes. A change is sent with an `Idempotency-Key`, so that sending it again when no answer
came does not make it twice.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from tidewaiter.cli import remote_token
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import (
    DeadlineError,
    InputError,
    LimitError,
    NotFoundError,
    RefusedError,
    TidewaiterError,
    UnauthenticatedError,
    UndeterminedError,
)
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.transport import address
from tidewaiter.transport.answers import Response
from tidewaiter.transport.client import Client

_API = "/api/v1"
_PROBLEM = "application/problem+json"
_UNDER_WAY = "idempotency_key_in_use"
_UNKNOWN_TO_SERVER = frozenset({"advisory_unknown", "audit_key_missing"})
"""Codes of a 404 that mean: the server could not find out."""
_REFUSALS = frozenset({"run_ended", "run_not_ended"})
"""Codes of a conflict that mean: no, and nothing has to be looked at again."""
_PROBLEM_CHARACTERS = 4000

Answer = TypeVar("Answer")
Value = str | int | float | bool
Query = Mapping[str, Value]


class _Problem(msgspec.Struct, frozen=True):
    """What is read of a problem document (RFC 9457)."""

    detail: str
    code: str
    next: str = ""


class _Part(msgspec.Struct, frozen=True):
    """A part of a list. `next` must be there: a list that does not say whether it goes on may be cut."""

    items: tuple[msgspec.Raw, ...]
    next: str | None
    unknown: tuple[str, ...] = ()
    not_inspected: int | None = None


class Listed(msgspec.Struct, Generic[Answer], frozen=True):
    """Items of a list."""

    items: tuple[Answer, ...]
    next: str
    """How to go on after them; empty at the end."""
    unknown: tuple[str, ...]
    """What of a day is not known, in words."""
    not_inspected: int | None
    """Images of which nothing is known, where the server says that."""


class _Job(msgspec.Struct, frozen=True):
    id: str
    state: Literal["running", "done", "failed", "lost"]
    answer: msgspec.Raw = msgspec.Raw(b"null")


class _Failure(msgspec.Struct, frozen=True):
    code: str
    message: str
    next: str = ""


class _Resolved(msgspec.Struct, frozen=True):
    digest: str


class Server:
    """The server's API, as whoever has the token."""

    def __init__(self, client: Client, loaded: Settings, token: remote_token.Token) -> None:
        self.address = loaded.server
        self._client = client
        self._token = token

    def get(self, path: str, kind: type[Answer], query: Query | None = None) -> Answer:
        """What the server answers about `path` below the API; what is left empty in `query` is not sent.

        Raises:
            RefusedError: it says no: `UnauthenticatedError` when it does not know who asks.
            InputError: it cannot accept the question; `NotFoundError` when there is no such thing.
            UndeterminedError: it gave no answer that can be used.
        """
        return self._decoded(self._asked("GET", path, query or {}), kind)

    def text(self, path: str, query: Query) -> Response:
        """As `get`, of what is no JSON: text, and what its headers say of it."""
        response = self._asked("GET", path, query, accept="text/plain")
        if not response.headers.get("content-type", "").startswith("text/plain"):
            raise self.unusable(f"{response.headers.get('content-type', 'something without a type')[:60]!a}")
        return response

    def listing(
        self, path: str, kind: type[Answer], query: Query | None = None, *, rows: int | None = None, after: str = ""
    ) -> Listed[Answer]:
        """All items of a list, or the first `rows`, and the first part's other fields; errors as `get`."""
        items: list[Answer] = []
        unknown: dict[str, None] = {}
        seen = set[str]()
        while True:
            left = limits.API_PAGE_ITEMS if rows is None else min(rows - len(items), limits.API_PAGE_ITEMS)
            response = self._asked("GET", path, {**(query or {}), "limit": left, "after": after})
            part = self._decoded(response, _Part)
            items += [self._converted(raw, kind) for raw in part.items]
            unknown |= dict.fromkeys(part.unknown)
            if part.next is None or (rows is not None and len(items) >= rows):
                return Listed(tuple(items), part.next or "", tuple(unknown), part.not_inspected)
            if part.next in seen or not part.items or len(items) > limits.REMOTE_ITEMS:
                raise self.unusable("a list that does not end")
            seen.add(part.next)
            after = part.next

    def digest_of(self, image: str) -> Digest:
        """The digest that `image` names: itself, NAME@DIGEST, or what a tag means to the server. Errors as `get`."""
        named = image.rpartition("@")[2]
        if named.startswith(("sha256:", "sha512:")):
            return digests.parse(named)
        return digests.parse(self.get("/resolve", _Resolved, {"name": image}).digest)

    def change(self, method: str, path: str, body: object, kind: type[Answer], *, patient: bool = False) -> Answer:
        """What the server answers to a change; sent again as the same change when no answer came. Errors as `get`."""
        return self._decoded(self._asked(method, path, {}, body=body, patient=patient), kind)

    def remove(self, path: str) -> None:
        """Have the server forget what stands at `path`. Errors as `get`."""
        self._asked("DELETE", path, {})

    def work(self, path: str, body: object, kind: type[Answer]) -> Answer:
        """What comes of work that the server is asked for, once it is done; asked for again when a stop lost it.

        Errors as `get`; `UndeterminedError` also when the work failed, is not done in time, or is lost again and again.
        """
        until = time.monotonic() + limits.REMOTE_JOB_SECONDS
        for _ in range(limits.REMOTE_JOB_TIMES):
            job = self._ended(self.change("POST", path, body, _Job, patient=True), until)
            if job.state != "lost":
                break
        if job.state == "done":
            return self._converted(job.answer, kind)
        if job.state == "failed":
            why = self._converted(job.answer, _Failure)
            message, step = why.message[:_PROBLEM_CHARACTERS], why.next[:_PROBLEM_CHARACTERS]
            raise UndeterminedError(message, next_step=step or f"Ask whoever runs {self.address}.", code=why.code[:100])
        raise UndeterminedError(
            f"{self.address} lost the work {limits.REMOTE_JOB_TIMES} times: it was stopped meanwhile",
            next_step="Run the same command again.",
        )

    def _ended(self, job: _Job, until: float) -> _Job:
        """The job when it no longer runs; raises `DeadlineError` at `until`."""
        pause = 0.5
        while job.state == "running":
            if time.monotonic() > until:
                raise DeadlineError(
                    f"{self.address} is still at it after {limits.REMOTE_JOB_SECONDS} seconds",
                    next_step=f"Ask again later: the work is the job {job.id[:100]}.",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)
            job = self.get(f"/jobs/{part(job.id)}", _Job)
        return job

    # One exchange

    def _asked(
        self,
        method: str,
        path: str,
        query: Query,
        *,
        body: object = None,
        patient: bool = False,
        accept: str = "application/json",
    ) -> Response:
        url = f"{self.address}{_API}{path}"
        if given := {name: _word(value) for name, value in query.items() if value not in {"", False}}:
            url += f"?{urlencode(given)}"
        headers = {"Authorization": self._token.header, "Accept": f"{accept}, {_PROBLEM}"}
        content = None
        if method != "GET":
            headers |= {"Idempotency-Key": secrets.token_hex(16)}
        if body is not None:
            headers |= {"Content-Type": "application/json"}
            content = msgspec.json.encode(body)
        until = time.monotonic() + limits.REMOTE_CHANGE_SECONDS
        while True:
            try:
                response = self._client.request(
                    method,
                    url,
                    headers=headers,
                    content=content,
                    limit=limits.REMOTE_ANSWER_BYTES,
                    repeat=True,
                    patient=patient,
                )
            except LimitError as error:
                raise self.unusable(f"more than {limits.REMOTE_ANSWER_BYTES} bytes") from error
            if address.origin(response.url) != address.origin(self.address):
                raise self.unusable("a redirect to another host, which gets no token and is not believed")
            if 200 <= response.status < 300:
                return response
            problem = self._error(response)
            if response.status != 409 or problem.code != _UNDER_WAY or time.monotonic() > until:
                raise problem
            time.sleep(1)  # the first try is still at it

    def _decoded(self, response: Response, kind: type[Answer]) -> Answer:
        if not response.headers.get("content-type", "").startswith("application/json"):
            raise self.unusable(f"{response.headers.get('content-type', 'something without a type')[:60]!a}")
        return self._converted(response.body, kind)

    def _converted(self, data: bytes | msgspec.Raw, kind: type[Answer]) -> Answer:
        try:
            return msgspec.json.decode(data, type=kind)
        except (ValueError, RecursionError) as error:
            raise self.unusable(f"a document that is not understood here ({error})") from error

    def _error(self, response: Response) -> TidewaiterError:
        """What a status of 300 or more means."""
        status = response.status
        problem = None
        if response.headers.get("content-type", "").startswith(_PROBLEM):
            try:
                problem = msgspec.json.decode(response.body, type=_Problem)
            except (ValueError, RecursionError):
                problem = None
        if problem is None:
            return self.unusable(f"{status}, and not in the way of a tidewaiter server")
        kind = _kind(status, problem.code)
        message, step = problem.detail[:_PROBLEM_CHARACTERS], problem.next[:_PROBLEM_CHARACTERS]
        if kind is UnauthenticatedError:
            step = step or "Get a new token: it may be over, or revoked."
        return kind(message, next_step=step or f"Ask whoever runs {self.address}.", code=problem.code[:100])

    def unusable(self, what: str) -> UndeterminedError:
        """The error for an answer that is none of a tidewaiter server."""
        return UndeterminedError(
            f"{self.address} answered with {what}",
            next_step="Check the setting `server` (TIDEWAITER_SERVER), what stands between, and that the releases of "
            "both fit; nothing was decided.",
            code="server_unusable",
        )


def _kind(status: int, code: str) -> type[TidewaiterError]:
    if status == 401:
        return UnauthenticatedError
    if status == 403 or code in _REFUSALS:
        return RefusedError
    if status == 404:
        return UndeterminedError if code in _UNKNOWN_TO_SERVER else NotFoundError
    if 400 <= status < 500 and status not in {408, 425, 429}:
        return InputError
    return UndeterminedError


def _word(value: Value) -> str:
    return "true" if value is True else str(value)


def not_through(what: str) -> InputError:
    """The error of what cannot be done through the server, and must not be done to the home in its place."""
    return InputError(
        f"{what} does not go through the server that the settings name",
        next_step="Run it on the server; or unset TIDEWAITER_SERVER to work on the home of this machine.",
        code="not_through_server",
    )


def part(text: str) -> str:
    """`text` as one part of a path."""
    return quote(text, safe="")


@contextmanager
def opened(loaded: Settings | None = None) -> Iterator[Server | None]:
    """The server that the settings name; None when they name none, and the home is to be asked.

    Raises:
        InputError: there is no token for it; or its address is without TLS, and neither this machine's nor one that
            `plain_http` names.
    """
    loaded = loaded or settings.load()
    if not loaded.server:
        yield None
        return
    _require_private(loaded)
    from tidewaiter.pipelines import connecting

    with connecting.client(loaded) as client:
        yield Server(client, loaded, remote_token.find(client, loaded))


def _require_private(loaded: Settings) -> None:
    where = address.parse(loaded.server)
    named = {where.host, f"{where.host}:{where.port}"} & loaded.plain_http
    if where.scheme == "http" and not named and not address.is_loopback(where.host):
        raise InputError(
            f"{loaded.server} is not spoken to without TLS: a token would be sent for all to read",
            next_step="Write https://, or name the host in `plain_http` if nobody else can listen.",
        )
