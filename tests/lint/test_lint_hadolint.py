"""The page that says what hadolint's rules are to ours."""

import re
from pathlib import Path

from tidewaiter.lint import kinds
from tidewaiter.lint.rule import RULES

PAGE = Path(__file__).parents[2] / "docs/reference/lint-hadolint.md"
_ROW = re.compile(r"^\| (DL\d{4}) \| ([^|]+) \|$", re.MULTILINE)


def test_the_page_names_the_rules_that_find_the_same() -> None:
    """A row links a rule exactly where that rule says that it finds what hadolint's does; others say why none does."""
    kinds.parser("dockerfile")
    ours: dict[str, set[str]] = {}
    for rule in RULES.values():
        for code in rule.hadolint:
            ours.setdefault(code, set()).add(rule.id)
    rows = dict(_ROW.findall(PAGE.read_text()))
    assert set(ours) <= set(rows)
    for code, said in rows.items():
        linked = set(re.findall(r"\]\(\.\./rules/(dockerfile/[\w-]+)\.md\)", said))
        assert linked == ours.get(code, set()), code
        assert linked or said.startswith(("no: ", "partly: ", "`dockerfile/syntax`")), code
