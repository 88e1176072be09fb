"""Where this server is for its clients, what of theirs may be believed, and what cookies it gives them.

`public_url` says it when a proxy stands before the server; else the request's own `Host` does, over plain HTTP.
"""

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request, Response

from tidewaiter.core.errors import RefusedError
from tidewaiter.core.settings.access import AccessSettings


class Origin:
    """The outside of this server."""

    def __init__(self, settings: AccessSettings) -> None:
        self._public = settings.public_url
        self._proxies = settings.trusted_proxies
        self._secure = self._public.startswith("https:")
        # `__Host-`: no other host of the domain, and nobody without TLS, can plant it.
        self._prefix = "__Host-" if self._secure else ""
        self.session_cookie = f"{self._prefix}tidewaiter-session"
        self.form_cookie = f"{self._prefix}tidewaiter-form"
        self.provider_cookie = f"{self._prefix}tidewaiter-provider"
        self.next_cookie = f"{self._prefix}tidewaiter-next"

    def of(self, request: Request) -> str:
        """`SCHEME://HOST[:PORT]` as browsers see it, without a slash at the end."""
        if self._public:
            parts = urlsplit(self._public)
            return f"{parts.scheme}://{parts.netloc}"
        return f"http://{request.headers.get('host', '').lower()}"

    def address(self, request: Request) -> str:
        """Address that asks: of the connection, or, when that is a trusted proxy's, the last that it vouches for."""
        found = request.client.host if request.client else ""
        if not self._trusted(found):
            return found
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        for one in reversed([text.strip() for text in forwarded if text.strip()]):
            try:
                ipaddress.ip_address(one)
            except ValueError:
                return found
            found = one
            if not self._trusted(found):
                return found
        return found

    def _trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        # A socket that takes both kinds of addresses says those of IPv4 in IPv6.
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network or address in network for network in self._proxies)

    def require_ours(self, request: Request) -> None:
        """Raise `RefusedError` unless a page of this server sent the request.

        Browsers say so in `Sec-Fetch-Site`, and in `Origin`, which older ones send too.
        """
        site = request.headers.get("sec-fetch-site")
        origin = request.headers.get("origin")
        if site not in {None, "same-origin"} or (origin is None and site is None):
            raise _foreign()
        if origin is not None and origin.lower() != self.of(request).lower():
            raise _foreign()

    def give(self, answer: Response, name: str, value: str, *, seconds: int | None = None) -> None:
        """Let the browser keep it, until it closes or for so long: no script reads it, no other site sends it along."""
        answer.set_cookie(name, value, max_age=seconds, path="/", secure=self._secure, httponly=True, samesite="lax")

    def forget(self, answer: Response, name: str) -> None:
        """Let the browser drop it."""
        self.give(answer, name, "", seconds=0)


def _foreign() -> RefusedError:
    return RefusedError(
        "this request did not come from a page of this server",
        next_step="Open the page here and send the form again; programs send a token instead of a cookie.",
        code="forbidden",
    )
