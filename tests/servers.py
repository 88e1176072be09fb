"""Types of the shared fixtures in `conftest.py`, and how a test's own server answers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler

Tool = Callable[[str], str]
"""Path of a foreign tool by its name."""

Answer = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[Answer], str]
"""Starts a server that answers so; gives its base URL."""

StartRegistry = Callable[[str], AbstractContextManager[str]]
"""Starts docker-registry with more YAML; gives HOST:PORT."""


def reply(
    handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", *, length: int | None = None, **headers: str
) -> None:
    """Answer with `body`, announcing `length` bytes (its own by default); `_` in header names becomes `-`."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
    if length is not None and length != len(body):
        handler.close_connection = True
