"""Recipes: the shipped one, and what is wrong with others."""

from pathlib import Path

import pytest

from little_archive import RECIPE, little_recipe
from tidewaiter.assembly import recipe
from tidewaiter.assembly.debian import signature
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
        assert signature.keys(suite.keys)


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
    assert recipe.names(tmp_path) == (*recipe.names(), "little")
    assert recipe.load("little", own=tmp_path).title == "Little base"


def test_a_huge_recipe_is_refused(tmp_path: Path) -> None:
    """A recipe at the limit is read, one byte more is not."""
    filler = limits.PROJECT_FILE_BYTES - len(RECIPE) - 2
    (tmp_path / "little.toml").write_text(RECIPE + "#" + "x" * filler + "\n")
    assert recipe.load("little", own=tmp_path).name == "little"
    (tmp_path / "little.toml").write_text(RECIPE + "#" + "x" * (filler + 1) + "\n")
    with pytest.raises(LimitError):
        recipe.load("little", own=tmp_path)


@pytest.mark.parametrize("name", recipe.names())
def test_every_shipped_recipe_is_whole(name: str) -> None:
    """Each can be read, its keys are there, and only the debug twin is not for production."""
    shipped = recipe.load(name)
    assert all(signature.keys(suite.keys) for suite in shipped.suites)
    assert all(drop.reason for drop in shipped.drops)
    assert {account.name: account.id for account in shipped.accounts} == {"root": 0, "nobody": 65534, "nonroot": 65532}
    assert shipped.production == (not name.endswith("-debug"))
    assert (not shipped.python) == name.endswith("-static")


def test_the_shipped_recipe_keeps_its_digest() -> None:
    """Locks name it: a key that is new to recipes must not make every lock stale."""
    digest = "sha256:11248ef0e81aa129da1b14364cc83824c3e3050903425657cfde2b0802842e8a"
    assert recipe.load("debian12-python3.11").digest == digest


def test_a_twin_says_only_what_differs(tmp_path: Path) -> None:
    """`extends`: lists are appended to those of the recipe below, other values replace."""
    (tmp_path / "little.toml").write_text(RECIPE)
    (tmp_path / "twin.toml").write_text(
        'extends = "little"\nname = "twin"\ntitle = "Twin"\nproduction = false\n'
        '[[groups]]\nname = "more"\ntitle = "More"\npackages = ["three"]\n'
    )
    found = recipe.load("twin", own=tmp_path)
    assert (found.name, found.title, found.python, found.production) == ("twin", "Twin", "3.11", False)
    assert [group.name for group in found.groups] == ["system", "tools", "more"]
    assert found.drops == recipe.load("little", own=tmp_path).drops


@pytest.mark.parametrize("below", ["'twin'", "'other'", "7"])
def test_recipes_that_extend_one_another_are_refused(tmp_path: Path, below: str) -> None:
    """A circle, or something that is no name, is an error; a recipe that is not there is another."""
    (tmp_path / "twin.toml").write_text(f'extends = {below}\nname = "twin"\ntitle = "Twin"\n')
    (tmp_path / "other.toml").write_text('extends = "twin"\nname = "other"\ntitle = "Other"\n')
    with pytest.raises(InputError, match="in a circle") as caught:
        recipe.load("twin", own=tmp_path)
    assert caught.value.code == "bad_recipe"


def test_what_a_recipe_was_read_as_is_known_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a recipe that stands on its own; a changed one, and one on top of another, are read."""
    memory = tmp_path / "memory"
    for name in recipe.names():
        assert recipe.load(name, known=memory) == recipe.load(name, known=memory) == recipe.load(name)
    (tmp_path / "little.toml").write_text(RECIPE)
    (tmp_path / "twin.toml").write_text('extends = "little"\nname = "twin"\ntitle = "Twin"\n')
    little = recipe.load("little", own=tmp_path, known=memory)
    assert recipe.load("twin", own=tmp_path, known=memory).groups == little.groups
    (tmp_path / "little.toml").write_text(RECIPE.replace('title = "', 'title = "A ', 1))
    for name in ("little", "twin"):
        assert recipe.load(name, own=tmp_path, known=memory) == recipe.load(name, own=tmp_path)
    changed = recipe.load("little", own=tmp_path, known=memory)
    assert changed.title == f"A {little.title}"

    def forbidden(*_: object) -> None:
        raise AssertionError("the document is read again")

    with monkeypatch.context() as patched:
        patched.setattr(recipe, "_toml", forbidden)
        assert recipe.load("little", own=tmp_path, known=memory) == changed
    # What cannot be remembered is read.
    for note in list(memory.iterdir()):
        note.unlink()
        note.mkdir()
    assert recipe.load("little", own=tmp_path, known=memory) == changed
    assert recipe.load("little", own=tmp_path, known=tmp_path / "little.toml") == changed


def test_a_snapshot_is_a_time_or_an_address() -> None:
    """Anything else is refused; a recipe without one has none."""
    assert not little_recipe().snapshot
    for good in ("20260901T000000Z", "https://archive.example.org/frozen"):
        assert little_recipe(**{'name = "little"': f'name = "little"\nsnapshot = "{good}"'}).snapshot == good
    with pytest.raises(InputError, match="no time like"):
        little_recipe(**{'name = "little"': 'name = "little"\nsnapshot = "yesterday"'})


def test_the_groups_name_of_projects_is_taken() -> None:
    """A recipe cannot have the group in which a project's own packages are locked."""
    with pytest.raises(InputError, match="group of a project's own packages"):
        little_recipe(**{'name = "tools"': f'name = "{recipe.SYSTEM}"'})
