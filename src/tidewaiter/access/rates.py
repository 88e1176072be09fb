"""How often somebody may ask: counted in memory, of so many at a time. A restart forgets."""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from tidewaiter.core import limits

Value = TypeVar("Value")


def subscriber(address: str) -> str:
    """What one subscriber has: an IPv4 address, also one that stands in IPv6, or 64 bits of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


class _Latest(Generic[Value]):
    """The values of those seen last."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._values: OrderedDict[str, Value] = OrderedDict()

    def get(self, key: str, default: Value) -> Value:
        return self._values.get(key, default)

    def put(self, key: str, value: Value) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._rows:
            self._values.popitem(last=False)

    def has(self, key: str) -> bool:
        return key in self._values

    def drop(self, key: str) -> None:
        self._values.pop(key, None)


class Requests:
    """A bucket of tokens for each who asks, refilled by `rate` a second up to `limits.RATE_BURST_SECONDS` of that."""

    def __init__(self, rate: int, *, now: Callable[[], float] = time.monotonic, rows: int = limits.RATE_ROWS) -> None:
        self._rate = rate
        self._most = float(rate * limits.RATE_BURST_SECONDS)
        self._now = now
        self._lock = threading.Lock()
        self._buckets: _Latest[tuple[float, float]] = _Latest(rows)

    def take(self, who: str) -> float:
        """0.0 and one token less, or the seconds until there is one. A rate of 0 limits nothing."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._now()
            left, at = self._buckets.get(who, (self._most, now))
            left = min(self._most, left + (now - at) * self._rate)
            if left < 1.0:
                self._buckets.put(who, (left, now))
                return (1.0 - left) / self._rate
            self._buckets.put(who, (left - 1.0, now))
            return 0.0


class Failures:
    """Wrong passwords in a row. After some the next try has to wait, each time twice as long, up to a bound."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic, rows: int = limits.RATE_ROWS) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._failed: _Latest[tuple[int, float]] = _Latest(rows)

    def wait(self, *keys: str) -> float:
        """Seconds until one of these may try again; 0.0 when all may.

        The try counts as failed until `forget`: those that come at the same time are not let through together.
        """
        with self._lock:
            now = self._now()
            left = max((self._left(key, now) for key in keys), default=0.0)
            if left <= 0.0:
                for key in keys:
                    count, _ = self._current(key, now)
                    self._failed.put(key, (count + 1, now))
            return max(left, 0.0)

    def forget(self, key: str) -> None:
        """It was right: it begins anew."""
        with self._lock:
            self._failed.drop(key)

    def undo(self, key: str) -> None:
        """It was right: the try does not count, those before it still do."""
        with self._lock:
            count, at = self._current(key, self._now())
            if count:
                self._failed.put(key, (count - 1, at))

    def remember(self, key: str) -> None:
        """Count it from nothing, and let `knows` say so."""
        with self._lock:
            self._failed.put(key, (0, self._now()))

    def knows(self, key: str) -> bool:
        """Whether it is counted."""
        with self._lock:
            return self._failed.has(key)

    def _current(self, key: str, now: float) -> tuple[int, float]:
        count, at = self._failed.get(key, (0, now))
        # Long quiet: as if nothing had been.
        return (0, now) if now - at > 4 * limits.LOGIN_WAIT_SECONDS else (count, at)

    def _left(self, key: str, now: float) -> float:
        count, at = self._current(key, now)
        beyond = count - limits.LOGIN_FAILURES_FREE
        if beyond < 0:
            return 0.0
        return at + min(2.0 ** min(beyond, 20), limits.LOGIN_WAIT_SECONDS) - now
