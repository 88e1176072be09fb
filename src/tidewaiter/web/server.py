"""Running the web application: one process, an address that is said when it answers, a stop that is clean."""

import errno
import ipaddress
import logging
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import Settings
from tidewaiter.web.app import create

HOST = "127.0.0.1"
PORT = 8484
_STOP_SECONDS = 5

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

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list["object"] | None = None) -> None:  # type: ignore[override]  # passed through
        await super().startup(sockets)  # type: ignore[arg-type]  # as above
        name, port = self.servers[0].sockets[0].getsockname()[:2]
        self._announce(f"http://{f'[{name}]' if ':' in name else name}:{port}/")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # A signal that is kept would be raised again after the clean stop.
        self._captured_signals.clear()


def _hosts(host: str) -> frozenset[str] | None:
    """Names under which a server on `host` may be asked: on a loopback address only loopback's."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        return None
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host})


def serve(settings: Settings, *, host: str = HOST, port: int = PORT, announce: Callable[[str], None] = _print) -> None:
    """Serve pages and API until SIGINT or SIGTERM; `announce` gets the address once it answers.

    Port 0 takes any free one.

    Raises:
        StorageError: the catalog cannot be opened.
        InputError: the address cannot be listened on; a taken port is said.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"{port} is not a port", next_step="Choose one from 0 to 65535 with --port.")
    Catalog.open(settings).close()
    config = uvicorn.Config(
        create(settings, hosts=_hosts(host)),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
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
        _Server(config, announce).run()
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
