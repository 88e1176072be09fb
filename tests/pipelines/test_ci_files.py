"""The files of a CI that `init` writes: what schemas, parsers and a real runner say of them, what they leave out."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from servers import Tool
from tidewaiter import __version__
from tidewaiter.pipelines.continuous.reports import KINDS
from tidewaiter.pipelines.starting import ci_files
from tidewaiter.pipelines.starting.ci_files import Ci
from workplace import commit, git, run

CIS: tuple[Ci, ...] = get_args(Ci)


def content(ci: Ci) -> str:
    return ci_files.file(ci, ".").content.decode()


@pytest.mark.parametrize("ci", CIS)
def test_every_file_runs_the_command(ci: Ci) -> None:
    """Each names this version, writes reports that exist, and has nothing left to fill in."""
    text = content(ci)
    assert f"tidewaiter=={__version__}" in text
    assert not re.search(r"@[A-Z]+@", text)
    assert set(re.findall(r"--report ([a-z-]+)=", text)) <= set(KINDS)
    assert "tidewaiter ci . " in text
    assert ci_files.file(ci, "sub/app").content.decode().count("tidewaiter ci sub/app ") == 1


@pytest.mark.parametrize("ci", CIS)
def test_no_file_prints_a_secret(ci: Ci) -> None:
    """No step traces its commands or echoes a key or password; nothing that decides comes out of a cache."""
    text = content(ci)
    assert not re.search(r"set -x|\benv\b *$|printenv|echo [^\n]*(?:KEY|PASSWORD|TOKEN)", text, re.MULTILINE)
    cached = re.findall(r"^\s*-? ?(\.tidewaiter/\S+)$", text, re.MULTILINE)
    assert {path for path in cached if "home" in path} <= {
        ".tidewaiter/home/cache/debs",
        ".tidewaiter/home/cache/wheels",
    }


def workflow() -> dict[str, Any]:
    """The workflow as YAML 1.2 reads it: `on` is a word there."""
    document = yaml.safe_load(content("github"))
    return {"on" if key is True else key: value for key, value in document.items()}


def test_the_workflow_fits_its_schema() -> None:
    """The workflow is what SchemaStore's schema of GitHub workflows takes."""
    schema = json.loads((Path(__file__).parent / "schemas" / "github-workflow.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(workflow())


def test_actions_are_pinned_by_commit() -> None:
    """Every action is a commit, with its version beside it; the job may read the code and nothing more."""
    used = [step["uses"] for step in workflow()["jobs"]["image"]["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", one) for one in used)
    assert len(re.findall(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", content("github"), re.MULTILINE)) == len(used)
    assert workflow()["permissions"] == {"contents": "read"}


def test_the_jenkinsfile_is_a_declarative_pipeline() -> None:
    """Blocks are balanced outside of texts, and the sections are those that Declarative Pipeline knows."""
    text = re.sub(r"'''.*?'''|'[^'\n]*'|\"[^\"\n]*\"|//[^\n]*", "", content("jenkins"), flags=re.DOTALL)
    depth, sections = 0, []
    for word in re.findall(r"\w+(?=\s*\{)|[{}]", text):
        if word == "{":
            depth += 1
        elif word == "}":
            depth -= 1
            assert depth >= 0
        elif depth == 1:
            sections.append(word)
    assert depth == 0
    assert re.match(r"\s*pipeline\s*\{\s*agent any\b", text)
    assert sections == ["options", "environment", "stages", "post"]


@pytest.mark.interop
def test_a_groovy_parser_takes_the_jenkinsfile(tmp_path: Path, tool: Tool) -> None:
    """The Jenkinsfile is Groovy; with a brace less it is not."""
    (tmp_path / "good").write_text(content("jenkins"))
    (tmp_path / "bad").write_text(content("jenkins").replace("stages {", "stages", 1))
    parse = tool("groovy-parse")
    assert subprocess.run([parse, tmp_path / "good"], check=False).returncode == 0
    assert subprocess.run([parse, tmp_path / "bad"], check=False, capture_output=True).returncode == 1


@pytest.mark.interop
@pytest.mark.parametrize("requirement", ["six==1.17.0", "urllib3==2.0.5"])
def test_gitlab_runs_the_job(tmp_path: Path, home: Path, project: Path, tool: Tool, requirement: str) -> None:
    """gitlab-ci-local checks and runs `.gitlab-ci.yml`: an allowed image passes, a denied one fails; both report."""
    (project / "requirements.in").write_text(f"{requirement}\n")
    assert run(home, "lock", project).code == 0
    (project / ".gitlab-ci.yml").write_text(content("gitlab"))
    (project / ".gitignore").write_text(".tidewaiter/\n.gitlab-ci-local/\n")
    commit(project)
    git(project, "remote", "add", "origin", "git@gitlab.example.org:team/small.git")
    for name in ("debs", "wheels"):  # all that the file caches
        shutil.copytree(home / "cache" / name, project / ".tidewaiter/home/cache" / name)
    tool("rsync")
    runner = [tool("gitlab-ci-local"), "--force-shell-executor", "--home", str(tmp_path / "runner")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {
        name: os.environ[name] for name in ("HOME", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE") if name in os.environ
    }
    done = subprocess.run(
        [*runner, "--variable", "GITLAB_CI=true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=project,
        env={**variables, "PATH": path, "LC_ALL": "C.UTF-8"},
    )
    allowed = requirement.startswith("six")
    assert (done.returncode == 0) is allowed, done.stdout + done.stderr
    assert ("cleared for staging" in done.stdout) is allowed
    text = (project / "tidewaiter.md").read_text()
    assert f"{'allowed' if allowed else 'denied'} for staging" in text
    assert "[GitLab CI](<" in text
    assert (project / "gl-container-scanning-report.json").exists()
