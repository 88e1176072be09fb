"""Logging in with an OIDC provider: authorization code with PKCE (OpenID Connect Core 1.0, 3.1; RFC 9700).

1. The browser gets a secret, and goes to the provider with three things computed from it: `state`, `nonce`, and the
   challenge of PKCE.
2. It comes back with a code. Only the browser that has the secret can bring it: `state` says so.
3. This server exchanges the code, with the verifier of PKCE, for an ID token.
4. The token is the provider's, for this client, and of this login: `nonce` says so.
5. Who it names is known by issuer and subject; a name alone makes nobody somebody else.
"""

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from tidewaiter.access import jwt, roles, sessions, users
from tidewaiter.access.issuers import Issuers
from tidewaiter.catalog.access import users as rows
from tidewaiter.catalog.access.users import User
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NetworkError, RefusedError, UnauthenticatedError
from tidewaiter.core.settings.access import AccessSettings
from tidewaiter.signing import strict_json

Post = Callable[[str, bytes, Mapping[str, str]], tuple[int, bytes]]
"""Status and body of the answer to a form with these headers; raises `TidewaiterError`."""
BACK = "/login/oidc/back"
"""Where the provider sends the browser."""
_LOG = logging.getLogger("tidewaiter.access")


class Person(NamedTuple):
    """Who logged in at the provider."""

    issuer: str
    subject: str
    name: str
    """As its claims suggest."""
    groups: tuple[str, ...]


class Provider:
    """The OIDC provider of the settings. Raises `InputError` when the settings give it roles that there are not."""

    def __init__(self, settings: AccessSettings, issuers: Issuers, post: Post, secret: str) -> None:
        self.issuer = issuers.require_secure(settings.oidc_issuer)
        self._settings = settings
        self._issuers = issuers
        self._post = post
        self._secret = secret
        for table in settings.oidc_groups:
            roles.role(table.role)
            roles.project(table.project)

    def begin(self, secret: str, origin: str) -> str:
        """1. Where the browser that keeps `secret` goes. Raises `UndeterminedError`."""
        challenge = hashlib.sha256(_verifier(secret).encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": origin + BACK,
            "scope": self._settings.oidc_scopes,
            "state": sessions.derived(secret, "state"),
            "nonce": sessions.derived(secret, "nonce"),
            "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        endpoint = self._endpoint("authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def finish(self, secret: str, origin: str, given: Mapping[str, str]) -> Person:
        """2 to 4. Who logged in, from what the browser that keeps `secret` brought back.

        Raises:
            UnauthenticatedError: it is of another login, or its token does not hold.
            RefusedError: the provider let nobody in.
            UndeterminedError: the provider cannot be asked.
        """
        # 2
        state = given.get("state", "")
        if not secret or not sessions.same(state, sessions.derived(secret, "state")):
            raise UnauthenticatedError("this answer is of another login", next_step="Log in again.")
        if given.get("iss", self.issuer) != self.issuer:  # RFC 9207
            raise UnauthenticatedError("this answer is of another provider", next_step="Log in again.")
        if "error" in given:
            raise RefusedError(
                f"{self.issuer} says {given['error'][:60]!a}: {given.get('error_description', '')[:200]}",
                next_step="Log in again, or ask who runs it.",
            )
        # 3
        token = self._exchanged(given.get("code", ""), secret, origin)
        # 4
        claims = jwt.verified(token, {self.issuer: (self._settings.oidc_client_id,)}, self._issuers)
        if not sessions.same(str(claims.get("nonce", "")), sessions.derived(secret, "nonce")):
            raise UnauthenticatedError("this token is of another login", next_step="Log in again.")
        if isinstance(claims["aud"], list) and claims.get("azp", self._settings.oidc_client_id) != (
            self._settings.oidc_client_id
        ):
            raise UnauthenticatedError("this token was given to another client", next_step="Log in again.")
        return self._person(claims)

    def _endpoint(self, name: str) -> str:
        address = str(self._issuers.discovery(self.issuer).get(name, ""))
        try:
            return self._issuers.require_secure(address)
        except InputError as error:
            raise NetworkError(
                f"{self.issuer} names no {name} that can be trusted", next_step="Ask who runs it."
            ) from error

    def _exchanged(self, code: str, secret: str, origin: str) -> str:
        client = self._settings.oidc_client_id
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": origin + BACK,
            "code_verifier": _verifier(secret),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._secret:
            pair = f"{quote(client, safe='')}:{quote(self._secret, safe='')}"  # RFC 6749, 2.3.1
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = client
        status, body = self._post(self._endpoint("token_endpoint"), urlencode(form).encode(), headers)
        try:
            answer = strict_json.loads(body, limit=limits.ISSUER_BYTES)
        except InputError:
            answer = {}
        if status in {400, 401}:
            raise UnauthenticatedError(
                f"{self.issuer} takes this login for none: {str(answer.get('error', status))[:60]!a}",
                next_step="Log in again; if it happens again, compare client id and secret with what it has.",
            )
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            raise NetworkError(f"{self.issuer} answered {status} without a token", next_step="Log in again.")
        return token

    def _person(self, claims: Mapping[str, Any]) -> Person:
        subject, name = claims.get("sub"), claims.get(self._settings.oidc_name_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise UnauthenticatedError("this token names nobody", next_step="Ask who runs the provider.")
        if not isinstance(name, str) or (
            self._settings.oidc_name_claim == "email" and not claims.get("email_verified")
        ):
            raise UnauthenticatedError(
                f"this token has no {self._settings.oidc_name_claim} that can be relied on",
                next_step="Set oidc_name_claim, or oidc_scopes, so that the provider says a name.",
            )
        groups = claims.get(self._settings.oidc_groups_claim, [])
        listed = groups if isinstance(groups, list) else [groups]
        return Person(self.issuer, subject, name.lower(), tuple(one for one in listed if isinstance(one, str)))

    def admit(self, catalog: Catalog, person: Person) -> User:
        """5. The user that this is, added when it comes for the first time; its groups' roles as they are now.

        Raises:
            UnauthenticatedError: it is disabled.
            InputError: its name cannot be one here.
            RefusedError: its name is somebody else's.
        """
        at = clock.now()
        given: dict[str, set[str]] = {}
        for table in self._settings.oidc_groups:
            if table.group in person.groups:
                given.setdefault(table.project, set()).add(table.role)
        with catalog.database.writing() as connection:
            user = rows.of_provider(connection, person.issuer, person.subject)
            if user is None:
                name = users.name(person.name)
                user = rows.add(connection, name, at, issuer=person.issuer, subject=person.subject, actor=name)
            if user.disabled_at is not None:
                _LOG.warning("login failed: %s is disabled", user.name)
                raise UnauthenticatedError("this user is disabled", next_step="Ask an administrator.")
            rows.set_group_roles(connection, user, given, at)
            return rows.require(connection, user.name)


def _verifier(secret: str) -> str:
    return sessions.derived(secret, "verifier")


def client_secret(settings: AccessSettings) -> str:
    """The secret of this client; empty when it has none. Raises `InputError` when its file cannot be read."""
    if settings.oidc_client_secret or settings.oidc_client_secret_file is None:
        return settings.oidc_client_secret
    try:
        with settings.oidc_client_secret_file.open(encoding="utf-8") as file:
            return re.sub(r"\r?\n\Z", "", file.read(limits.FORM_BYTES))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the file of oidc_client_secret_file cannot be read: {error}", next_step="Mend it, or the setting."
        ) from error
