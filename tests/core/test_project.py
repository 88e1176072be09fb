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
