"""`tidewaiter key`, as a user runs it."""

import json
from pathlib import Path

import pytest

from tidewaiter.signing import keys
from workplace import run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home of its own with the key `tidewaiter`."""
    made = run(tmp_path / "home", "key", "generate")
    assert made.code == 0, made.err
    return tmp_path / "home"


def listed(home: Path) -> dict[str, dict[str, object]]:
    done = run(home, "key", "list", "--format", "json")
    assert done.code == 0, done.err
    return {key["name"]: key for key in done.json["keys"]}


@pytest.mark.thorough
def test_a_key_has_the_terms_that_it_was_made_with(place: Path) -> None:
    """Builder, days as the user writes them, and scope with short names of predicate types."""
    options = ["--builder", "gitlab", "--valid-from", "2100-01-01", "--valid-until", "2100-12-31"]
    options += ["--repository", "reg.example/a/*", "--repository", "reg.example/b", "--environment", "staging"]
    done = run(place, "key", "generate", "ci", *options, "--predicate", "spdx", "--format", "json")
    assert done.code == 0, done.err
    key = listed(place)["ci"]
    assert done.json == {**key, "private": str(place / "keys/ci.key"), "public": str(place / "keys/ci.pub")}
    assert (key["state"], key["builder"]) == ("not_yet", "gitlab")
    assert (key["valid_from"], key["valid_until"]) == ("2100-01-01T00:00:00Z", "2101-01-01T00:00:00Z")
    assert key["scope"] == {
        "repositories": ["reg.example/a/*", "reg.example/b"],
        "environments": ["staging"],
        "predicates": ["https://spdx.dev/Document"],
    }
    text = run(place, "key", "list").out
    assert "not yet" in text
    assert "reg.example/a/*, reg.example/b, staging, spdx" in text


@pytest.mark.parametrize(
    "options",
    [
        ["--days", "3", "--valid-until", "2100-01-01"],
        ["--days", "0"],
        ["--days", "999999999"],
        ["--days", "99999999999999"],
        ["--valid-until", "2020-01-01"],
        ["--valid-until", "soon"],
        ["--valid-from", "9999-99-99"],
        ["--valid-until", "9999-12-31"],
        ["--predicate", "sbom"],
        ["--builder", ""],
        ["--environment", "moon"],
    ],
)
def test_terms_that_make_no_sense_are_bad_input(tmp_path: Path, options: list[str]) -> None:
    """Nothing is made, and the exit code is 2."""
    done = run(tmp_path / "home", "key", "generate", "ci", *options)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    assert not list((tmp_path / "home").glob("keys/*"))


@pytest.mark.thorough
def test_rotation_and_revocation_are_seen_in_the_list(place: Path) -> None:
    """The new key has the name, the old one a number and an end; a revoked one says why."""
    before = listed(place)["tidewaiter"]["fingerprint"]
    done = run(place, "key", "rotate", "--overlap", "2", "--format", "json")
    assert done.code == 0, done.err
    ring = listed(place)
    assert done.json == {"new": ring["tidewaiter"], "old": ring["tidewaiter.1"]}
    assert ring["tidewaiter.1"]["fingerprint"] == before != ring["tidewaiter"]["fingerprint"]
    assert (ring["tidewaiter.1"]["retired"], ring["tidewaiter.1"]["state"]) == (True, "in_force")
    assert ring["tidewaiter.1"]["valid_until"] is not None
    gone = run(place, "key", "rotate", "--discard", "--format", "json")
    assert gone.json["old"]["has_private"] is False
    done = run(place, "key", "revoke", "tidewaiter.1", "--reason", "left on a train")
    assert done.code == 0, done.err
    assert "left on a train" in done.out
    key = listed(place)["tidewaiter.1"]
    assert (key["state"], key["reason"]) == ("revoked", "left on a train")
    assert key["revoked_at"] is not None


def test_a_key_that_is_not_here_cannot_be_rotated_or_revoked(place: Path) -> None:
    """It is not found, in words and as JSON; a revocation without a reason is wrong usage."""
    assert run(place, "key", "rotate", "other").code == 2
    done = run(place, "key", "revoke", "other", "--reason", "x", "--format", "json")
    assert (done.code, done.json["error"]["code"]) == (2, "not_found")
    assert run(place, "key", "revoke", "tidewaiter").code == 2
    assert listed(place)["tidewaiter"]["state"] == "in_force"


def test_a_public_key_is_imported_on_terms(tmp_path: Path) -> None:
    """From a file, or from a command that keeps the key; a builder must be named, and a key comes in once."""
    place = tmp_path / "home"
    theirs = keys.create().public
    (tmp_path / "ci.pub").write_bytes(theirs.pem)
    assert run(place, "key", "import", "ci", tmp_path / "ci.pub").code == 2
    line = ["key", "import", "ci", tmp_path / "ci.pub", "--builder", "gitlab", "--predicate", "slsaprovenance1"]
    done = run(place, *line, "--days", "30", "--format", "json")
    assert done.code == 0, done.err
    key = listed(place)["ci"]
    assert done.json == key
    assert (key["fingerprint"], key["has_private"], key["state"]) == (theirs.fingerprint, False, "in_force")
    again = run(place, "key", "import", "twice", tmp_path / "ci.pub", "--builder", "x", "--format", "json")
    assert (again.code, again.json["error"]["code"]) == (2, "key_exists")
    kms = keys.create().public
    (tmp_path / "kms.pem").write_bytes(kms.pem)
    hooked = run(place, "key", "import", "kms", f"hook:sh -c 'cat {tmp_path}/kms.pem'", "--builder", "server")
    assert hooked.code == 0, hooked.err
    assert listed(place)["kms"]["fingerprint"] == kms.fingerprint


def test_listing_makes_no_home(tmp_path: Path) -> None:
    """Looking where nothing is finds no keys, and leaves nothing behind."""
    done = run(tmp_path / "home", "key", "list", "--format", "json")
    assert (done.code, json.loads(done.out)) == (0, {"keys": []})
    assert not (tmp_path / "home").exists()
