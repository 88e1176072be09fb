"""Running the web application: one process, an address that is said when it answers, a stop that is clean."""

import errno
import ipaddress
import logging
import sys
from collections.abc import Callable
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import leases
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable import serving
from tidewaiter.pipelines.notifying import sending
from tidewaiter.web import logs, prompt
from tidewaiter.web.app import create
from tidewaiter.web.guard import host_of
from tidewaiter.web.sse import Streams

HOST = "127.0.0.1"
PORT = 8484
_STOP_SECONDS = 20
"""Requests that are being answered have so long to end after a signal; Kubernetes kills after 30."""

_LOG = logging.getLogger("tidewaiter.server")

_REASONS = {
    errno.EADDRINUSE: ("the port is taken", "Stop what listens there, or choose another port with --port."),
    errno.EACCES: ("permission denied", "Choose a port from 1024 on with --port."),
    errno.EADDRNOTAVAIL: ("this machine has no such address", "Choose another address with --host."),
}


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _not_the_reason(record: logging.LogRecord) -> bool:
    """Drops uvicorn's own line about an address that is taken: the error that is raised says it better."""
    return not isinstance(record.msg, OSError)


class _Server(uvicorn.Server):
    """Says its address when it listens; ctrl-C and SIGTERM end `run` instead of the process."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None], streams: Streams) -> None:
        super().__init__(config)
        self._announce = announce
        self._streams = streams

    async def startup(self, sockets: list["object"] | None = None) -> None:  # type: ignore[override]  # passed through
        await super().startup(sockets)  # type: ignore[arg-type]  # as above
        name, port = self.servers[0].sockets[0].getsockname()[:2]
        address = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
        _LOG.info("listening", extra={"fields": {"address": address}})
        self._announce(address)

    async def shutdown(self, sockets: list["object"] | None = None) -> None:  # type: ignore[override]  # passed through
        # Streams would be waited for until the time to end is over.
        self._streams.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]  # as above

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # A signal that is kept would be raised again after the clean stop.
        self._captured_signals.clear()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hosts(host: str, public_url: str) -> frozenset[str] | None:
    """Names under which a server on `host` may be asked: on a loopback address loopback's, and that of its proxy."""
    if not _loopback(host):
        return None
    public = {host_of(urlsplit(public_url).netloc)} if public_url else set()
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host, *public})


def serve(
    settings: Settings,
    *,
    host: str = HOST,
    port: int = PORT,
    anonymous: bool | None = None,
    announce: Callable[[str], None] = _print,
) -> None:
    """Serve pages and API until SIGINT or SIGTERM.

    Args:
        settings: the home.
        host: address to listen on.
        port: 0 takes any free one.
        anonymous: whether those who do not say who they are may read; None: on a loopback address that no proxy makes
            public.
        announce: gets the address once it answers.

    Raises:
        StorageError: the catalog cannot be opened.
        InputError: the address cannot be listened on, where a taken port is said; or people log in with a provider, and
            it is not said how browsers call this server.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"{port} is not a port", next_step="Choose one from 0 to 65535 with --port.")
    public_url = settings.access.public_url
    hosts = _hosts(host, public_url)
    if settings.access.oidc_issuer and not public_url and hosts is None:
        # Else whoever asks would choose, by a header, where the provider sends people with their codes.
        raise InputError(
            f"people log in at {settings.access.oidc_issuer}, and nothing says how this server is called on {host}",
            next_step="Set public_url (TIDEWAITER_PUBLIC_URL) to the address that browsers use.",
        )
    if anonymous is None:
        anonymous = _loopback(host) and not public_url
    logs.configure(settings.log_format)
    Catalog.open(settings).close()
    app = create(settings, hosts=hosts, anonymous=anonymous)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=prompt.bounded(settings.access.trusted_proxies),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
        limit_concurrency=256,
    )
    logging.getLogger("uvicorn.error").addFilter(_not_the_reason)
    try:
        with (
            leases.serving(settings.home.path),
            audit_sequencer.running(settings),
            sending.running(settings),
            serving.running(settings),
        ):
            _Server(config, announce, app.state.streams).run()
        _LOG.info("stopped")
    except SystemExit as error:
        # uvicorn exits when it cannot listen; why is in the error it was handling.
        cause = error.__context__
        if not isinstance(cause, OSError):
            raise
        reason, next_step = _REASONS.get(
            cause.errno or 0, (cause.strerror or str(cause), "Choose another address with --host and --port.")
        )
        raise InputError(
            f"cannot listen on {host}:{port}: {reason}", next_step=next_step, code="cannot_listen"
        ) from cause
