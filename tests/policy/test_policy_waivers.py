"""Waivers before any decision: asked for, approved, revoked."""

import datetime as dt
from typing import Any

import msgspec
import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.policy import waivers
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.waivers import Waiver

NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
LONGEST = 180 * DAY


def scope(**changes: Any) -> Scope:
    """The scope of a waiver of one CVE of Pillow for the images of one team."""
    values: dict[str, Any] = {
        "environments": ("production",),
        "advisory": "CVE-2024-34069",
        "package": "pkg:pypi/pillow",
        "versions": ">=10,<11",
        "image": "vision/*",
    }
    return Scope(**{**values, **changes})


def asked(about: Scope | None = None, **changes: Any) -> Waiver:
    """A waiver that Anna asks for, for thirty days."""
    values: dict[str, Any] = {
        "owner": "Anna",
        "reason": "The image opens no pictures of strangers.",
        "requested_by": "Anna",
        "at": NOW,
        "expires_at": NOW + 30 * DAY,
        "longest": LONGEST,
    }
    return waivers.request(about or scope(), default_pack(), **{**values, **changes})


def test_the_id_names_what_was_asked() -> None:
    """The same request has the same id; anything else in it, another one."""
    first = asked()
    assert first.id == asked().id
    assert first.id.startswith("W-")
    others = [asked(scope(image="vision/**")), asked(reason="Other."), asked(owner="Bert"), asked(at=NOW + DAY)]
    assert len({first.id, *(other.id for other in others)}) == 5


@pytest.mark.parametrize(
    "advisory", ["CVE-2024-34069", "GHSA-2g68-c3qc-8985", "PYSEC-2024-1", "DSA-5000-1", "RHSA-2024:0001"]
)
def test_ids_of_databases_are_taken(advisory: str) -> None:
    """Ids as the databases write them."""
    assert asked(scope(advisory=advisory)).scope.advisory == advisory


@pytest.mark.parametrize(
    "wrong",
    [
        {"advisory": ""},
        {"rule": "image.no-shell"},
        {"advisory": "", "rule": "image.no-shel", "package": "", "versions": ""},
        {"advisory": "CVE-2024"},
        {"advisory": "cve-2024-34069"},
        {"advisory": "CVE-2024-340 69"},
        {"advisory": "GHSA-2g68-c3qc-898"},
        {"advisory": "everything"},
        {"advisory": "CVE-2024-34069\x1b[2J"},
        {"package": ""},
        {"package": "pillow"},
        {"package": "pkg:pypi/pillow@10.2.0"},
        {"package": "pkg:deb/debian/libc6?arch=amd64", "versions": ""},
        {"versions": "10"},
        {"versions": ">=ten"},
        {"package": "pkg:generic/x"},
        {"advisory": "", "rule": "advisories.coverage"},
        {"advisory": "", "rule": "image.no-shell", "package": "pkg:npm/x", "versions": ""},
        {"image": ""},
        {"image": "Vision/*"},
        {"image": "vision/***"},
        {"image": "registry.example.org:5000/vision/*"},
        {"image": "a" * 256},
        {"image": "*"},
        {"image": "**/*"},
        {"environments": ()},
    ],
    ids=str,
)
def test_scopes_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """Nothing, two things, an unknown rule, a malformed id, package, range or pattern is an input error."""
    with pytest.raises(InputError):
        asked(scope(**wrong))


def test_everything_in_production_is_said_in_so_many_words() -> None:
    """`**` is taken for production; patterns that only amount to it are taken elsewhere alone."""
    assert asked(scope(image="**")).scope.image == "**"
    assert asked(scope(image="**/*", environments=("staging",))).scope.image == "**/*"


def test_a_rule_that_cannot_be_waived_is_refused() -> None:
    """The rule that keeps local builds out of production has no exceptions."""
    with pytest.raises(RefusedError, match="cannot be waived"):
        asked(scope(advisory="", rule="build.builder-registered", package="", versions=""))


@pytest.mark.parametrize("field", ["owner", "reason", "requested_by"])
@pytest.mark.parametrize("text", ["", "  \t", "x" * 2001, "a\nb", "a\u202eb", "a\x1b[2J"])
def test_texts_say_something_that_can_be_read(field: str, text: str) -> None:
    """Empty, endless and invisible texts are refused."""
    with pytest.raises(InputError):
        asked(None, **{field: text})


def test_the_end_is_bounded_from_both_sides() -> None:
    """An end that is past, or further away than allowed, is refused; elsewhere than in production it may be later."""
    assert asked(expires_at=NOW + LONGEST).expires_at == NOW + LONGEST
    for wrong in (NOW - DAY, NOW, NOW + LONGEST + dt.timedelta(seconds=1)):
        with pytest.raises(InputError, match="would be over or last too long"):
            asked(expires_at=wrong)
    elsewhere = scope(environments=("research", "staging"))
    assert asked(elsewhere, expires_at=NOW + dt.timedelta(days=limits.WAIVER_DAYS)).scope == elsewhere
    with pytest.raises(InputError):
        asked(elsewhere, expires_at=NOW + dt.timedelta(days=limits.WAIVER_DAYS + 1))


def test_states_follow_one_another() -> None:
    """Requested, in force, expired; revoked for good."""
    one = asked()
    assert one.state(NOW) == "requested"
    approved = waivers.approve(one, "Bert", NOW + DAY)
    assert [approved.state(NOW + days * DAY) for days in (0, 1, 29, 30)] == [
        "requested",
        "in_force",
        "in_force",
        "expired",
    ]
    revoked = waivers.revoke(approved, "Cleo", "Fixed.", NOW + 2 * DAY)
    assert [revoked.state(NOW + days * DAY) for days in (0, 29, 30)] == ["revoked"] * 3
    assert (revoked.reviewer, revoked.revoked_by, revoked.revocation) == ("Bert", "Cleo", "Fixed.")


@pytest.mark.parametrize("reviewer", ["Anna", "anna", " ANNA ", "\uff21nna", "An na", "Olga"])
def test_two_people_stand_behind_a_waiver_for_production(reviewer: str) -> None:
    """Neither the owner nor whoever asked may review it, however they write their name."""
    one = asked(owner="Olga", requested_by="Anna")
    with pytest.raises(RefusedError, match="for production"):
        waivers.approve(one, reviewer, NOW)
    assert waivers.approve(one, "Bert", NOW).reviewer == "Bert"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ann", " ann ", True),
        ("\uff21\uff2e\uff2e", "ann", True),
        ("\u0430nn", "ann", True),
        ("\u0410NN", "ann", True),
        ("ann\ufe0f", "ann", True),
        ("ann\u2800", "ann", True),
        ("Jos\u00e9", "jose", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("\u0418\u0432\u0430\u043d", "\u0438\u0432\u0430\u043d", True),
        ("ann", "bob", False),
        ("\u0410\u043d\u043d\u0430", "Anna", False),
        ("\u738b\u4f1f", "\u738b\u82b3", False),
    ],
)
def test_a_name_that_looks_like_another_is_no_second_person(one: str, other: str, same: bool) -> None:
    """Case, width, blanks, accents, unseen characters and look-alike letters make no other person."""
    assert waivers.same_person(one, other) is same
    assert waivers.same_person(other, one) is same


@pytest.mark.parametrize("name", ["", " ", "ann\u200b", "ann\u034f", "\u3164", "--", "a" * 101, "a\nb"])
def test_a_person_has_a_name_that_is_seen(name: str) -> None:
    """Nothing, too much, and what nobody sees, is no name."""
    with pytest.raises(InputError):
        waivers.person(name)


def test_one_person_is_enough_elsewhere() -> None:
    """For staging the reviewer may be the owner; the name is kept all the same."""
    assert waivers.approve(asked(scope(environments=("staging",))), "Anna", NOW).reviewer == "Anna"


def test_what_is_over_is_not_approved_or_revoked_again() -> None:
    """A second approval, one after the end or after a revocation, and a second revocation are refused."""
    one = asked()
    approved = waivers.approve(one, "Bert", NOW)
    revoked = waivers.revoke(one, "Anna", "Mistake.", NOW)
    for wrong, when in ((approved, NOW), (approved, NOW - DAY), (one, NOW + 30 * DAY), (revoked, NOW)):
        with pytest.raises(RefusedError, match="already"):
            waivers.approve(wrong, "Cleo", when)
    with pytest.raises(RefusedError, match="already"):
        waivers.revoke(revoked, "Anna", "Again.", NOW)
    with pytest.raises(InputError):
        waivers.revoke(one, "Anna", " ", NOW)


def test_json_is_read_back() -> None:
    """A waiver in JSON is the same waiver."""
    approved = waivers.approve(asked(), "Bert", NOW)
    assert msgspec.json.decode(msgspec.json.encode(approved), type=Waiver) == approved
