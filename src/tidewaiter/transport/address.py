"""URLs: which are spoken to, where a redirect may lead, and how they are shown without their secrets."""

from urllib.parse import urljoin, urlsplit, urlunsplit

from tidewaiter.core.errors import InputError, NetworkError

_SCHEMES = {"http": 80, "https": 443}
_URL_CHARACTERS = 8192
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


def check(url: str) -> str:
    """`url` when it is an absolute http or https URL; raises `InputError` otherwise."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or len(url) > _URL_CHARACTERS or any(ord(character) <= 32 for character in url):
        raise InputError(
            f"{redacted(url)[:200]!r} is not a URL that can be fetched",
            next_step="Give a URL that starts with https:// and a host name.",
        )
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
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _SCHEMES[parts.scheme]


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
