"""URLs: which are spoken to, where a redirect may lead, and how they are shown without their secrets."""

from binascii import b2a_base64
from functools import lru_cache
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import msgspec

from tidewaiter.core.errors import InputError, NetworkError

_SCHEMES = {"http": 80, "https": 443}
_URL_CHARACTERS = 8192
_TARGET = frozenset("!$%&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~")
"""What stands in a request as it is."""
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


class Address(msgspec.Struct, frozen=True):
    """The parts of a URL that a request is made of."""

    scheme: str
    host: str
    """In lower case, without brackets."""
    port: int
    target: str
    """Path and query as they stand in a request."""
    user: tuple[str, str] | None
    """User and password."""


@lru_cache(maxsize=256)
def _parsed(url: str) -> Address | None:
    if len(url) > _URL_CHARACTERS or " " in url or not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not host or port == 0:
        return None
    whole = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = whole
    if not _TARGET.issuperset(whole):
        target = "".join(one if one in _TARGET else "".join(f"%{byte:02X}" for byte in one.encode()) for one in whole)
    user = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return Address(parts.scheme, host.lower(), port or _SCHEMES[parts.scheme], target, user)


def parse(url: str) -> Address:
    """The parts of `url` when it is an absolute http or https URL; raises `InputError` otherwise."""
    found = _parsed(url)
    if found is None:
        raise InputError(
            f"{redacted(url)[:200]!r} is not a URL that can be fetched",
            next_step="Give a URL that starts with https:// and a host name.",
        )
    return found


def check(url: str) -> str:
    """`url` when it is an absolute http or https URL; raises `InputError` otherwise."""
    parse(url)
    return url


def redacted(url: str) -> str:
    """`url` without user info, query and fragment: what may stand in messages and logs.

    Queries are dropped whole, because object stores sign URLs in them.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(malformed URL)"
    return urlunsplit((parts.scheme, host, parts.path, "", "")) + ("?…" if parts.query else "")


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a checked URL: credentials stay inside one origin."""
    found = parse(url)
    return found.scheme, found.host, found.port


def is_default(scheme: str, port: int) -> bool:
    """Whether URLs of `scheme` leave `port` out."""
    return _SCHEMES.get(scheme) == port


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost`, or an address of its loopback."""
    from ipaddress import ip_address  # takes longer to load than a short request to make, and most need none

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def basic(user: str, password: str) -> str:
    """Value of an `Authorization` header (RFC 7617)."""
    return "Basic " + b2a_base64(f"{user}:{password}".encode(), newline=False).decode("ascii")


def redirected(url: str, location: str) -> str:
    """Where a redirect from `url` to `location` leads, without any user info that `location` carries.

    Raises:
        NetworkError: it leads nowhere sensible, or from https to http.
    """
    try:
        parts = urlsplit(urljoin(url, location))
        target = check(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, "")))
    except (ValueError, InputError) as error:
        raise NetworkError(
            f"{redacted(url)} redirects to something that is not an http or https URL",
            next_step="Check the address; the server is misconfigured or hostile.",
        ) from error
    if url.startswith("https:") and target.startswith("http:"):
        raise NetworkError(
            f"{redacted(url)} redirects from https to {redacted(target)}",
            next_step="Ask the owner of the server to redirect to https only.",
            code="insecure_redirect",
        )
    return target


def without_secrets(headers: dict[str, str]) -> dict[str, str]:
    """`headers` as they may be sent to another origin."""
    return {name: value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS}
