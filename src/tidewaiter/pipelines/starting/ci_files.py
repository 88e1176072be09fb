"""The file that makes a CI build the image: one template for each CI, which is the project's own once it is written."""

from importlib import resources
from pathlib import Path
from typing import Literal

from tidewaiter import __version__
from tidewaiter.pipelines.starting.planning import File

Ci = Literal["gitlab", "jenkins", "github"]
_PLACES: dict[Ci, tuple[str, str]] = {
    "gitlab": (".gitlab-ci.yml", "gitlab-ci.yml"),
    "github": (".github/workflows/image.yml", "github-workflow.yml"),
    "jenkins": ("Jenkinsfile", "Jenkinsfile"),
}
"""Where the file lies, and its template."""
NAMES: dict[Ci, str] = {"gitlab": "GitLab CI", "jenkins": "Jenkins", "github": "GitHub Actions"}


def file(ci: Ci, folder: str) -> File:
    """The file of `ci`, for a project that lies in `folder` of its repository (`.` for all of it)."""
    place, template = _PLACES[ci]
    content = resources.files(__package__).joinpath(f"templates/{template}").read_text(encoding="utf-8")
    return File(place, content.replace("@VERSION@", __version__).replace("@PROJECT@", folder).encode())


def fitting(remote: str, folder: Path) -> Ci | None:
    """The CI that the repository likely runs in: by the host of its remote, or a file that is there already."""
    host = remote.partition("/")[0]
    if (folder / "Jenkinsfile").exists():
        return "jenkins"
    if host == "github.com" or (folder / ".github").is_dir():
        return "github"
    if "gitlab" in host or (folder / ".gitlab-ci.yml").exists():
        return "gitlab"
    return None
