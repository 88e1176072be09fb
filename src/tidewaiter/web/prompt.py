"""Connections on which nothing arrives are not kept: a few hundred of them would be all that the server takes.

For the same reason one address has so many at once, and not all of them. uvicorn ends a connection that is silent
between two requests. This one also ends those that never begin a request, or begin one and do not come to the end of
its headers. How long a body may take is for `bounds`.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Sequence

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidewaiter.access.rates import subscriber
from tidewaiter.core import limits
from tidewaiter.core.settings.access import Network


class Connections:
    """How many connections each address has; a proxy that is trusted, through which many come, may have all."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = trusted
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> str | None:
        """What to `leave` with; None when the address has as many as it may. Empty: it is not counted."""
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return ""  # of a socket without addresses
        plain = getattr(known, "ipv4_mapped", None) or known
        if any(plain in network for network in self._trusted):
            return ""
        who = subscriber(address)
        if self._open[who] >= limits.CONNECTIONS_OF_ADDRESS:
            return None
        self._open[who] += 1
        return who

    def leave(self, who: str) -> None:
        """One of them ended."""
        self._open[who] -= 1
        if self._open[who] <= 0:
            del self._open[who]


class Prompt(HttpToolsProtocol):
    """uvicorn's protocol, with a time within which the headers of a request have to be there."""

    counted = Connections()
    _late: asyncio.TimerHandle | None = None
    _who = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The client has that long to begin, and to say what it wants."""
        peer = transport.get_extra_info("peername")
        who = self.counted.enter(peer[0] if peer else "")
        super().connection_made(transport)
        if who is None:
            transport.abort()
            return
        self._who = who
        self._expect()

    def on_message_begin(self) -> None:
        """The next request of a connection that was used before."""
        super().on_message_begin()
        if self._late is None:
            self._expect()

    def on_headers_complete(self) -> None:
        """They are there."""
        self._forget()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._forget()
        if self._who:
            self.counted.leave(self._who)
            self._who = ""
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._late = asyncio.get_running_loop().call_later(limits.REQUEST_HEADER_SECONDS, self._end)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()


def bounded(trusted: Sequence[Network]) -> type[Prompt]:
    """The protocol for one server, which counts its connections, but for those of `trusted` proxies."""

    class Bounded(Prompt):
        counted = Connections(trusted)

    return Bounded
