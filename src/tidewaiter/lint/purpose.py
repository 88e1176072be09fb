"""What a file is for, as far as its path says."""

import re

_TESTS = frozenset(
    {
        *("test", "tests", "testing", "testdata", "test-data", "test_data", "fixtures", "e2e", "mock", "mocks", "ci"),
        *(".ci", ".circleci", ".github", ".gitlab", ".buildkite", ".devcontainer", "hack"),
    }
)


def for_tests(path: str) -> bool:
    """Whether it lies in a folder of tests, of a pipeline, or of a developer's container: nothing there is to run."""
    *folders, name = path.lower().split("/")
    near = folders[-3:] if path.startswith("/") else folders  # further up it is some machine's own
    return not _TESTS.isdisjoint(near) or re.search(r"(?:^|[-_.])(?:e2e|tests?|ci|devcontainer)[-_.]", name) is not None
