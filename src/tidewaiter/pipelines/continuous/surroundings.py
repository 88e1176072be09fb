"""Which CI runs this process, and what it says of the job: commit, branch, author, addresses, merge request.

None of it decides a byte of the image. It is a claim of whoever wrote the job, kept beside what Git says, and only
where it speaks of the commit that was built. Every value is checked; one that is too long, has control characters or is
not of its form is left out, and that is said.
"""

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from tidewaiter.assembly.source import Source
from tidewaiter.catalog.records import CiRun
from tidewaiter.core import limits
from tidewaiter.core.settings import Settings

System = Literal["gitlab", "github", "jenkins"]

NAMES: dict[System, str] = {"gitlab": "GitLab CI", "github": "GitHub Actions", "jenkins": "Jenkins"}
"""As people call them."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,20}")
# git-check-ref-format(1), as far as it keeps a name from being something else
_BRANCH = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|\.lock$))[^\s~^:?*\[\\]+(?<![/.])")
_MAIL = re.compile(r"\s*<[^<>]*>\s*$")


class Surroundings(CiRun, frozen=True, kw_only=True):
    """What a CI says of its job; empty where it says nothing that can be used."""

    system: System
    commit: str = ""
    default_branch: str = ""
    refused: tuple[str, ...] = ()
    """Names of the variables whose values were not taken."""

    @property
    def compared_with(self) -> str:
        """Branch whose image a change is measured by: the target, else the project's main branch; may be empty."""
        return self.target or self.default_branch

    @property
    def record(self) -> dict[str, str]:
        """All that is known, for catalog and provenance; what Git and the image say themselves is not in it."""
        return {name: value for name in CiRun.__struct_fields__ if (value := getattr(self, name))}


class _Variables:
    """The variables of one CI; reads each in its form, and remembers those that were not of it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.refused: list[str] = []

    def raw(self, name: str) -> str:
        return self._variables.get(name, "")

    def _checked(self, name: str, form: re.Pattern[str] | None = None) -> str:
        value = self.raw(name).strip()
        if not value:
            return ""
        good = len(value) <= limits.CI_VARIABLE_CHARACTERS and value.isprintable()
        if good and (form is None or form.fullmatch(value)):
            return value
        self.refused.append(name)
        return ""

    def text(self, *names: str) -> str:
        """The first of them that is set."""
        return next((found for name in names if (found := self._checked(name))), "")

    def branch(self, *names: str) -> str:
        return next((found for name in names if (found := self._checked(name, _BRANCH))), "")

    def commit(self, name: str) -> str:
        return self._checked(name, _COMMIT)

    def number(self, name: str) -> str:
        return self._checked(name, _NUMBER)

    def address(self, *names: str) -> str:
        """The first that is an http(s) address; user and password are taken out of it."""
        for name in names:
            value = self._checked(name)
            if value and (plain := _plain_address(value)):
                return plain
            if value and name not in self.refused:
                self.refused.append(name)
        return ""


def _plain_address(text: str) -> str:
    """`text` without user, password, query and fragment; empty when it is no address of a page."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not host or re.search(r"\s", text):
        return ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path}"


def of(variables: Mapping[str, str]) -> Surroundings | None:
    """What the CI says whose variables these are; None when they are of none that is known."""
    said = _Variables(variables)
    found: Surroundings | None = None
    if said.raw("GITLAB_CI") == "true":
        found = _gitlab(said)
    elif said.raw("GITHUB_ACTIONS") == "true":
        found = _github(said)
    elif said.raw("JENKINS_URL") and said.raw("BUILD_URL"):
        found = _jenkins(said)
    return None if found is None else msgspec.structs.replace(found, refused=tuple(dict.fromkeys(said.refused)))


def of_settings(settings: Settings) -> Surroundings | None:
    """What the CI that runs this process says, `of` its variables."""
    return of(settings.ci_variables)


def _gitlab(said: _Variables) -> Surroundings:
    change = said.number("CI_MERGE_REQUEST_IID")
    below = said.address("CI_MERGE_REQUEST_PROJECT_URL")
    return Surroundings(
        system="gitlab",
        commit=said.commit("CI_COMMIT_SHA"),
        branch=said.branch("CI_COMMIT_BRANCH", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"),
        tag=said.branch("CI_COMMIT_TAG"),
        author=_MAIL.sub("", said.text("CI_COMMIT_AUTHOR")),
        started_by=said.text("GITLAB_USER_LOGIN"),
        pipeline_url=said.address("CI_PIPELINE_URL"),
        job_url=said.address("CI_JOB_URL"),
        project_url=said.address("CI_PROJECT_URL"),
        change=change,
        change_url=f"{below}/-/merge_requests/{change}" if below and change else "",
        target=said.branch("CI_MERGE_REQUEST_TARGET_BRANCH_NAME"),
        default_branch=said.branch("CI_DEFAULT_BRANCH"),
        runner=said.text("CI_RUNNER_DESCRIPTION", "CI_RUNNER_ID"),
    )


def _github(said: _Variables) -> Surroundings:
    server, repository, run = (
        said.address("GITHUB_SERVER_URL"),
        said.text("GITHUB_REPOSITORY"),
        said.number("GITHUB_RUN_ID"),
    )
    project = _plain_address(f"{server.rstrip('/')}/{repository}") if server and repository else ""
    pulled = re.fullmatch(r"refs/pull/([0-9]{1,20})/(?:merge|head)", said.text("GITHUB_REF"))
    change = pulled[1] if pulled else ""
    is_tag = said.raw("GITHUB_REF_TYPE") == "tag"
    own = "" if is_tag or change else said.branch("GITHUB_REF_NAME")
    return Surroundings(
        system="github",
        commit=said.commit("GITHUB_SHA"),
        branch=said.branch("GITHUB_HEAD_REF") or own,
        tag=said.branch("GITHUB_REF_NAME") if is_tag else "",
        started_by=said.text("GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR"),
        # Of its jobs only the run has an address that a job knows.
        pipeline_url=f"{project}/actions/runs/{run}" if project and run else "",
        project_url=project,
        change=change,
        change_url=f"{project}/pull/{change}" if project and change else "",
        target=said.branch("GITHUB_BASE_REF"),
        runner=said.text("RUNNER_NAME"),
    )


def _jenkins(said: _Variables) -> Surroundings:
    change, tag = said.number("CHANGE_ID"), said.branch("TAG_NAME")
    own = "" if change or tag else said.branch("BRANCH_NAME") or said.branch("GIT_BRANCH").removeprefix("origin/")
    return Surroundings(
        system="jenkins",
        commit=said.commit("GIT_COMMIT"),
        branch=said.branch("CHANGE_BRANCH") or own,
        tag=tag,
        author=_MAIL.sub("", said.text("CHANGE_AUTHOR_DISPLAY_NAME", "CHANGE_AUTHOR")),
        pipeline_url=said.address("BUILD_URL"),
        job_url=said.address("BUILD_URL"),
        project_url=said.address("GIT_URL", "JOB_URL")
        if said.raw("GIT_URL").startswith("http")
        else said.address("JOB_URL"),
        change=change,
        change_url=said.address("CHANGE_URL"),
        target=said.branch("CHANGE_TARGET"),
        runner=said.text("NODE_NAME"),
    )


def told(source: Source, around: Surroundings | None) -> Source:
    """The source with what the CI says of it, as long as it speaks of the same commit.

    A checkout has no branch of its own in most jobs; the CI knows which one it is about.
    """
    if around is None or around.commit != source.commit:
        return source
    run = {"author": source.author, **around.record} if source.author else around.record
    return msgspec.structs.replace(source, branch=source.branch or around.branch, run=run)


def warnings(source: Source, around: Surroundings | None) -> tuple[str, ...]:
    """What a person should know of what the CI said and was not taken."""
    if around is None:
        return ()
    name = NAMES[around.system]
    said = [f"{name}: {one} is not of its form and was left out" for one in around.refused]
    if around.commit != source.commit:
        said.append(
            f"{name} speaks of commit {around.commit[:12] or 'none'}, and {source.commit[:12]} is built: "
            "branch, author and addresses that it gives are left out"
        )
    return tuple(said)
