"""`serve`: the catalog in a browser."""

from tidewaiter.core import settings
from tidewaiter.web import server


def serve(*, host: str = "127.0.0.1", port: int = 8484) -> int:
    """Serve the catalog's pages and its JSON until interrupted.

    Args:
        host: address to listen on. The pages need no login, so keep it local unless a proxy guards them.
        port: port to listen on.
    """
    server.serve(settings.load(), host=host, port=port)
    return 0
