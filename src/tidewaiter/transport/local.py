"""HTTP to a program of our own on this machine, through a Unix socket that only this user can reach."""

import http.client
import socket
from pathlib import Path

from tidewaiter.core.errors import UndeterminedError


class LocalClient:
    """One kept connection to the server that listens on `path`; for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._connection = _Connection(path)

    def ask(self, method: str, target: str, body: bytes = b"", *, seconds: float, limit: int) -> tuple[int, bytes]:
        """Status and body of the answer.

        Args:
            method: as HTTP has it.
            target: path and query.
            body: JSON, or nothing.
            seconds: longest silence of the server.
            limit: most bytes that the answer's body may have.

        Raises:
            UndeterminedError: nobody listens there, the server was silent too long, or its answer is too long.
        """
        self._connection.timeout = seconds
        try:
            self._connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            with self._connection.getresponse() as response:
                data = response.read(limit + 1)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise _failed(str(error) or type(error).__name__) from error
        if len(data) > limit:
            self._connection.close()
            raise _failed(f"its answer is over {limit} bytes")
        return response.status, data

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _failed(what: str) -> UndeterminedError:
    return UndeterminedError(f"a program on this machine did not answer: {what}", next_step="Run the command again.")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
