"""Reports of `ci` with a server: verdict and findings are the server's, and so is the image of the target branch."""

import json
import subprocess
from pathlib import Path

import pytest
from served import prepare, serving

from workplace import commit, git, run

SETTINGS = 'requests_per_second = 0\n\n[[environment]]\nname = "staging"\nrepositories = ["team/**"]\n'


@pytest.mark.thorough
def test_the_server_knows_the_image_of_the_target_branch(
    home: Path, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The first image has nothing to be compared with, which is said; the next is compared with it by the server."""
    keep = tmp_path_factory.mktemp("keep")
    token = prepare(keep)
    (keep / "settings.toml").write_text(SETTINGS)
    assert run(keep, "key", "generate", "verdict").code == 0
    assert run(home, "key", "generate", "--builder", "ci.example/runner").code == 0
    public = home / "keys/tidewaiter.pub"
    assert run(keep, "key", "import", "runner", public, "--builder", "ci.example/runner").code == 0
    out = keep / "out"
    options = [f"{kind}={out / kind}" for kind in ("markdown", "gitlab-dependency-scanning", "junit")]
    reports = [word for one in options for word in ("--report", one)]
    with serving(keep, token) as served:
        server = {
            "TIDEWAITER_SERVER": f"http://{served.host}",
            "TIDEWAITER_TOKEN": served.token,
            "TIDEWAITER_PLAIN_HTTP": served.host,
            "GITHUB_ACTIONS": "true",
            "GITHUB_HEAD_REF": "topic",
            "GITHUB_BASE_REF": "main",
        }
        first = run(home, "ci", project, *reports, extra=server)
        assert first.code == 0, first.err
        assert "The server knows no image of the target branch main" in (out / "markdown").read_text()
        git(project, "checkout", "-q", "-b", "topic")
        (project / "requirements.in").write_text("urllib3==2.0.5\n")
        assert run(home, "lock", project).code == 0
        commit(project)
        head = subprocess.check_output(["git", "-C", project, "rev-parse", "HEAD"], text=True).strip()
        denied = run(home, "ci", project, *reports, extra={**server, "GITHUB_SHA": head})
        assert denied.code == 1, denied.err
    text = (out / "markdown").read_text()
    assert "denied for staging" in text
    assert "### Since `main`" in text
    assert "packages: 1 added, 1 removed" in text
    assert "in `urllib3 2.0.5`, high" in text
    found = json.loads((out / "gitlab-dependency-scanning").read_bytes())
    assert found["scan"]["status"] == "success"
    assert found["vulnerabilities"]
    assert b"<failure" in (out / "junit").read_bytes()
