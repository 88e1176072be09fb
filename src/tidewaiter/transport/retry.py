"""When a request is worth repeating, and after how long. Each reason has a name."""

import os
import threading
import time
from collections.abc import Callable, Mapping

from tidewaiter.core import limits
from tidewaiter.transport.failures import BadAnswerError, ConnectionLostError, ExchangeError, TimedOutError

Pause = Callable[[float], object]
"""Waits so many seconds; True means that the wait was cut short, because nobody wants the answer any more."""

_FIRST_WAIT_SECONDS = 0.5


def _jitter() -> float:
    """A number between 0.5 and 1, not the same in two processes that wait for one server."""
    return 0.5 + int.from_bytes(os.urandom(4), "big") / 2**33


def lost_connection(error: ExchangeError) -> bool:
    """The connection was cut, refused or silent: it may work next time."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "Name or service not known" in text or "No address associated" in text:
        return False  # an answer, not an accident
    return isinstance(error, (ConnectionLostError, TimedOutError, BadAnswerError))


def server_busy(status: int) -> bool:
    """The server says that it did not act because of load (RFC 9110, RFC 6585): any request may be repeated."""
    return status in {429, 503}


def server_failed(status: int) -> bool:
    """The server, or a gateway before it, failed in a way that passes."""
    return status in {408, 500, 502, 504}


def repeats_safely(method: str) -> bool:
    """Asking twice is the same as asking once (RFC 9110, section 9.2.1)."""
    return method in {"GET", "HEAD"}


def replayable(content: object) -> bool:
    """The body can be sent a second time."""
    return content is None or isinstance(content, bytes)


def requested_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds asked for by `Retry-After` (a number or a date, RFC 9110 section 10.2.3); None without a usable one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    from email.utils import parsedate_to_datetime

    from tidewaiter.core import clock

    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment - clock.now()).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None  # malformed, or a date without zone


def until(unwanted: threading.Event) -> Pause:
    """A pause that ends when `unwanted` is set, and from then on at once."""
    return unwanted.wait


class Budget:
    """How often one request may still be repeated; waits between."""

    def __init__(self, attempts: int = limits.ATTEMPTS, pause: Pause = time.sleep) -> None:
        self._left = attempts - 1
        self._wait = _FIRST_WAIT_SECONDS
        self._pause = pause

    def again(self, asked: float | None = None) -> bool:
        """Wait (with jitter, and at least the `asked` seconds) and say whether another attempt is allowed."""
        if self._left <= 0 or (asked is not None and asked > limits.RETRY_AFTER_SECONDS):
            return False
        self._left -= 1
        cut_short = self._pause(max(asked or 0.0, self._wait * _jitter()))
        self._wait *= 2
        return cut_short is not True
