"""`[build]` in `tidewaiter.toml`."""

from pathlib import Path

import pytest

from tidewaiter.core import project
from tidewaiter.core.errors import ProjectError

GOOD = """\
[image]
name = "vision/legacy"
purpose = "training"
environment = "research"

[build]
dockerfile = "docker/Dockerfile"
target = "final"
arguments = { VERSION = "1" }
secrets = { tok = "MY_TOKEN" }
"""


def _load(folder: Path, text: str) -> project.Project:
    (folder / project.FILE_NAME).write_text(text)
    return project.load(folder)


def test_good_file(tmp_path: Path) -> None:
    """All keys are read, and the project has neither base nor Python."""
    loaded = _load(tmp_path, GOOD)
    assert loaded.file.build == project.BuildSection(
        dockerfile="docker/Dockerfile", target="final", arguments={"VERSION": "1"}, secrets={"tok": "MY_TOKEN"}
    )
    with pytest.raises(ProjectError, match="stands in the place of"):
        _ = loaded.base


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"docker/Dockerfile"', '"../Dockerfile"', ":7: .*not a path inside the project"),
        ("target = ", 'context = "/"\ntarget = ', ":8: .*not a path inside the project"),
        ('"final"', '"a b"', ":8: .*no name of a stage"),
        ("VERSION", '"--x"', ":9: .*no pair of names"),
        ('"1"', '"\\u0000"', ":9: .*no pair of names"),
        ('"MY_TOKEN"', '"literal secret"', ":10: .*no pair of names"),
        ("[build]", '[base]\nuse = "debian12-python3.11"\n[build]', ":6: .base. does not go together"),
        ("[build]", '[python]\nversion = "3.11"\nrequirements = "r"\n[build]', ":6: .python. does not go together"),
        ("[build]", '[system]\npackages = ["x"]\n[build]', ":6: .system. does not go together"),
        ("[build]", "[app]\npackage = true\n[build]", ":7: .app. package does not go together"),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    """What cannot be built, or would be ignored, is an error with its line."""
    with pytest.raises(ProjectError, match=message):
        _load(tmp_path, GOOD.replace(old, new, 1))
