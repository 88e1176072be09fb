"""tidewaiter.toml: what is accepted, and that every refusal names file, line and what to write."""

from pathlib import Path

import pytest

from tidewaiter.core import limits, project
from tidewaiter.core.errors import ProjectError

GOOD = """\
[image]
name = "vision/mnist"
purpose = "training"
environment = "staging"

[base]
use = "debian12-python3.11"

[python]
version = "3.11"
requirements = "requirements.in"

[app]
include = ["train.py"]
entrypoint = ["python", "/app/train.py"]
"""


def load(folder: Path, text: str) -> project.Project:
    (folder / "tidewaiter.toml").write_text(text)
    return project.load(folder)


def test_good_file(tmp_path: Path) -> None:
    """A complete file gives typed values, and both locks lie where the documentation says."""
    loaded = load(tmp_path, GOOD)
    assert loaded.file.image.name == "vision/mnist"
    assert loaded.file.app.entrypoint == ("python", "/app/train.py")
    assert loaded.python_lock == tmp_path / "pylock.toml"
    assert loaded.base_lock == tmp_path / "base.lock"


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "hint"),
    [
        ('purpose = "training"', 'purpos = "training"', 3, "unknown key [image] purpos", "Did you mean purpose?"),
        ('purpose = "training"', 'purpose = "train"', 3, "[image] purpose", "project-file.md"),
        ('version = "3.11"', "version = 3.11", 10, "[python] version", "project-file.md"),
        ('version = "3.11"', 'version = "3.11.7"', 10, "[python] version", '"3.11"'),
        ("[base]", "[bass]", 6, "unknown key bass", "Did you mean base?"),
        ('use = "debian12-python3.11"', "", 6, "[base] use is missing", "Add it"),
        ('name = "vision/mnist"', 'name = "Vision/Mnist"', 2, "not a repository name", "lower-case"),
        ('include = ["train.py"]', 'include = ["../secret"]', 14, "inside the project", "without `..`"),
        ('include = ["train.py"]', 'include = "train.py"', 14, "[app] include", "project-file.md"),
        ('["python", "/app/train.py"]', "[]", 15, "entrypoint is empty", "Name the program"),
        ('["python", "/app/train.py"]', '[""]', 15, "entrypoint is empty", "Name the program"),
        ('["python", "/app/train.py"]', '["a\\u0000b"]', 15, "has a NUL", "Name the program"),
        ('requirements = "requirements.in"', 'requirements = "/etc/passwd"', 11, "inside the project", "without"),
        ("[python]", "[python", 9, "not TOML", "syntax"),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, old: str, new: str, line: int, message: str, hint: str) -> None:
    """Every mistake is reported at its line with the cause and the nearest valid thing."""
    assert old in GOOD
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert f"tidewaiter.toml:{line}:" in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.next_step


def test_missing_table(tmp_path: Path) -> None:
    """A file without [app] says that the table is missing."""
    with pytest.raises(ProjectError, match=r"\[app\] is missing"):
        load(tmp_path, GOOD[: GOOD.index("[app]")])


def test_no_file(tmp_path: Path) -> None:
    """A folder without the file is an error that names an example."""
    with pytest.raises(ProjectError, match="there is no such file") as caught:
        project.load(tmp_path)
    assert "examples/mnist" in caught.value.next_step


def test_size_limit_from_both_sides(tmp_path: Path) -> None:
    """A file of exactly the limit is read, one byte more is refused."""
    padding = "#" * (limits.PROJECT_FILE_BYTES - len(GOOD))
    assert load(tmp_path, GOOD + padding).file.image.purpose == "training"
    with pytest.raises(ProjectError, match="over"):
        load(tmp_path, GOOD + padding + "#")


def _index(tmp_path: Path, **changes: str) -> project.Project:
    values = {"name": '"co"', "url": '"https://py.example.com/simple"', "packages": '["one", "two"]'} | changes
    section = "".join(f"{key} = {value}\n" for key, value in values.items())
    return load(tmp_path, GOOD.replace("[app]", f"[[python.indexes]]\n{section}\n[app]", 1))


def test_private_indexes_are_read(tmp_path: Path) -> None:
    """An index has a name, an address and the packages that come from it."""
    (index,) = _index(tmp_path).python.indexes
    assert (index.name, index.url, index.packages) == ("co", "https://py.example.com/simple", ("one", "two"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": '"https://user:secret@py.example.com/simple"'}, "has credentials in it"),
        ({"url": '"ftp://py.example.com/simple"'}, "not the http(s) address"),
        ({"url": '"https://py.example.com/simple?token=1"'}, "not the http(s) address"),
        ({"url": '"https://"'}, "not the http(s) address"),
        ({"name": '"a/b"'}, "used twice or has other characters"),
        ({"packages": "[]"}, "names no packages"),
        ({"packages": '["a b"]'}, "not the name of a package"),
    ],
)
def test_malformed_indexes_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    """Names, addresses and packages are checked before anything is sent; a password is not repeated."""
    with pytest.raises(ProjectError) as caught:
        _index(tmp_path, **changes)
    assert "tidewaiter.toml:13: [[python.indexes]]" in caught.value.message
    assert message in caught.value.message
    assert "secret" not in str(caught.value)


def test_a_package_comes_from_one_index(tmp_path: Path) -> None:
    """Two indexes that name one package, or have one name, leave open where it comes from."""
    for other in ('name = "two"\nurl = "https://e.org"\npackages = ["Two"]\n', 'name = "co"\nurl = "https://e.org"\n'):
        more = other if "packages" in other else other + 'packages = ["three"]\n'
        with pytest.raises(ProjectError, match=r"is named by co and by two|used twice"):
            _index(tmp_path, packages=f'["one", "two"]\n[[python.indexes]]\n{more}')


def test_each_architecture_has_its_lock(tmp_path: Path) -> None:
    """amd64 has the plain name, others their own, as PEP 751 allows."""
    found = load(tmp_path, GOOD)
    assert found.python_lock_for("amd64") == found.python_lock
    assert found.python_lock_for("arm64").name == "pylock.arm64.toml"


SERVING = """\
[image]
name = "vision/serving"
purpose = "serving"
environment = "staging"

[base]
use = "docker://registry.example.com/serving@sha256:0"

[[base.take]]
image = "docker://registry.example.com/tools@sha256:1"
paths = ["/usr/bin/tool"]

[app]
user = "65532:65532"

[[models]]
name = "mnist"
path = "model"
"""


def test_a_base_that_exists_needs_neither_python_nor_app(tmp_path: Path) -> None:
    """A project of an image and a model is whole; the model's version is 1 and its digest open."""
    found = load(tmp_path, SERVING)
    assert found.base.is_image
    assert found.file.python is None
    assert found.file.app.entrypoint == ()
    assert [(one.name, one.version, one.digest) for one in found.file.models] == [("mnist", 1, None)]
    assert not load(tmp_path, GOOD).base.is_image


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('paths = ["/usr/bin/tool"]', "paths = []", 11, "is no absolute path"),
        ('"/usr/bin/tool"', '"usr/bin/tool"', 11, "is no absolute path"),
        ('"/usr/bin/tool"', '"/usr/../etc"', 11, "is no absolute path"),
        ('user = "65532:65532"', 'user = "65532:"', 14, "is no user"),
        ('user = "65532:65532"', 'user = "Some One"', 14, "is no user"),
        ('path = "model"', 'path = "../model"', 18, "is not a path inside the project"),
        ('path = "model"', 'path = "model"\nversion = -1', 17, "is no name and version"),
        ('path = "model"', 'path = "model"\ndigest = "sha256:00"', 19, "is no SHA-256"),
        ('name = "mnist"', 'name = "a/b"', 17, "is no name and version"),
    ],
)
def test_wrong_values_of_what_is_served_are_named(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    """Paths, users, versions and digests that cannot be meant are errors with file and line."""
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, SERVING.replace(old, new))
    assert caught.value.message.startswith(f"{tmp_path}/tidewaiter.toml:{line}: ")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("source", "right"),
    [
        ("https://git.example.com/a", True),
        ("ssh://git@git.example.com:22/a", True),
        ("https://bob:hunter2@git.example.com/a", False),
        ("https://token@git.example.com/a", False),
        ("ssh://git:hunter2@git.example.com/a", False),
    ],
)
def test_the_source_has_no_password(tmp_path: Path, source: str, right: bool) -> None:
    """An address with a password would stand in the image; it is refused, and not repeated."""
    text = GOOD.replace("[image]", f'[image]\nsource = "{source}"', 1)
    if right:
        assert load(tmp_path, text).file.image.source == source
        return
    with pytest.raises(ProjectError, match=r"tidewaiter\.toml:2: \[image\] source") as caught:
        load(tmp_path, text)
    assert "hunter2" not in caught.value.message
