"""Requirements files as rules read them."""

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source
from tidewaiter.lint.requirements.parse import RequirementsFile, parse
from tidewaiter.lint.text import Text


def parsed(content: str, name: str = "requirements.txt") -> RequirementsFile:
    return parse(Text(name, content))


def test_lines_are_read_as_pip_reads_them() -> None:
    """Continued lines are one, comments are none, options have values, hashes and options behind are no version."""
    file = parsed(
        "# said\n-r other.txt\n--extra-index-url=https://a/b  # why\n"
        "numpy==1.26.4 \\\n    --hash=sha256:00\nx[y]>=1; python_version<'4'\n./local\ngit+https://a/b.git#egg=c\n= 1\n"
    )
    assert [(one.span.line, one.option, one.value) for one in file.lines] == [
        (2, "-r", "other.txt"),
        (3, "--extra-index-url", "https://a/b"),
        (4, "", ""),
        (6, "", ""),
        (7, "", "./local"),
        (8, "", "git+https://a/b.git#egg=c"),
        (9, "", "= 1"),
    ]
    assert [str(one.requirement) for one in file.lines if one.requirement] == [
        "numpy==1.26.4",
        'x[y]>=1; python_version < "4"',
    ]
    assert [one.hashed for one in file.lines][2:4] == [True, False]
    assert [bool(one.broken) for one in file.lines] == [False] * 6 + [True]


@pytest.mark.parametrize(
    "name", ["requirements.in", "constraints.txt", "requirements-dev.txt", "docs/requirements.txt"]
)
def test_what_no_image_installs_may_have_ranges(name: str) -> None:
    """Inputs of compilers, constraints, and what says that it is for developers need no versions."""
    assert not [
        one for one in check(Source(name, "requirements", "numpy\n"), LintSection()) if one.rule.endswith("unpinned")
    ]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("--extra-index-url https://[bad/simple", "requirements/extra-index"),
        ("--index-url http://[bad/simple", "requirements/plain-http"),
        ("git+https://[bad/x.git", "requirements/git-without-commit"),
    ],
)
def test_addresses_that_are_none_are_judged_all_the_same(line: str, rule: str) -> None:
    """A bracket that is not closed names no host, so nothing speaks for it."""
    found = check(Source("requirements.txt", "requirements", f"{line}\nnumpy==1.26.4\n"), LintSection())
    assert rule in {one.rule for one in found}
