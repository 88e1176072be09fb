"""`ci` inside a CI: reports of what was allowed, denied and not built; what the CI says, in catalog and provenance."""

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tidewaiter.pipelines.continuous.reports import KINDS
from workplace import commit, git, run, small_project


def head(project: Path) -> str:
    return subprocess.check_output(["git", "-C", project, "rev-parse", "HEAD"], text=True).strip()


def gitlab(project: Path, **more: str) -> dict[str, str]:
    """Variables of a job of a merge request into main."""
    return {
        "GITLAB_CI": "true",
        "CI_COMMIT_SHA": head(project),
        "CI_JOB_URL": "https://gitlab.example.org/team/small/-/jobs/7",
        "CI_PIPELINE_URL": "https://gitlab.example.org/team/small/-/pipelines/3",
        "CI_MERGE_REQUEST_IID": "12",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "topic",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        **more,
    }


def wanted(folder: Path) -> list[str]:
    """Options for every report."""
    return [word for kind in KINDS for word in ("--report", f"{kind}={folder / kind}")]


def status(folder: Path) -> str:
    return str(json.loads((folder / "gitlab-dependency-scanning").read_bytes())["scan"]["status"])


@pytest.mark.thorough
def test_a_merge_request_sees_what_it_changes(tmp_path: Path, home: Path, project: Path) -> None:
    """The summary compares with the newest image of the target branch; catalog and provenance have what the CI said."""
    run(home, "key", "generate")
    assert run(home, "ci", project).code == 0
    git(project, "checkout", "-q", "-b", "topic")
    (project / "requirements.in").write_text("six==1.16.0\n")
    assert run(home, "lock", project).code == 0
    commit(project)
    git(project, "checkout", "-q", "--detach")
    statement = tmp_path / "statement.json"
    out = tmp_path / "out"
    done = run(home, "ci", project, *wanted(out), "--provenance", statement, extra=gitlab(project))
    assert done.code == 0, done.err
    text = (out / "markdown").read_text()
    assert "### Since `main`" in text
    assert "packages: 1 changed" in text
    assert "| `six` (python) | `1.17.0` | `1.16.0` |" in text
    assert "[GitLab CI](<https://gitlab.example.org/team/small/-/pipelines/3>)" in text
    assert status(out) == "success"
    with sqlite3.connect(home / "catalog.db") as database:
        (branch, ci) = database.execute("SELECT branch, ci FROM build ORDER BY id DESC LIMIT 1").fetchone()
        (nothing,) = database.execute("SELECT ci FROM build ORDER BY id LIMIT 1").fetchone()
    said = json.loads(ci)
    assert (branch, said["change"], said["target"], said["author"]) == ("topic", "12", "main", "Test")
    assert nothing is None
    metadata = json.loads(statement.read_bytes())["predicate"]["runDetails"]["metadata"]
    assert metadata["invocationId"] == "https://gitlab.example.org/team/small/-/jobs/7"
    assert metadata["tidewaiter_ci"]["pipeline_url"] == "https://gitlab.example.org/team/small/-/pipelines/3"
    shown = run(home, "catalog", "show", f"team/small:{head(project)[:12]}", "--format", "json")
    assert shown.code == 0, shown.err


def test_a_denial_has_all_reports(tmp_path: Path, home: Path) -> None:
    """A denied image exits with 1, and every report says why; that no image of the target branch is known is said."""
    project = small_project(tmp_path / "project", home, requirements="urllib3==2.0.5\n")
    run(home, "key", "generate")
    done = run(home, "ci", project, *wanted(tmp_path), extra=gitlab(project))
    assert done.code == 1, done.err
    text = (tmp_path / "markdown").read_text()
    assert "denied for staging" in text
    assert "### What denies it" in text
    assert "no image of the target branch main is known here" in text
    assert b"<failure" in (tmp_path / "junit").read_bytes()
    found = json.loads((tmp_path / "gitlab-dependency-scanning").read_bytes())
    assert found["scan"]["status"] == "success"
    assert {one["location"]["dependency"]["package"]["name"] for one in found["vulnerabilities"]} == {"urllib3"}
    results = [one for run_ in json.loads((tmp_path / "sarif").read_bytes())["runs"] for one in run_["results"]]
    assert any(one["level"] == "error" and "urllib3" in one["message"]["text"] for one in results)


@pytest.mark.parametrize(("change", "code"), [("stale lock", 2), ("secret", 1)])
@pytest.mark.thorough
def test_what_was_not_built_has_reports(tmp_path: Path, home: Path, project: Path, change: str, code: int) -> None:
    """A stale lock and a secret in the sources end the way before the build; the reports are those of a failed scan."""
    run(home, "key", "generate")
    if change == "secret":
        private = run(tmp_path / "other", "key", "generate", "--format", "json").json["private"]
        (project / "stolen.pem").write_text(Path(private).read_text())
        (project / "tidewaiter.toml").write_text(
            (project / "tidewaiter.toml").read_text() + '[static]\nfail_on = ["secrets"]\n'
        )
    else:
        (project / "requirements.in").write_text("six==1.16.0\n")
    commit(project)
    done = run(home, "ci", project, *wanted(tmp_path))
    assert done.code == code, done.err
    assert status(tmp_path) == "failure"
    assert "not built" in (tmp_path / "markdown").read_text() or code == 1
    assert b"BEGIN" not in b"".join((tmp_path / kind).read_bytes() for kind in KINDS)


@pytest.mark.thorough
def test_another_image_is_named(tmp_path: Path, home: Path, project: Path) -> None:
    """`--against` compares with that image, in or outside of a CI."""
    run(home, "key", "generate")
    assert run(home, "ci", project).code == 0
    first = f"team/small:{head(project)[:12]}"
    (project / "main.py").write_text("print(1)\n")
    commit(project)
    out = tmp_path / "summary.md"
    done = run(home, "ci", project, "--report", f"markdown={out}", "--against", first)
    assert done.code == 0, done.err
    assert "packages: the same" in out.read_text()


def test_a_wrong_report_is_found_before_the_work(home: Path, project: Path) -> None:
    """A report that nobody knows costs no build."""
    done = run(home, "ci", project, "--report", "pdf=x")
    assert done.code == 2
    assert "markdown" in done.err
    assert "build" not in done.err
