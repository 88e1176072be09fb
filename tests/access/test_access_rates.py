"""How often somebody may ask or try a password."""

import pytest

from tidewaiter.access.rates import Failures, Requests, subscriber
from tidewaiter.core import limits


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_emptied_and_fills_again() -> None:
    """A burst, then the rate; each who asks has its own."""
    clock = Clock()
    requests = Requests(2, now=clock)
    burst = 2 * limits.RATE_BURST_SECONDS
    assert [requests.take("a") for _ in range(burst)] == [0.0] * burst
    assert requests.take("a") == 0.5
    assert requests.take("b") == 0.0
    clock.now += 0.5
    assert requests.take("a") == 0.0
    assert requests.take("a") > 0.0
    clock.now += 3600
    assert [requests.take("a") for _ in range(burst)] == [0.0] * burst
    assert requests.take("a") > 0.0


def test_a_rate_of_nothing_bounds_nothing() -> None:
    """0 is off."""
    requests = Requests(0)
    assert not any(requests.take("a") for _ in range(100_000))


def test_memory_is_bounded() -> None:
    """Whoever was seen longest ago is forgotten."""
    requests = Requests(1, now=Clock(), rows=2)
    for _ in range(limits.RATE_BURST_SECONDS):
        requests.take("a")
    assert requests.take("a") > 0
    requests.take("b")
    requests.take("c")
    assert requests.take("a") == 0.0


def test_wrong_passwords_make_the_next_try_wait_ever_longer() -> None:
    """Some are free; then one second, two, four, up to the bound, and never for good."""
    clock = Clock()
    failures = Failures(now=clock)
    assert [failures.wait("a") for _ in range(limits.LOGIN_FAILURES_FREE)] == [0.0] * limits.LOGIN_FAILURES_FREE
    waits = []
    for _ in range(14):
        waits.append(failures.wait("a"))
        clock.now += waits[-1]
        assert failures.wait("a") == 0.0
    assert waits[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == limits.LOGIN_WAIT_SECONDS
    assert max(waits) == limits.LOGIN_WAIT_SECONDS


def test_one_of_several_keys_is_enough_to_wait() -> None:
    """An address that failed waits with every account, and a try that has to wait is not counted."""
    clock = Clock()
    failures = Failures(now=clock)
    for number in range(limits.LOGIN_FAILURES_FREE):
        assert failures.wait(f"account {number}", "address") == 0.0
    assert failures.wait("another account", "address") == 1.0
    assert failures.wait("another account") == 0.0
    clock.now += 1.0
    assert failures.wait("another account", "address") == 0.0


def test_success_forgets_the_account_and_not_what_the_address_did_before() -> None:
    """Whoever has one account cannot wash an address clean with it."""
    failures = Failures(now=Clock())
    for _ in range(limits.LOGIN_FAILURES_FREE - 1):
        failures.wait("victim", "address")
    assert failures.wait("own", "address") == 0.0
    failures.forget("own")
    failures.undo("address")
    assert failures.wait("victim", "address") == 0.0
    assert failures.wait("victim", "address") > 0.0


def test_failures_of_long_ago_are_forgotten() -> None:
    """After an hour of quiet it begins anew."""
    clock = Clock()
    failures = Failures(now=clock)
    for _ in range(limits.LOGIN_FAILURES_FREE):
        failures.wait("a")
    clock.now += 4 * limits.LOGIN_WAIT_SECONDS + 1
    assert failures.wait("a") == 0.0
    assert not failures.knows("b")
    failures.remember("b")
    assert failures.knows("b")


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_a_subscriber_is_counted_as_one(address: str, counted: str) -> None:
    """Nobody has more tries for having 2^64 addresses, nor fewer for coming by IPv4 to a socket of IPv6."""
    assert subscriber(address) == counted
