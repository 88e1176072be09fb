"""Roles, permissions, and what an identity may with them."""

from pathlib import Path

import pytest

from tidewaiter.access.identity import ANONYMOUS_VIEWER, NOBODY, Identity
from tidewaiter.access.roles import ALLOWED, ROLES, Permission, project_of
from tidewaiter.core.errors import RefusedError, UnauthenticatedError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "roles.md"


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    """Each permission has a row, each role a column, and a mark stands exactly where the role allows it."""
    lines = [line.strip("| ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    header = next(row for row in cells if row[0] == "permission")
    assert header[2:] == list(ROLES)
    written = {row[0].strip("`"): row[2:] for row in cells if row[0].strip("`") in set(Permission)}
    assert set(written) == set(Permission)
    for permission in Permission:
        expected = ["yes" if permission in ALLOWED[role] else "" for role in ROLES]
        assert written[permission] == expected, permission


def test_who_reviews_does_not_push() -> None:
    """Four eyes would be two: no role but the administrator's has both."""
    for role in ROLES:
        if role != "admin":
            assert not {Permission.IMAGE_PUSH, Permission.WAIVER_REVIEW} <= ALLOWED[role]


@pytest.mark.parametrize(
    ("repository", "project"),
    [
        ("registry.example/vision/serving", "vision"),
        ("registry:5000/vision/serving", "vision"),
        ("localhost/vision/serving", "vision"),
        ("vision/serving", "vision"),
        ("vision/deep/er", "vision"),
        ("registry.example/base", "library"),
        ("base", "library"),
    ],
)
def test_the_project_of_a_repository(repository: str, project: str) -> None:
    """The first part behind the host; a single part is of the library."""
    assert project_of(repository) == project


def test_a_role_counts_in_its_project() -> None:
    """What belongs to no project needs a role everywhere; what is known is read with a role anywhere."""
    who = Identity(name="alice", kind="user", roles={"vision": frozenset({"maintainer"})})
    assert who.may(Permission.IMAGE_DELETE, "vision")
    assert not who.may(Permission.IMAGE_DELETE, "speech")
    assert not who.may(Permission.CATALOG_RECORD)
    assert who.may_somewhere(Permission.CATALOG_RECORD)
    assert who.may(Permission.CATALOG_READ)
    assert who.may(Permission.CATALOG_READ, "speech")


def test_a_refusal_says_what_is_missing() -> None:
    """A known identity is refused, an unknown one asked to say who it is."""
    who = Identity(name="alice", kind="user", roles={"*": frozenset({"viewer"})})
    with pytest.raises(RefusedError) as caught:
        who.require(Permission.WAIVER_REVIEW, "vision")
    assert caught.value.code == "forbidden"
    assert "waiver.review in the project vision" in caught.value.message
    assert "security, admin" in caught.value.next_step
    for nobody in (NOBODY, ANONYMOUS_VIEWER):
        with pytest.raises(UnauthenticatedError):
            nobody.require(Permission.WAIVER_REVIEW)
    assert ANONYMOUS_VIEWER.may(Permission.CATALOG_READ)
    assert not NOBODY.may(Permission.CATALOG_READ)
