"""Logging in with the OIDC provider of the settings; and what asks issuers of tokens for their keys."""

from collections.abc import Mapping
from contextlib import ExitStack
from threading import Lock

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from tidewaiter.access import oidc, sessions
from tidewaiter.access.issuers import Issuers
from tidewaiter.access.jobs import Jobs
from tidewaiter.access.oidc import Provider
from tidewaiter.core import limits
from tidewaiter.core.errors import NotFoundError, TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines import connecting
from tidewaiter.transport.client import Client
from tidewaiter.web.login import entrance, logged_in, onward, secret_of, show_login, unstored
from tidewaiter.web.source import TheSource

router = APIRouter(include_in_schema=False)

_START = "/login/oidc"
_SECONDS = 600
"""How long a login at the provider may take."""


class Elsewhere:
    """What is known outside of this server: the provider with which people log in, the issuers of CI jobs' tokens."""

    def __init__(self, settings: Settings) -> None:
        self._stack = ExitStack()
        self._lock = Lock()
        self._settings = settings
        self._client: Client | None = None
        issuers = Issuers(self._fetch, plain_http=settings.plain_http)
        access = settings.access
        self.jobs = Jobs(access.ci, issuers)
        self.provider = (
            Provider(access, issuers, self._post, oidc.client_secret(access)) if access.oidc_issuer else None
        )

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = self._stack.enter_context(connecting.client(self._settings))
            return self._client

    def _fetch(self, address: str) -> bytes:
        return self._connected().get(address, limit=limits.ISSUER_BYTES)

    def _post(self, address: str, form: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        answer = self._connected().request("POST", address, headers=headers, content=form, limit=limits.ISSUER_BYTES)
        return answer.status, answer.body

    def close(self) -> None:
        """Close its connections."""
        self._stack.close()


def _provider(request: Request) -> Provider:
    found: Elsewhere = request.app.state.elsewhere
    if found.provider is None:
        raise NotFoundError("this server knows no other place to log in", next_step="Log in with a password.")
    return found.provider


@router.api_route(_START, methods=["GET"])
def begin(request: Request) -> Response:
    """Lead to the provider. No form: where a form leads to, the content security policy has a say."""
    door = entrance(request)
    secret = sessions.new_secret()
    answer = RedirectResponse(_provider(request).begin(secret, door.origin.of(request)), status_code=303)
    target = onward(request.query_params.get("next", "/"))
    door.origin.give(answer, door.origin.provider_cookie, secret, seconds=_SECONDS)
    door.origin.give(answer, door.origin.next_cookie, target.encode().hex(), seconds=_SECONDS)
    return unstored(answer)


@router.api_route(oidc.BACK, methods=["GET"])
def back(request: Request, source: TheSource) -> Response:
    """The browser comes back from the provider."""
    door = entrance(request)
    provider = _provider(request)
    secret = secret_of(request, door.origin.provider_cookie)
    try:
        target = onward(bytes.fromhex(request.cookies.get(door.origin.next_cookie, "")).decode())
    except ValueError:
        target = "/"
    try:
        person = provider.finish(secret, door.origin.of(request), dict(request.query_params))
        user = provider.admit(source.catalog, person)
    except TidewaiterError as error:
        answer = show_login(request, target, wrong=error)
    else:
        answer = logged_in(request, source, user, target)
    door.origin.forget(answer, door.origin.provider_cookie)
    door.origin.forget(answer, door.origin.next_cookie)
    return answer
