"""Who asks: found out once for every request, before anything answers it.

1. Credentials: an `Authorization` header (API token, CI job's own token; as `Bearer`, or as the password of `Basic`,
   as registry clients send them), else the cookie of a session. Wrong ones are 401, never nobody.
2. Rate: so many requests a second for each identity, and for each address of those without one; else 429.
3. A request that changes something and comes with a cookie must come from a page of ours.
4. Whoever still has a one-time password can choose another one, and nothing else.

What comes out lies in the request's state: `identity` and `session`, and `again`, which finds out once more. Routes say
what they need with `needs`.
"""

import base64
import binascii
import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from tidewaiter.access import passes, sessions, tokens
from tidewaiter.access.identity import ANONYMOUS_VIEWER, NOBODY, Identity
from tidewaiter.access.jobs import Jobs
from tidewaiter.access.passes import Credential, Passes
from tidewaiter.access.rates import Requests, subscriber
from tidewaiter.access.roles import Permission
from tidewaiter.access.sessions import Session
from tidewaiter.catalog.versions import Version
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import RefusedError, TidewaiterError, UnauthenticatedError
from tidewaiter.core.settings import Settings
from tidewaiter.gate import refusals
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.request import challenge
from tidewaiter.web import pages, problems
from tidewaiter.web.lately import Fresh, Lately
from tidewaiter.web.origin import Origin
from tidewaiter.web.problems import HttpError
from tidewaiter.web.source import Source

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOGIN = "/login"
LOGOUT = "/logout"
PASSWORD = "/account/password"  # noqa: S105  # an address
_NO_NAME = "Basic Og=="
"""No name and no password: so skopeo, podman and buildah say that they have none."""
_OPEN = ("/healthz", "/readyz", "/static/")
"""Nobody is asked who he is there."""


class _Who(NamedTuple):
    identity: Identity
    session: Session | None = None
    credential: Credential | None = None
    """Of an API token, a job or a registry client's pass."""


class Identify:
    """ASGI middleware; `anonymous`: whether those who do not say who they are may read."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        source: Source,
        jobs: Jobs,
        passes: Passes,
        *,
        anonymous: bool,
        fresh: Fresh,
    ) -> None:
        self._app = app
        self._fresh = fresh
        self._lately: Lately[_Who] = Lately()
        self._passes = passes
        self._jobs = jobs
        self._source = source
        self._nobody = ANONYMOUS_VIEWER if anonymous else NOBODY
        self._origin = Origin(settings.access)
        rate = settings.access.requests_per_second
        self._requests = Requests(rate)
        self._registry_requests = Requests(rate * limits.GATE_REQUESTS_FACTOR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["identity"], state["session"] = self._nobody, None
        request = Request(scope)
        state["again"] = lambda: self._who(request).identity
        if not request.url.path.startswith(_OPEN):
            try:
                # The version before any look, so that nothing that is remembered is newer than it says.
                asked = self._fresh.immediate or is_registry(request)
                state["version"] = await self._fresh() if asked else None
                who = await self._found_out(request, state["version"])
            except TidewaiterError as error:
                await refused(request, error, self._origin)(scope, receive, send)
                return
            state["identity"], state["session"] = who.identity, who.session
            if is_registry(request):
                state["origin"] = self._origin.of(request)
                if who.credential is not None:
                    state["token"], state["access"] = who.credential.token, who.credential.access
        await self._app(scope, receive, send)

    async def _found_out(self, request: Request, version: Version | None) -> _Who:
        # 1
        try:
            who = self._known(request, version)
            if who is None:
                who = await run_in_threadpool(self._looked_up, request, version)
        except TidewaiterError:
            self._count(request, subscriber(self._origin.address(request)))
            raise
        # 2
        known = who.identity.kind != "anonymous"
        name = f"{who.identity.kind} {who.identity.name}" if known else subscriber(self._origin.address(request))
        self._count(request, name)
        if who.session is not None:
            # 3
            if request.method not in SAFE_METHODS:
                self._origin.require_ours(request)
            # 4
            if who.session.must_change and request.url.path not in {PASSWORD, LOGOUT, LOGIN}:
                raise MustChangeError
        return who

    def _count(self, request: Request, who: str) -> None:
        wait = (self._registry_requests if is_registry(request) else self._requests).take(who)
        if wait:
            raise HttpError(
                429,
                "too many requests in a short time",
                next_step=f"Ask again in {math.ceil(wait)} s, and less often.",
                code="too_many",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    def _known(self, request: Request, version: Version | None) -> _Who | None:
        """Who comes, where that needs no look into the catalog: nobody, or whose token was looked up a moment ago."""
        given = request.headers.getlist("authorization")
        if not given:
            return None if "cookie" in request.headers else _Who(self._nobody)
        found = self._lately.get(_secret_of(request, given[0]), version) if len(given) == 1 else None
        ends_at = None if found is None else found.identity.ends_at
        return found if ends_at is None or ends_at > clock.now() else None

    def _looked_up(self, request: Request, version: Version | None) -> _Who:
        who = self._who(request)
        given = request.headers.getlist("authorization")
        # A CI job's own token has an end of its own; and of two headers only one says who came.
        if who.credential is not None and who.credential.token and len(given) == 1:
            self._lately.put(_secret_of(request, given[0]), version, who)
        return who

    def _who(self, request: Request) -> _Who:
        given = [one for one in request.headers.getlist("authorization") if one != _NO_NAME]
        if given:
            if len(given) > 1 or len(given[0]) > limits.CREDENTIAL_CHARACTERS:
                raise UnauthenticatedError(
                    "the header Authorization is there more than once, or too long",
                    next_step="Send one, with one token.",
                )
            credential = self._of_secret(request, _secret(given[0]))
            return _Who(credential.identity, credential=credential)
        cookie = request.cookies.get(self._origin.session_cookie)
        if cookie is None:
            return _Who(self._nobody)
        session = sessions.find(self._source.catalog, cookie)
        if session is not None:
            return _Who(session.identity, session)
        if request.url.path in {LOGIN, LOGOUT} or request.url.path.startswith(f"{LOGIN}/"):
            return _Who(self._nobody)
        raise UnauthenticatedError("this session is over", next_step="Log in again.")

    def _of_secret(self, request: Request, secret: str) -> Credential:
        # A job's token has two dots, a pass has one, an API token none.
        if secret.count(".") == 2:
            return Credential(self._jobs.identify(secret))
        if secret.startswith(passes.PREFIX) and is_registry(request):
            return self._passes.read(self._source.catalog, secret, self._nobody)
        return Credential(tokens.identify(self._source.catalog, secret), tokens.hashed(secret))


def _secret_of(request: Request, header: str) -> str:
    """What tells who came: a registry client's pass is one before the registry only."""
    return f"{'registry' if is_registry(request) else 'web'} {header}"


class MustChangeError(RefusedError):
    """It has a one-time password still."""

    def __init__(self) -> None:
        super().__init__(
            "a one-time password is good for choosing another one only",
            next_step=f"Choose a password of your own at {PASSWORD}.",
            code="forbidden",
        )


def _secret(header: str) -> str:
    """The token in an `Authorization` header."""
    scheme, _, rest = header.partition(" ")
    rest = rest.strip(" ")
    if scheme.lower() == "bearer" and rest:
        return rest
    if scheme.lower() == "basic":
        try:
            _, colon, secret = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):  # no base64, no UTF-8
            colon, secret = "", ""
        if colon and secret:
            return secret
    raise UnauthenticatedError(
        "the header Authorization holds no token",
        next_step="Send Authorization: Bearer TOKEN, or Basic with the token in the place of the password.",
    )


def needs(permission: Permission, *, in_project: bool = False) -> Callable[[Request], Awaitable[Identity]]:
    """A dependency: who asks, when it may.

    Args:
        permission: what the route needs, everywhere (`catalog.read`: anywhere).
        in_project: to have it in any project lets the request in; the route then asks `identity.require` with the
            project, once it knows it.

    Raises:
        UnauthenticatedError: nobody said who asks.
        RefusedError: it may not.
    """

    async def dependency(request: Request) -> Identity:
        identity: Identity = request.state.identity
        if in_project:
            if not identity.may_somewhere(permission):
                raise identity.refusal(permission, "in any project")
        else:
            identity.require(permission)
        return identity

    return dependency


def login_address(request: Request) -> str:
    """Address of the login page, which then leads on to where `request` wanted to go."""
    if request.method not in {"GET", "HEAD"}:
        return LOGIN
    wanted = urlsplit(str(request.url))
    path = f"{wanted.path}?{wanted.query}" if wanted.query else wanted.path
    return LOGIN if path == "/" or len(path) > limits.FORM_NEXT_CHARACTERS else f"{LOGIN}?{urlencode({'next': path})}"


def refused(request: Request, error: TidewaiterError, origin: Origin) -> Response:
    """The answer to a request that does not get through: where a person can mend that, the way there."""
    if pages.is_page(request) and isinstance(error, MustChangeError):
        return RedirectResponse(PASSWORD, status_code=303)
    if is_registry(request):
        return _of_registry(request, error, origin)
    if not isinstance(error, UnauthenticatedError):
        return pages.refusal(request, error)
    answer = unauthenticated(request, error)
    if answer.status_code == 303:
        origin.forget(answer, origin.session_cookie)
    return answer


def is_registry(request: Request) -> bool:
    """Whether a registry client asks."""
    return request.url.path == "/v2" or request.url.path.startswith("/v2/")


def _of_registry(request: Request, error: TidewaiterError, origin: Origin) -> Response:
    """As registry clients read it."""
    found = refusals.of(error)
    headers = dict(error.headers) if isinstance(error, HttpError) else {}
    if isinstance(error, UnauthenticatedError):
        raw = (request.scope.get("raw_path") or b"").removeprefix(b"/v2")
        headers["WWW-Authenticate"] = challenge(origin.of(request), raw, request.method)
        found = RefusalError("UNAUTHORIZED", f"{error.message}. {error.next_step}")
    elif isinstance(error, HttpError) and error.status == 429:
        found = RefusalError("TOOMANYREQUESTS", f"{error.message}. {error.next_step}")
    return Response(found.body(), found.status, found.headers | headers, "application/json")


def unauthenticated(request: Request, error: TidewaiterError) -> Response:
    """A person is led to the login; a program gets 401, with the way in which clients of its kind say who they are."""
    if pages.is_page(request) and "authorization" not in request.headers:
        return RedirectResponse(login_address(request), status_code=303)
    headers = {"WWW-Authenticate": 'Bearer realm="tidewaiter"'}
    return problems.response(401, error.code, error.message, error.next_step, headers)
