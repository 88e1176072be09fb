"""Recipes: the shipped one, and what is wrong with others."""

from pathlib import Path

import pytest

from little_archive import RECIPE, little_recipe
from tidewaiter.assembly import recipe
from tidewaiter.assembly.debian import archive
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError


def test_the_shipped_recipe_says_why_it_leaves_things_out() -> None:
    """Every dropped dependency has a reason, every allowed script a fingerprint and the work done in its place."""
    shipped = recipe.load("debian12-python3.11")
    assert shipped.python == "3.11"
    assert [suite.name for suite in shipped.suites] == ["bookworm", "bookworm-updates", "bookworm-security"]
    assert all(drop.reason for drop in shipped.drops)
    assert all(script.work and script.fingerprints for script in shipped.allow_scripts)
    for suite in shipped.suites:
        assert archive.keys(suite.keys)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """A misspelt recipe is an error that names the recipe meant."""
    with pytest.raises(NotFoundError, match=r"no base recipe 'debian12-python3\.1'") as caught:
        recipe.load("debian12-python3.1")
    assert "debian12-python3.11" in caught.value.next_step


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("title =", "tilte =", "tilte"),
        ('packages = ["libone"]', 'packages = ["libone", "dpkg"]', "dpkg is wanted and dropped"),
        ('packages = ["two"]', 'packages = ["libone"]', "'libone' is named twice"),
        ('packages = ["two"]', 'packages = ["Two!"]', "is no package name"),
        ('packages = ["two"]', "packages = []", "groups with packages"),
        ('"LANG=C.UTF-8"', '"LANG"', "is not NAME=value"),
        ('path = "lib"', 'path = "../lib"', "would leave its folder"),
        ('"tmp"', '"/tmp"', "would leave its folder"),
        ("id = 65532", 'id = "x"', "Expected `int`"),
        ('comment = "nonroot"', 'comment = "a:b"', "cannot be written to /etc/passwd"),
        ('name = "little"', 'name = "large"', "calls itself 'large'"),
        ("[[groups]]", "[[groups]", "not TOML"),
    ],
)
def test_a_faulty_recipe_is_refused(old: str, new: str, complaint: str) -> None:
    """Nothing in a recipe is ignored: unknown keys, contradictions and unsafe paths are errors."""
    with pytest.raises(InputError, match=complaint):
        little_recipe(**{old: new})


def test_comments_do_not_change_the_digest() -> None:
    """Only what a recipe says makes locks stale."""
    assert little_recipe("# a remark\n").digest == little_recipe().digest
    assert little_recipe(**{"not in an image": "other"}).digest != little_recipe().digest


def test_recipes_of_ones_own_come_first(tmp_path: Path) -> None:
    """A folder of own recipes is looked into before the shipped ones, and its names are known."""
    (tmp_path / "little.toml").write_text(RECIPE)
    assert recipe.names(tmp_path) == ("debian12-python3.11", "little")
    assert recipe.load("little", own=tmp_path).title == "Little base"


def test_a_huge_recipe_is_refused(tmp_path: Path) -> None:
    """A recipe at the limit is read, one byte more is not."""
    filler = limits.PROJECT_FILE_BYTES - len(RECIPE) - 2
    (tmp_path / "little.toml").write_text(RECIPE + "#" + "x" * filler + "\n")
    assert recipe.load("little", own=tmp_path).name == "little"
    (tmp_path / "little.toml").write_text(RECIPE + "#" + "x" * (filler + 1) + "\n")
    with pytest.raises(LimitError):
        recipe.load("little", own=tmp_path)
