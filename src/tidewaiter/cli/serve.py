"""`serve`: the catalog in a browser, and the API."""

import sys
from typing import Literal

import msgspec

from tidewaiter.access import users
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, settings
from tidewaiter.web import server


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8484,
    anonymous: Literal["viewer", "none"] | None = None,
    log_format: str = "",
) -> int:
    """Serve the catalog's pages and the API until interrupted.

    The first start in a home makes the user `admin` and prints its one-time password, once.

    Args:
        host: address to listen on.
        port: port to listen on.
        anonymous: what those may who do not log in: viewer, read; none, nothing. Default viewer on an address of this
            machine only, without public_url; else none.
        log_format: text, which says only what goes wrong, or json: one object a line on standard error, also for each
            request; default the setting of that name.
    """
    opened = settings.load()
    if log_format:
        opened = msgspec.structs.replace(opened, log_format=settings.log_format(log_format, "--log-format"))

    def announce(address: str) -> None:
        lines = [address]
        with Catalog.open(opened) as catalog:
            issued = users.first_admin(catalog)
        if issued is not None and issued.user.one_time_until is not None:
            lines += [
                f"The first administrator is {issued.user.name}, with the one-time password {issued.password}",
                f"Choose another one by {clock.rfc3339(issued.user.one_time_until)} at {address}login",
            ]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    server.serve(
        opened,
        host=host,
        port=port,
        anonymous=None if anonymous is None else anonymous == "viewer",
        announce=announce,
    )
    return 0
