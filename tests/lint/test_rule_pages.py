"""Every rule has a page, and the page's examples are what they say."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.lint import kinds
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source
from tidewaiter.lint.rule import RULES, Rule

PAGES = Path(__file__).parents[2] / "docs/rules"
_EXAMPLE = re.compile(r"^```\S+ (bad|good)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMES = {"dockerfile": "Dockerfile", "requirements": "requirements.txt"}


@cache
def rules() -> dict[str, Rule]:
    for kind in kinds.KINDS:
        kinds.parser(kind)
    return dict(sorted(RULES.items()))


@pytest.mark.parametrize("name", rules())
def test_a_rule_has_its_page_and_its_examples_hold(name: str) -> None:
    """The page names title, severity, hadolint's rules and whether --fix mends; bad examples are found, no good one."""
    rule = rules()[name]
    page = (PAGES / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n\n**{rule.title}** Severity: {rule.severity}.")
    assert all(one in page for one in rule.hadolint)
    assert ("`--fix` mends it." in page) == rule.mends
    examples = _EXAMPLE.findall(page)
    assert {said for said, _ in examples} == {"bad", "good"}
    beside = frozenset({".git"}) if rule.kind == "dockerfile" else frozenset[str]()  # as in a clone
    for said, text in examples:
        path = _NAMES.get(rule.kind, f"example.{rule.kind}")
        found = {one.rule for one in check(Source(path, rule.kind, text, beside), LintSection())}  # type: ignore[arg-type]  # kinds of rules are kinds of files
        assert f"{rule.kind}/syntax" not in found
        assert (name in found) == (said == "bad"), text


def test_no_page_is_left_over() -> None:
    """A page without a rule would promise what is not looked for."""
    pages = {path.relative_to(PAGES).with_suffix("").as_posix() for path in PAGES.rglob("*.md")} - {"index"}
    assert pages == set(rules())


def test_the_index_lists_every_rule() -> None:
    """docs/rules/index.md is what tools/rule-index prints."""
    root = PAGES.parents[1]
    printed = subprocess.run(
        [sys.executable, root / "tools/rule-index"], capture_output=True, text=True, check=True
    ).stdout
    assert (PAGES / "index.md").read_text() == printed, "run `.venv/bin/python tools/rule-index > docs/rules/index.md`"
