"""A server's yes is believed when the key that the settings name signed it; without a key that is said."""

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidewaiter.cli import remote_verdict
from tidewaiter.core import clock
from tidewaiter.core.errors import NotVerifiedError, UndeterminedError
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines.attachments import stating
from tidewaiter.policy.verdict import Verdict
from tidewaiter.signing import keys, statement
from tidewaiter.signing.keys import PrivateKey

KEY = keys.create()


def verdict(**more: Any) -> Verdict:
    """A yes for staging, valid for an hour."""
    now = clock.now()
    values: dict[str, Any] = {
        "id": "1",
        "artifact": digests.of(b"image"),
        "environment": "staging",
        "verdict": "allow",
        "policy_revision": digests.of(b"policy"),
        "advisories_revision": "r",
        "evidence": {},
        "violations": (),
        "waived": (),
        "refused_waivers": (),
        "warnings": (),
        "not_checked": (),
        "decided_at": clock.rfc3339(now),
        "valid_until": clock.rfc3339(now + dt.timedelta(hours=1)),
    }
    return Verdict(**{**values, **more})


def signed(said: Verdict, key: PrivateKey = KEY) -> str:
    """The verdict as the server attaches it."""
    return statement.attest(stating.decided("shop/till", said, verifier="server", origin="x.example"), key).decode()


@pytest.fixture
def pinned(tmp_path: Path) -> tuple[Path, ...]:
    """The server's public key, in a file."""
    (tmp_path / "verdict.pub").write_bytes(KEY.public.pem)
    return (tmp_path / "verdict.pub",)


def test_what_the_key_signed_is_verified(pinned: tuple[Path, ...]) -> None:
    """Yes and no; a no counts without a signature, too. Without a key nothing is verified, and that is said."""
    for said in (verdict(), verdict(verdict="deny")):
        assert remote_verdict.line(said, signed(said), pinned).startswith(
            f"signature: verified, by the key {KEY.public.fingerprint}"
        )
        assert remote_verdict.line(said, signed(said), ()) == remote_verdict.NOT_VERIFIED
    assert "none" in remote_verdict.line(verdict(verdict="deny"), "", pinned)


def test_a_yes_that_nobody_signed_is_none(pinned: tuple[Path, ...]) -> None:
    """It could not be found out whether it is allowed."""
    with pytest.raises(UndeterminedError, match="not signed"):
        remote_verdict.line(verdict(), "", pinned)


@pytest.mark.parametrize(
    "other",
    [
        {"verdict": "deny"},
        {"environment": "research"},
        {"artifact": digests.of(b"another image")},
        {"policy_revision": digests.of(b"another policy")},
        {"decided_at": "2026-01-01T00:00:00Z", "valid_until": "2026-01-01T01:00:00Z"},
    ],
)
def test_what_was_signed_of_something_else_proves_nothing(pinned: tuple[Path, ...], other: dict[str, Any]) -> None:
    """Another answer, environment, image or policy, or one whose time is over; nor does another key's signature."""
    said = verdict()
    with pytest.raises(NotVerifiedError):
        remote_verdict.line(said, signed(msgspec.structs.replace(said, **other)), pinned)
    with pytest.raises(NotVerifiedError):
        remote_verdict.line(said, signed(said, keys.create()), pinned)
    with pytest.raises(NotVerifiedError):
        remote_verdict.line(said, "no envelope", pinned)
