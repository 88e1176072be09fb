"""Where webhooks may be sent, and one message on its way.

A webhook makes this server send requests to an address that somebody else chose. So what the server can reach and
they cannot must stay out of reach: the address of the connection itself is looked at, whatever name led there.
"""

import ipaddress
import time
from types import TracebackType
from typing import Self

import msgspec

from tidewaiter.catalog.outbox import Attempt, Sending
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NetworkError, RefusedError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.notifying.secrets import Root
from tidewaiter.transport import address, retry
from tidewaiter.transport.client import Client, Timeouts
from tidewaiter.transport.proxies import Proxies
from tidewaiter.transport.tls import Trust

_URL_CHARACTERS = 2000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""Beyond it Python calls things global that are not: addresses of a site, IPv4 in forms that are no longer used."""


class Tried(msgspec.Struct, frozen=True):
    """What came of an attempt."""

    attempt: Attempt
    unable: bool
    """The endpoint cannot take anything now; else it refused this message."""
    gone: bool
    """It says that it is no more."""
    asked: float | None
    """Seconds after which it wants to be tried again."""

    @property
    def taken(self) -> bool:
        """Whether it took the message."""
        return not self.attempt.error


def public(text: str) -> bool:
    """Whether an IP address is one of the public internet, also when it holds one of IPv4 within."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        within = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if within is None and found in _NAT64:
            within = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if within is not None:
            return public(str(within))
        if found not in _GLOBAL_UNICAST:
            return False
    return found.is_global and not found.is_multicast


def named(settings: Settings, url: str) -> bool:
    """Whether the setting `webhook_hosts` names the host of a URL."""
    _, host, port = address.origin(url)
    return any(
        one in {host, f"{host}:{port}", f"[{host}]:{port}"} or (one.startswith("*.") and host.endswith(one[1:]))
        for one in settings.webhook_hosts
    )


def check(settings: Settings, url: str) -> str:
    """`url` when webhooks may be sent there, as far as that can be said without asking for its address.

    Raises:
        InputError: it is none, or has a password in it.
        RefusedError: it is not https, or a private address, and the settings do not name its host.
    """
    parts = address.parse(url)
    if len(url) > _URL_CHARACTERS or parts.user is not None or "#" in url:
        raise InputError(
            f"{address.redacted(url)[:200]} is too long, or has a password or a fragment in it",
            next_step="Give a plain address; messages are signed, so that it needs no password.",
        )
    if named(settings, url):
        return url
    literal = parts.host.strip("[]")
    is_address = ":" in literal or literal.replace(".", "").isdigit()
    if parts.scheme != "https" or (is_address and not public(literal)) or literal == "localhost":
        raise RefusedError(
            f"webhooks are not sent to {address.redacted(url)[:200]}: only by https, and not to private addresses",
            next_step="Name the host in the setting webhook_hosts of the server when it is meant.",
            code="webhook_address",
        )
    return url


class Endpoints:
    """Sends messages; safe from many threads. Use as a context manager."""

    def __init__(self, settings: Settings, root: Root) -> None:
        self._settings = settings
        self.root = root
        trust = Trust(authorities=settings.ca_file, hosts=settings.certificates)
        waits = Timeouts(connect=limits.WEBHOOK_CONNECT_SECONDS, read=limits.WEBHOOK_ANSWER_SECONDS)
        # A proxy would connect for us, to an address that we do not see.
        self._open = Client(timeouts=waits, attempts=1, trust=trust, through=Proxies(), permit=public)
        self._named = Client(timeouts=waits, attempts=1, trust=trust)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._named.close()

    def interrupt(self) -> None:
        """End what is on its way."""
        self._open.interrupt()
        self._named.interrupt()

    def send(self, webhook: Sending, message: str, body: bytes) -> Tried:
        """Try once to have the message taken; whatever happens is in the answer."""
        began, at = time.monotonic(), clock.now()
        status, asked, error = 0, None, ""
        try:
            check(self._settings, webhook.url)
            headers = self._headers(webhook, message, int(at.timestamp()), body)
            client = self._named if named(self._settings, webhook.url) else self._open
            told = client.post(webhook.url, body, headers=headers)
            status, asked = told.status, retry.requested_wait(told.headers)
            if not 200 <= status < 300:
                error = f"it answered {status}"
        except (NetworkError, RefusedError, InputError) as failure:
            error = failure.message
        attempt = Attempt(at=at, status=status, error=error[:500], seconds=round(time.monotonic() - began, 3))
        unable = bool(error) and (
            not status or retry.server_busy(status) or retry.server_failed(status) or status >= 500
        )
        return Tried(attempt, unable=unable, gone=status == 410, asked=asked)

    def _headers(self, webhook: Sending, message: str, timestamp: int, body: bytes) -> dict[str, str]:
        generations = [webhook.generation]
        if webhook.earlier_until is not None and clock.now() < webhook.earlier_until:
            generations.append(webhook.generation - 1)
        signatures = [
            self.root.signature(webhook.id, one, message=message, timestamp=timestamp, body=body) for one in generations
        ]
        return {
            "Content-Type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }
