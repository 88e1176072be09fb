"""Passwords and logging in with them."""

import logging
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tidewaiter.access import passwords, users
from tidewaiter.access.rates import Failures
from tidewaiter.access.users import Logins, TooManyLoginsError
from tidewaiter.catalog.access import users as rows
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, UnauthenticatedError

GOOD = "a sentence that is long"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """One with the user `alice` and her password."""
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as found:
        users.add(found, "alice", with_password=False)
        users.set_password(found, "alice", GOOD)
        yield found


def test_a_hash_is_argon2id_with_the_parameters_of_the_standard() -> None:
    """They stand in it, and no two hashes are the same."""
    first, second = passwords.hashed(GOOD), passwords.hashed(GOOD)
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert first != second
    assert passwords.check(first, GOOD) == (True, "")
    assert not passwords.check(first, GOOD + " ").right


@pytest.mark.parametrize("stored", ["", "x", "$argon2id$v=19$m=65536", "$2b$12$abc"])
def test_what_is_no_hash_is_nobodys_password(stored: str) -> None:
    """An empty or damaged row lets nobody in, with any password, the empty one included."""
    for password in ("", GOOD, stored):
        assert not passwords.check(stored, password).right


@pytest.mark.parametrize(
    "password",
    ["short", "a" * 40, "x" * (limits.PASSWORD_CHARACTERS + 1), "my name is alice", "Alice-alice-alice"],
)
def test_bad_passwords_are_not_taken(password: str) -> None:
    """Too short, too long, one letter, or with the name."""
    with pytest.raises(InputError):
        passwords.require_good(password, name="alice")


def test_good_passwords_are_taken() -> None:
    """At both bounds; any character."""
    for password in ("a1b2c3d4e5f6", "päßwörter sind läng", "ab1!" * (limits.PASSWORD_CHARACTERS // 4)):
        assert passwords.require_good(password, name="alice") == password


def test_one_time_passwords_are_all_different() -> None:
    """And can be typed."""
    made = {passwords.new() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 29 and one.count("-") == 4 for one in made)


def test_the_right_password_logs_in(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong one, another's name and no name do not, all with the same words; the log names no password."""
    logins = Logins()
    assert logins.login(catalog, "alice", GOOD, "192.0.2.1").name == "alice"
    said = set()
    with caplog.at_level(logging.WARNING):
        for number, (name, password) in enumerate(
            [("alice", "wrong-wrong"), ("bob", GOOD), ("", GOOD), ("alice", ""), (GOOD, "alice")]
        ):
            with pytest.raises(UnauthenticatedError) as caught:
                logins.login(catalog, name, password, f"192.0.2.{number}")
            said.add((caught.value.message, caught.value.next_step))
    assert len(said) == 1
    assert "alice" in caplog.text
    assert GOOD not in caplog.text
    assert "wrong-wrong" not in caplog.text


@pytest.mark.thorough
def test_a_name_that_nobody_has_takes_as_long(catalog: Catalog) -> None:
    """Within a factor of two of a wrong password."""
    logins = Logins()

    def seconds(name: str) -> float:
        taken = []
        for number in range(4):
            began = time.perf_counter()
            with pytest.raises(UnauthenticatedError):
                logins.login(catalog, name, "wrong", f"198.51.100.{number}")
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    seconds("warm")
    known, unknown = seconds("alice"), seconds("nobody")
    assert 0.5 < known / unknown < 2.0


def test_failures_make_wait_and_are_no_lock(catalog: Catalog) -> None:
    """A stranger's tries keep strangers out; the owner still gets in from where she was before."""
    logins = Logins(Failures(now=lambda: 1000.0))
    logins.login(catalog, "alice", GOOD, "192.0.2.1")
    for number in range(limits.LOGIN_FAILURES_FREE):
        with pytest.raises(UnauthenticatedError):
            logins.login(catalog, "alice", "wrong", f"203.0.113.{number}")
    with pytest.raises(TooManyLoginsError) as caught:
        logins.login(catalog, "alice", GOOD, "203.0.113.99")
    assert caught.value.seconds == 1
    assert logins.login(catalog, "alice", GOOD, "192.0.2.1").name == "alice"


def test_neighbours_of_an_address_are_one(catalog: Catalog) -> None:
    """Of IPv6, 64 bits are what one subscriber has."""
    logins = Logins(Failures(now=lambda: 1000.0))
    for number in range(limits.LOGIN_FAILURES_FREE):
        with pytest.raises(UnauthenticatedError):
            logins.login(catalog, f"user{number}", "wrong", f"2001:db8::{number}")
    with pytest.raises(TooManyLoginsError):
        logins.login(catalog, "alice", GOOD, "2001:db8::ffff")
    assert logins.login(catalog, "alice", GOOD, "2001:db8:0:1::1").name == "alice"


def test_a_one_time_password_ends(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """It logs in before, not after; the message then says what to do."""
    issued = users.reset_password(catalog, "alice")
    logins = Logins()
    assert logins.login(catalog, "alice", issued.password, "192.0.2.1").one_time_until is not None
    with pytest.raises(UnauthenticatedError):
        logins.login(catalog, "alice", GOOD, "192.0.2.1")
    at = issued.user.one_time_until
    assert at is not None
    monkeypatch.setattr(clock, "now", lambda: at)
    with pytest.raises(UnauthenticatedError, match="time of this one-time password is over"):
        logins.login(catalog, "alice", issued.password, "192.0.2.1")


def test_a_hash_of_other_parameters_is_made_anew(catalog: Catalog) -> None:
    """At the next login, with the same password."""
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    with catalog.database.writing() as connection:
        rows.set_password(connection, rows.require(connection, "alice"), weak, clock.now())
    logins = Logins()
    logins.login(catalog, "alice", GOOD, "192.0.2.1")
    stored = users.named(catalog, "alice").password
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    logins.login(catalog, "alice", GOOD, "192.0.2.1")
    assert users.named(catalog, "alice").password == stored


def test_a_disabled_user_does_not_log_in(catalog: Catalog) -> None:
    """With the right password, and the same words as for a wrong one."""
    users.set_disabled(catalog, "alice", disabled=True)
    with pytest.raises(UnauthenticatedError, match="name or password is wrong"):
        Logins().login(catalog, "alice", GOOD, "192.0.2.1")


def test_a_flood_of_logins_leaves_threads_to_others(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are under way at a time; the next one is sent away at once, and may come again."""
    logins = Logins(Failures(now=lambda: 1000.0))
    go_on, under_way = threading.Event(), threading.Semaphore(0)
    check = passwords.check

    def slow(stored: str, password: str) -> passwords.Checked:
        under_way.release()
        assert go_on.wait(60)
        return check(stored, password)

    monkeypatch.setattr(passwords, "check", slow)
    with ThreadPoolExecutor(limits.LOGINS_WAITING) as threads:
        tries = [
            threads.submit(logins.login, catalog, f"user{number}", GOOD, f"203.0.113.{number}")
            for number in range(limits.LOGINS_WAITING)
        ]
        for _ in tries:
            assert under_way.acquire(timeout=60)
        with pytest.raises(TooManyLoginsError) as caught:
            logins.login(catalog, "carol", GOOD, "192.0.2.7")
        assert caught.value.seconds == 1
        go_on.set()
        assert all(isinstance(one.exception(60), UnauthenticatedError) for one in tries)
    monkeypatch.setattr(passwords, "check", check)
    assert logins.login(catalog, "alice", GOOD, "192.0.2.7").name == "alice"
