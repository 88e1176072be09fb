"""Who we are to a registry: Basic, or a bearer token fetched where the registry says (Docker's token protocol).

A token is kept until it expires, for its scope and for every smaller one. A scope is what the protocol calls so,
`repository:NAME:ACTION,ACTION`; several are separated by spaces.
"""

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NetworkError
from tidewaiter.distribution.credentials import Credential, Credentials
from tidewaiter.transport import address
from tidewaiter.transport.client import Client, Response

if TYPE_CHECKING:
    from tidewaiter.distribution.challenge import Challenge


class _Answer(msgspec.Struct, frozen=True):
    token: str | None = None
    access_token: str | None = None
    expires_in: int | float | None = None


class _Token(msgspec.Struct, frozen=True):
    header: str
    until: float
    """Monotonic seconds."""


def _actions(scope: str) -> dict[str, set[str]]:
    """`{"repository:a/b": {"pull", "push"}}` of a scope."""
    found: dict[str, set[str]] = {}
    for part in scope.split():
        resource, _, actions = part.rpartition(":")
        found.setdefault(resource, set()).update(actions.split(","))
    return found


def covers(have: str, want: str) -> bool:
    """Whether a token for the scope `have` does for `want`."""
    granted = _actions(have)
    return all(actions <= granted.get(resource, set()) for resource, actions in _actions(want).items())


def widened(scope: str, asked: str) -> str:
    """`scope` with what the registry `asked` for beyond it, but of no other resource."""
    wanted, more = _actions(scope), _actions(asked)
    return " ".join(
        ":".join((resource, ",".join(sorted(actions | more.get(resource, set())))))
        for resource, actions in wanted.items()
    )


class Authorizer:
    """The `Authorization` headers that one registry accepts. Safe from many threads."""

    def __init__(self, client: Client, host: str, credentials: Credentials, plain_http: frozenset[str]) -> None:
        self._client = client
        self._host = host
        self._credentials = credentials
        self._plain_http = plain_http
        self._challenge: Challenge | None = None
        self._basic: str | None = None
        self._tokens: dict[str, _Token] = {}
        self._wider: dict[str, str] = {}
        self._lock = threading.Lock()

    def header(self, scope: str) -> Mapping[str, str]:
        """Headers to send with a request that needs `scope`; empty before any challenge.

        Raises:
            NetworkError: an expired token could not be renewed.
        """
        if self._basic is not None:
            return {"Authorization": self._basic}
        if self._challenge is None:
            return {}
        with self._lock:
            return {"Authorization": self._token(scope) or self._fetch(scope, self._challenge)}

    def answer(self, scope: str, challenge: "Challenge", refused: str | None) -> Mapping[str, str] | None:
        """Headers that answer `challenge`; None when there are none better than the `refused` header value.

        Raises:
            NetworkError: the token service could not be asked or refused.
            UndeterminedError: a credential helper failed.
        """
        with self._lock:
            if challenge.scheme == "basic":
                credential = self._credential()
                if credential is None or not credential.username or refused == credential.basic:
                    return None
                self._basic = credential.basic
                return {"Authorization": self._basic}
            known = self._token(scope)
            if known is not None and known != refused:
                return {"Authorization": known}  # another thread has just answered the same challenge
            self._basic, self._challenge = None, challenge
            self._tokens = {key: token for key, token in self._tokens.items() if token.header != refused}
            self._wider[scope] = widened(scope, challenge.parameters.get("scope", ""))
            value = self._fetch(scope, challenge)
            return {"Authorization": value} if value != refused else None

    def _credential(self) -> Credential | None:
        return self._credentials.get(self._host.lower())

    def _token(self, scope: str) -> str | None:
        now = time.monotonic()
        wanted = self._wider.get(scope, scope)
        fitting = (t.header for have, t in self._tokens.items() if t.until > now and covers(have, wanted))
        return next(fitting, None)

    def _fetch(self, scope: str, challenge: "Challenge") -> str:
        credential = self._credential()
        if credential is not None and credential.registry_token:
            return f"Bearer {credential.registry_token}"
        wanted = self._wider.get(scope, scope)
        realm = self._realm(challenge)
        start = time.monotonic()
        response = self._ask(realm, wanted, challenge.parameters.get("service", ""), credential)
        if response.status != 200:
            raise self._refused(realm, response.status, credential)
        try:
            answer = msgspec.json.decode(response.body, type=_Answer)
        except (ValueError, RecursionError) as error:
            raise NetworkError(
                f"{address.redacted(realm)} answered something that is not a token",
                next_step="Check the registry's token service.",
            ) from error
        token = answer.token or answer.access_token or ""
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise NetworkError(
                f"{address.redacted(realm)} answered an unusable token", next_step="Check the registry's token service."
            )
        seconds = answer.expires_in if answer.expires_in and answer.expires_in > 0 else limits.TOKEN_SECONDS
        # A request that is sent in the last moment arrives too late.
        self._tokens[wanted] = _Token(f"Bearer {token}", start + seconds - min(seconds / 10, 10.0))
        return f"Bearer {token}"

    def _ask(self, realm: str, scope: str, service: str, credential: Credential | None) -> Response:
        pairs = [*([("service", service)] if service else []), *(("scope", part) for part in scope.split())]
        if credential is not None and credential.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credential.identity_token,
                "client_id": "tidewaiter",
                "scope": scope,
                "service": service,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode()
            return self._client.request(
                "POST", realm, headers=headers, content=body, limit=limits.TOKEN_BYTES, repeat=True
            )
        url = realm + ("&" if urlsplit(realm).query else "?") + urlencode(pairs) if pairs else realm
        headers = {"Authorization": credential.basic} if credential and credential.username else {}
        return self._client.request("GET", url, headers=headers, limit=limits.TOKEN_BYTES)

    def _refused(self, realm: str, status: int, credential: Credential | None) -> NetworkError:
        said = f"{address.redacted(realm)} gives no token for {self._host}: it answered {status}"
        if status >= 500 or status == 429:
            return NetworkError(said, next_step="Try again later; the registry's token service has a problem.")
        known = "The stored login is not accepted" if credential else "Nobody is logged in there"
        return NetworkError(
            said,
            next_step=f"{known}: use `docker login {self._host}` and check the account's rights; "
            "trying again alone does not help.",
            code="registry_unauthorized",
        )

    def _realm(self, challenge: "Challenge") -> str:
        """Where to ask: https, or a host that the user has allowed to be spoken to without TLS."""
        realm = challenge.parameters.get("realm", "")
        try:
            address.check(realm)
        except InputError as error:
            raise NetworkError(
                f"{self._host} asks for a token but names no token service",
                next_step="Check the registry's configuration.",
            ) from error
        parts = urlsplit(realm)
        if parts.scheme == "http" and parts.netloc.lower() not in self._plain_http:
            raise NetworkError(
                f"{self._host} wants the password sent without TLS to {address.redacted(realm)}",
                next_step="Have the token service use https, or name its host in TIDEWAITER_PLAIN_HTTP.",
                code="insecure_redirect",
            )
        return realm
