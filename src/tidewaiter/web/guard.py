"""What every answer carries and every request must: security headers, and a host name that is ours.

The host is checked because a page from elsewhere can let its own name resolve to this machine's loopback address
(DNS rebinding) and read what a browser here may read.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "Content-Security-Policy"
_STRICT = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
WITH_SCRIPT = f"{_STRICT}; script-src 'self'; connect-src 'self'"
"""Of a page that has a script of ours, which asks this server."""

HEADERS = {
    POLICY: _STRICT,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # "no-referrer" would make browsers say `Origin: null` of our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def host_of(header: str) -> str:
    """The host of a `Host` header, without its port."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() and not header.endswith("]") else header
    return name.lower()


class Guard:
    """ASGI middleware; `hosts` None accepts any host name."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                scripted = headers.get(POLICY) == WITH_SCRIPT
                headers.update(HEADERS)
                if scripted:
                    headers[POLICY] = WITH_SCRIPT
                # What one reader may see is not for the next one behind the same proxy.
                headers.setdefault("Cache-Control", "private, no-cache")
            await send(message)

        if self._hosts is not None and host_of(Headers(scope=scope).get("host", "")) not in self._hosts:
            refusal = PlainTextResponse("This server does not answer for that host name.\n", status_code=421)
            await refusal(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)
