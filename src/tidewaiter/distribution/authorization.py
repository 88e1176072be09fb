"""Who we are to a registry: Basic, or a bearer token fetched where the registry says (Docker's token protocol)."""

import re
import threading
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NetworkError
from tidewaiter.distribution.credentials import Credential
from tidewaiter.transport import address
from tidewaiter.transport.client import Client

_PARAMETER = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Challenge(msgspec.Struct, frozen=True):
    """What a registry asks for in `WWW-Authenticate`; the scheme is lower-case."""

    scheme: str
    parameters: Mapping[str, str]


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


def parse_challenge(header: str) -> Challenge | None:
    """The first Basic or Bearer challenge in `header` (RFC 9110, section 11.6.1); None when there is none."""
    match = re.search(r"\b(basic|bearer)\b", header[:4096], re.IGNORECASE)
    if match is None:
        return None
    parameters = {
        name.lower(): quoted.replace("\\", "") or plain
        for name, quoted, plain in _PARAMETER.findall(header[:4096], match.end())
    }
    return Challenge(match[1].lower(), parameters)


class Authorizer:
    """Remembers, per scope, the `Authorization` header that one registry has accepted. Safe from many threads."""

    def __init__(self, client: Client, host: str, credential: Credential | None, plain_http: frozenset[str]) -> None:
        self._client = client
        self._host = host
        self._credential = credential
        self._plain_http = plain_http
        self._headers: dict[str, str] = {}
        self._lock = threading.Lock()

    def header(self, scope: str) -> Mapping[str, str]:
        """Headers to send with a request that needs `scope`; empty before any challenge."""
        value = self._headers.get(scope)
        return {"Authorization": value} if value else {}

    def answer(self, scope: str, challenge: Challenge, refused: str | None) -> bool:
        """Prepare an answer to `challenge`; False when there is none better than the `refused` header value.

        Raises:
            NetworkError: the token service could not be asked or refused.
        """
        with self._lock:
            known = self._headers.get(scope)
            if known is not None and known != refused:
                return True  # another thread has just answered the same challenge
            if challenge.scheme == "basic":
                if self._credential is None or refused == self._credential.basic:
                    return False
                self._headers[scope] = self._credential.basic
                return True
            self._headers[scope] = self._bearer(scope, challenge)
            return True

    def _bearer(self, scope: str, challenge: Challenge) -> str:
        realm = self._realm(challenge)
        query = {"scope": scope} if scope else {}
        if service := challenge.parameters.get("service"):
            query["service"] = service
        url = realm + ("&" if urlsplit(realm).query else "?") + urlencode(query)
        headers = {"Authorization": self._credential.basic} if self._credential else {}
        response = self._client.request("GET", url, headers=headers, limit=limits.TOKEN_BYTES)
        if response.status != 200:
            raise NetworkError(
                f"{address.redacted(realm)} gives no token for {self._host}: it answered {response.status}",
                next_step=f"Log in with `docker login {self._host}` or check the account's rights.",
                code="registry_unauthorized",
            )
        try:
            answer = msgspec.json.decode(response.body, type=_Token)
        except (msgspec.DecodeError, RecursionError) as error:
            raise NetworkError(
                f"{address.redacted(realm)} answered something that is not a token",
                next_step="Check the registry's token service.",
            ) from error
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise NetworkError(
                f"{address.redacted(realm)} answered an unusable token", next_step="Check the registry's token service."
            )
        return f"Bearer {token}"

    def _realm(self, challenge: Challenge) -> str:
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
