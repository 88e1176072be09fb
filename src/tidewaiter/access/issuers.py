"""Issuers of tokens: where they say they are (discovery), and the keys with which they sign.

Both are fetched when they are first needed and kept for an hour. A key that is not among those known makes them be
fetched again, once a minute at most: whoever sends tokens of made-up keys does not set the pace.
"""

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, RSAKey, import_key

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NetworkError, UnauthenticatedError
from tidewaiter.signing import strict_json

Fetch = Callable[[str], bytes]
"""The bytes at an address; raises `TidewaiterError`."""
ALGORITHMS: Mapping[str, type[Key]] = {"RS256": RSAKey, "ES256": ECKey}
"""What a token may be signed with, and by what kind of key. Never by nothing, never by a secret that both know."""


class Issuers:
    """What is known of the issuers that settings name; `plain_http`: hosts that are spoken to without TLS."""

    def __init__(
        self, fetch: Fetch, *, plain_http: frozenset[str] = frozenset(), now: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._plain_http = plain_http
        self._now = now
        self._lock = threading.Lock()
        self._issuers: dict[str, _Issuer] = {}

    def discovery(self, issuer: str) -> Mapping[str, Any]:
        """Its discovery document (OpenID Connect Discovery 1.0, section 4).

        Raises:
            UndeterminedError: it cannot be had.
        """
        return self._known(issuer).discovery()

    def key(self, issuer: str, kid: str, algorithm: str) -> Key:
        """Its key of that name.

        Raises:
            UnauthenticatedError: it has none such.
            UndeterminedError: its keys cannot be had.
        """
        return self._known(issuer).key(kid, algorithm)

    def require_secure(self, url: str) -> str:
        """The address; raises `InputError` when it is without TLS and neither on this machine nor of `plain_http`."""
        parts = urlsplit(url)
        plain = parts.scheme == "http" and (
            parts.hostname in {"localhost", "127.0.0.1", "::1"} or parts.netloc in self._plain_http
        )
        if not parts.hostname or not (parts.scheme == "https" or plain):
            raise InputError(
                f"{url[:200]} is not to be trusted: it is without TLS",
                next_step="Use an issuer with https, or name its host in plain_http.",
            )
        return url

    def _known(self, issuer: str) -> "_Issuer":
        # Callers ask for issuers of the settings only, so there are few.
        with self._lock:
            if issuer not in self._issuers:
                self._issuers[issuer] = _Issuer(issuer, self._fetch, self.require_secure, self._now)
            return self._issuers[issuer]


class _Issuer:
    def __init__(self, name: str, fetch: Fetch, require_secure: Callable[[str], str], now: Callable[[], float]) -> None:
        self._name = name
        self._fetch = fetch
        self._require_secure = require_secure
        self._now = now
        self._lock = threading.Lock()
        self._document: Mapping[str, Any] = {}
        self._keys: dict[str, Key] = {}
        self._fresh_until = 0.0
        self._not_before = 0.0
        """When its keys may be asked for again."""

    def discovery(self) -> Mapping[str, Any]:
        self._require_fresh()
        return self._document

    def key(self, kid: str, algorithm: str) -> Key:
        self._require_fresh()
        found = self._keys.get(kid)
        if found is None and self._now() >= self._not_before:
            self._refresh()
            found = self._keys.get(kid)
        if found is None:
            raise UnauthenticatedError(
                f"{self._name} has no key {kid[:80]!a}", next_step="Get a new token; keys that were replaced are gone."
            )
        said = found.get("alg")
        if not isinstance(found, ALGORITHMS[algorithm]) or said not in {None, algorithm}:
            raise UnauthenticatedError(
                f"the key {kid[:80]!a} of {self._name} does not sign with {algorithm}", next_step="Get a new token."
            )
        return found

    def _require_fresh(self) -> None:
        if self._now() < self._fresh_until:
            return
        if self._now() >= self._not_before:
            self._refresh()
        elif not self._document:
            raise self._unreachable("it could not be reached a moment ago")

    def _refresh(self) -> None:
        if not self._lock.acquire(timeout=limits.ISSUER_WAIT_SECONDS):
            raise self._unreachable("it answers slowly")
        try:
            if self._now() < self._not_before:  # another request was quicker
                return
            self._not_before = self._now() + limits.ISSUER_AGAIN_SECONDS
            self._load()
            self._fresh_until = self._now() + limits.ISSUER_FRESH_SECONDS
        finally:
            self._lock.release()

    def _load(self) -> None:
        address = self._require_secure(self._name).rstrip("/") + "/.well-known/openid-configuration"
        document = self._json(address)
        if document.get("issuer") != self._name:
            raise self._unreachable(f"its discovery document is of {str(document.get('issuer'))[:80]!a}")
        listed = self._json(self._require_secure(str(document.get("jwks_uri", "")))).get("keys")
        if not isinstance(listed, list) or len(listed) > limits.ISSUER_KEYS:
            raise self._unreachable("its list of keys is none, or too long")
        self._keys = dict(pair for one in listed if (pair := _usable(one)) is not None)
        self._document = document

    def _json(self, address: str) -> Mapping[str, Any]:
        try:
            return strict_json.loads(self._fetch(address), limit=limits.ISSUER_BYTES)
        except InputError as error:
            raise self._unreachable(f"{address} is malformed ({error.message})") from error

    def _unreachable(self, why: str) -> NetworkError:
        return NetworkError(
            f"the keys of {self._name} cannot be had: {why}", next_step="Try again in a minute; ask who runs it."
        )


def _usable(given: object) -> tuple[str, Key] | None:
    """Name and key, when it signs tokens: RSA of at least 2048 bits, or P-256."""
    if not isinstance(given, dict) or not isinstance(given.get("kid"), str) or given.get("use", "sig") != "sig":
        return None
    if given.get("kty") not in {"RSA", "EC"} or "d" in given or given.get("crv", "P-256") != "P-256":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of short keys, which are dropped below
            key = import_key(given)
    except (JoseError, ValueError, TypeError):
        return None  # a kind that is not known here
    if isinstance(key, RSAKey) and key.raw_value.key_size < limits.RSA_BITS_LEAST:
        return None
    return given["kid"], key
