"""What a CI tells the process that it runs: the variables of GitLab CI, GitHub Actions and Jenkins, by name.

GitLab: docs.gitlab.com/ci/variables/predefined_variables. GitHub: "Variables reference" of docs.github.com/actions.
Jenkins: the page `pipeline-syntax/globals` of every server; those of pull requests come from its branch source
plug-ins, the `GIT_` ones from its Git plug-in. None of them is a secret; whoever pushes a branch chooses some of
their values.
"""

from collections.abc import Mapping

from tidewaiter.core import limits

_GITLAB = (
    *("GITLAB_CI", "CI_COMMIT_SHA", "CI_COMMIT_BRANCH", "CI_COMMIT_TAG", "CI_COMMIT_AUTHOR", "CI_DEFAULT_BRANCH"),
    *("CI_JOB_URL", "CI_PIPELINE_URL", "CI_PROJECT_URL", "CI_RUNNER_DESCRIPTION", "CI_RUNNER_ID"),
    *("CI_MERGE_REQUEST_IID", "CI_MERGE_REQUEST_PROJECT_URL", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"),
    *("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "GITLAB_USER_LOGIN"),
)
_GITHUB = (
    *("GITHUB_ACTIONS", "GITHUB_ACTOR", "GITHUB_BASE_REF", "GITHUB_HEAD_REF", "GITHUB_REF", "GITHUB_REF_NAME"),
    *("GITHUB_REF_TYPE", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SERVER_URL", "GITHUB_SHA"),
    *("GITHUB_TRIGGERING_ACTOR", "RUNNER_NAME"),
)
_JENKINS = (
    *("JENKINS_URL", "BRANCH_NAME", "BUILD_URL", "CHANGE_AUTHOR", "CHANGE_AUTHOR_DISPLAY_NAME", "CHANGE_BRANCH"),
    *("CHANGE_ID", "CHANGE_TARGET", "CHANGE_URL", "GIT_BRANCH", "GIT_COMMIT", "GIT_URL", "JOB_URL", "NODE_NAME"),
    "TAG_NAME",
)
CI_VARIABLES = frozenset((*_GITLAB, *_GITHUB, *_JENKINS))
"""All that is ever looked at."""


def ci_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of `CI_VARIABLES` that are set, each cut one character past the longest that anybody accepts."""
    longest = limits.CI_VARIABLE_CHARACTERS + 1
    return {name: variables[name][:longest] for name in sorted(CI_VARIABLES) if variables.get(name)}
