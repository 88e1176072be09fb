"""What a CI says of its job: taken in its form, left out otherwise, believed for the commit that is built only."""

import msgspec
import pytest

from tidewaiter.assembly.source import Source
from tidewaiter.core import limits
from tidewaiter.core.settings import load
from tidewaiter.core.settings.continuous import CI_VARIABLES, ci_variables
from tidewaiter.pipelines.continuous import surroundings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": COMMIT,
    "CI_COMMIT_AUTHOR": "Ann Example <ann@example.org>",
    "CI_DEFAULT_BRANCH": "main",
    "CI_JOB_URL": "https://gitlab.example.org/team/app/-/jobs/7",
    "CI_PIPELINE_URL": "https://gitlab.example.org/team/app/-/pipelines/3",
    "CI_PROJECT_URL": "https://gitlab.example.org/team/app",
    "CI_RUNNER_DESCRIPTION": "runner 1",
    "GITLAB_USER_LOGIN": "ann",
}
MERGE = {
    "CI_MERGE_REQUEST_IID": "12",
    "CI_MERGE_REQUEST_PROJECT_URL": "https://gitlab.example.org/team/app",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature/one",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "release",
}
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SHA": COMMIT,
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "team/app",
    "GITHUB_RUN_ID": "99",
    "GITHUB_ACTOR": "ann",
    "RUNNER_NAME": "GitHub Actions 2",
}
JENKINS = {
    "JENKINS_URL": "https://ci.example.org/",
    "BUILD_URL": "https://ci.example.org/job/app/5/",
    "JOB_URL": "https://ci.example.org/job/app/",
    "GIT_COMMIT": COMMIT,
    "GIT_URL": "https://bot:secret@git.example.org/team/app.git",
    "NODE_NAME": "agent-1",
}


def of(variables: dict[str, str], **more: str) -> surroundings.Surroundings:
    """What the CI of these variables says."""
    found = surroundings.of({**variables, **more})
    assert found is not None
    return found


def source(commit: str = COMMIT, branch: str = "") -> Source:
    return Source(commit=commit, committed=0, dirty=False, branch=branch, remote="", author="Ann Example")


def test_gitlab_on_a_branch() -> None:
    """A pipeline of a branch says branch, author without mail address, and the addresses of job and pipeline."""
    found = of(GITLAB, CI_COMMIT_BRANCH="topic")
    assert (found.branch, found.author, found.started_by) == ("topic", "Ann Example", "ann")
    assert found.job_url.endswith("/jobs/7")
    assert found.pipeline_url.endswith("/pipelines/3")
    assert (found.change, found.target, found.compared_with) == ("", "", "main")
    assert not found.refused


def test_gitlab_of_a_merge_request() -> None:
    """A merge request brings its number, its address, its source as the branch, and the branch to compare with."""
    found = of(GITLAB | MERGE)
    assert (found.branch, found.change, found.target, found.compared_with) == (
        "feature/one",
        "12",
        "release",
        "release",
    )
    assert found.change_url == "https://gitlab.example.org/team/app/-/merge_requests/12"


@pytest.mark.parametrize(
    ("more", "branch", "tag", "change"),
    [
        ({"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch"}, "main", "", ""),
        ({"GITHUB_REF": "refs/tags/v1", "GITHUB_REF_NAME": "v1", "GITHUB_REF_TYPE": "tag"}, "", "v1", ""),
        (
            {
                "GITHUB_REF": "refs/pull/4/merge",
                "GITHUB_REF_NAME": "4/merge",
                "GITHUB_REF_TYPE": "branch",
                "GITHUB_HEAD_REF": "topic",
                "GITHUB_BASE_REF": "main",
            },
            "topic",
            "",
            "4",
        ),
    ],
)
def test_github(more: dict[str, str], branch: str, tag: str, change: str) -> None:
    """A run of GitHub Actions is of a branch, a tag or a pull request; `4/merge` is no branch."""
    found = of(GITHUB | more)
    assert (found.branch, found.tag, found.change) == (branch, tag, change)
    assert found.pipeline_url == "https://github.com/team/app/actions/runs/99"
    assert found.job_url == ""
    if change:
        assert (found.target, found.change_url) == ("main", "https://github.com/team/app/pull/4")


def test_jenkins() -> None:
    """A build of a branch has the branch; of a pull request its source, for its own name says nothing."""
    found = of(JENKINS, BRANCH_NAME="topic")
    assert (found.branch, found.project_url) == ("topic", "https://git.example.org/team/app.git")
    assert of(JENKINS, GIT_BRANCH="origin/topic").branch == "topic"
    pulled = of(JENKINS, BRANCH_NAME="PR-24", CHANGE_ID="24", CHANGE_BRANCH="fix", CHANGE_TARGET="main")
    assert (pulled.branch, pulled.change, pulled.target) == ("fix", "24", "main")
    assert of(JENKINS, BRANCH_NAME="v1", TAG_NAME="v1").tag == "v1"


def test_no_ci() -> None:
    """A developer's machine has no surroundings, even with some of the variables."""
    assert surroundings.of({}) is None
    assert surroundings.of({"CI_COMMIT_SHA": COMMIT, "GITLAB_CI": "false", "BUILD_URL": "https://x"}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CI_COMMIT_BRANCH", "a b"),
        ("CI_COMMIT_BRANCH", "-x"),
        ("CI_COMMIT_BRANCH", "a..b"),
        ("CI_COMMIT_BRANCH", "x\x1b[31m"),
        ("CI_COMMIT_SHA", "HEAD"),
        ("CI_PIPELINE_URL", "javascript:alert(1)"),
        ("CI_PIPELINE_URL", "https://a\u202eb.example"),
        ("CI_PIPELINE_URL", "https://[::1"),
        ("CI_PIPELINE_URL", "https:// x.example/"),
        ("CI_MERGE_REQUEST_IID", "1; rm"),
        ("GITLAB_USER_LOGIN", "a\nb"),
        ("CI_COMMIT_AUTHOR", "x" * (limits.CI_VARIABLE_CHARACTERS + 1)),
    ],
)
def test_hostile_values_are_left_out(name: str, value: str) -> None:
    """A value that is not of its form, too long or unprintable is not taken, and named."""
    found = of(ci_variables({**GITLAB, name: value}))
    assert name in found.refused
    assert value.strip() not in msgspec.json.encode(found.record).decode()


def test_longest_value_is_taken() -> None:
    """As many characters as the limit says are not too many."""
    found = of(ci_variables({**GITLAB, "GITLAB_USER_LOGIN": "x" * limits.CI_VARIABLE_CHARACTERS}))
    assert (len(found.started_by), found.refused) == (limits.CI_VARIABLE_CHARACTERS, ())


def test_passwords_and_tokens_in_addresses_are_dropped() -> None:
    """User, password, query and fragment of an address go nowhere."""
    found = of(GITLAB, CI_PIPELINE_URL="https://ci:secret@gitlab.example.org:8443/p/3?private_token=secret#secret")
    assert found.pipeline_url == "https://gitlab.example.org:8443/p/3"
    assert "secret" not in str(found)


def test_only_named_variables_are_looked_at() -> None:
    """Nothing that could be a secret is among what settings keep of the environment."""
    kept = ci_variables(
        {**GITLAB, "CI_JOB_TOKEN": "secret", "GITHUB_TOKEN": "secret", "AWS_SECRET_ACCESS_KEY": "secret"}
    )
    assert "secret" not in str(kept)
    assert not any(word in name for name in CI_VARIABLES for word in ("TOKEN", "PASSWORD", "SECRET", "KEY"))
    assert load({**GITLAB, "TIDEWAITER_HOME": "/nowhere"}, with_file=False).ci_variables == ci_variables(GITLAB)


def test_the_ci_names_the_branch_of_a_detached_checkout() -> None:
    """Branch and the rest are kept beside the commit that they are about."""
    found = surroundings.told(source(), of(GITLAB | MERGE))
    assert found.branch == "feature/one"
    assert found.run["author"] == "Ann Example"
    assert found.run["target"] == "release"
    assert "commit" not in found.run
    assert surroundings.told(source(branch="topic"), of(GITLAB | MERGE)).branch == "topic"


def test_another_commit_gets_nothing() -> None:
    """What the CI says of its own commit is not said of another, and a person learns of it."""
    other = source("f" * 40)
    around = of(GITLAB | MERGE)
    assert surroundings.told(other, around) == other
    (line,) = surroundings.warnings(other, around)
    assert COMMIT[:12] in line
    assert surroundings.warnings(source(), around) == ()
    assert surroundings.told(other, None) == other
