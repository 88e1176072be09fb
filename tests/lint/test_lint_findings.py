"""Places, edits, ignored findings, reports."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core.project import LintIgnore, LintSection
from tidewaiter.lint.check import check, counting
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Edit, Finding, Span
from tidewaiter.lint.reports import documents
from tidewaiter.lint.reports import text as plain
from tidewaiter.lint.text import Text, edited

ROOT = "FROM tensorflow/tensorflow:2.15.0\nUSER root\n"


def found(content: str, wanted: LintSection | None = None) -> list[Finding]:
    return [
        one
        for one in check(Source("d/Dockerfile", "dockerfile", content), wanted or LintSection())
        if one.rule.endswith(("root-user", "syntax")) or one.rule.startswith("lint/")
    ]


def test_a_finding_says_all() -> None:
    """Rule, place, what, why and remedy are there."""
    (one,) = found(ROOT)
    assert (one.rule, one.path, one.span, one.severity) == (
        "dockerfile/root-user",
        "d/Dockerfile",
        Span(2, 1, 2, 10),
        "warning",
    )
    assert all((one.message, one.why, one.remedy))


def test_what_cannot_be_parsed_is_a_finding() -> None:
    """The line of the error is the place."""
    (one,) = found("FROM a\nRUN <<X\nno end\n")
    assert (one.rule, one.span.line, one.severity) == ("dockerfile/syntax", 2, "error")


@pytest.mark.parametrize(
    ("comment", "ignored"),
    [
        ("# tidewaiter: ignore dockerfile/root-user: a sandbox", "a sandbox"),
        ("# tidewaiter: ignore dockerfile/*, x/y: a sandbox", "a sandbox"),
        ("# tidewaiter: ignore dockerfile/root-user: a sandbox\n# more words", "a sandbox"),
    ],
)
def test_a_comment_with_a_reason_ignores(comment: str, ignored: str) -> None:
    """What begins on the next line that is no comment is ignored, with the reason."""
    (one,) = found(f"FROM a\n{comment}\nUSER root\n")
    assert one.ignored == ignored
    assert counting([one], "info") == 0


@pytest.mark.parametrize("comment", ["# tidewaiter: ignore dockerfile/root-user", "# tidewaiter: ignore"])
def test_a_comment_without_a_reason_does_not(comment: str) -> None:
    """It is a finding itself."""
    assert {one.rule: one.ignored for one in found(f"FROM a\n{comment}\nUSER root\n")} == {
        "dockerfile/root-user": None,
        "lint/ignore-without-reason": None,
    }


def test_a_comment_that_ignores_nothing_is_said() -> None:
    """So that stale ones go."""
    (one,) = found("FROM a\n# tidewaiter: ignore dockerfile/root-user: gone\nUSER 65532\n")
    assert (one.rule, one.severity) == ("lint/ignore-unused", "info")


def test_settings_ignore_and_weigh() -> None:
    """`[lint]` ignores by rule and path, changes severities, and turns rules off."""
    settled = LintSection(ignore=(LintIgnore("dockerfile/*", "as agreed", ("d/*",)),))
    assert [one.ignored for one in found(ROOT, settled)] == ["as agreed"]
    elsewhere = LintSection(ignore=(LintIgnore("dockerfile/*", "as agreed", ("e/*",)),))
    assert [one.ignored for one in found(ROOT, elsewhere)] == [None]
    assert [one.severity for one in found(ROOT, LintSection(severity={"dockerfile/root-user": "error"}))] == ["error"]
    assert found(ROOT, LintSection(severity={"dockerfile/root-user": "off"})) == []


@given(st.text(alphabet="ab\n", max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=4))
def test_edits_change_only_what_they_span(content: str, places: list[tuple[int, int]]) -> None:
    """Edits that do not touch each other are all made, others are left out whole; nothing else changes."""
    text = Text("x", content)
    edits = []
    for start, length in places:
        first, last = min(start, len(content)), min(start + length, len(content))
        edits.append(Edit(Span(*text.place(first), *text.place(last)), "X"))
    new, left_out = edited(text, edits)
    made = [one for one in dict.fromkeys(edits) if one not in left_out]
    removed = sum(
        text.offset(one.span.end_line, one.span.end_column) - text.offset(one.span.line, one.span.column)
        for one in made
    )
    assert len(new) == len(content) - removed + new.count("X")


def test_reports_hold_the_findings() -> None:
    """Each format names rule, file and line; ignored ones are suppressed in SARIF and absent elsewhere."""
    settled = found(ROOT, LintSection(ignore=(LintIgnore(rule="dockerfile/root-user", reason="as agreed"),)))
    commented = found(ROOT.replace("USER", "# tidewaiter: ignore dockerfile/root-user: so\nUSER"))
    findings = [*found(ROOT), *commented, *settled]
    texts = {"d/Dockerfile": Text("d/Dockerfile", ROOT)}
    (one,) = documents.gitlab(findings, texts)
    assert (one["location"], one["check_name"]) == (
        {"path": "d/Dockerfile", "lines": {"begin": 2, "end": 2}},
        "dockerfile/root-user",
    )
    (line,) = documents.github(findings)
    assert line.startswith(
        "::warning file=d/Dockerfile,line=2,endLine=2,title=dockerfile/root-user,col=1,endColumn=10::"
    )
    first, second, third = documents.sarif(findings, texts)["runs"][0]["results"]
    assert "suppressions" not in first
    assert second["suppressions"] == [{"kind": "inSource", "status": "accepted", "justification": "so"}]
    assert third["suppressions"] == [{"kind": "external", "status": "accepted", "justification": "as agreed"}]
    assert first["partialFingerprints"] != second["partialFingerprints"]
    rows = documents.json(findings, 1)["findings"]
    assert [(row["ignored"], row["ignored_by"]) for row in rows] == [
        (None, None),
        ("so", "comment"),
        ("as agreed", "project"),
    ]
    shown = list(plain.lines(findings, texts, reasons=True))
    assert shown[1:3] == ["  2 | USER root", "    | ^^^^^^^^^"]
    assert sum(line.startswith("d/Dockerfile:2:1:") for line in shown) == 1


def test_fingerprints_outlive_moved_lines() -> None:
    """A line more above does not make a new finding."""
    moved = "# a line more\n" + ROOT
    before = documents.gitlab(found(ROOT), {"d/Dockerfile": Text("d/Dockerfile", ROOT)})
    after = documents.gitlab(found(moved), {"d/Dockerfile": Text("d/Dockerfile", moved)})
    assert before[0]["fingerprint"] == after[0]["fingerprint"]


def test_names_cannot_steer_what_reads_annotations(tmp_path: Path) -> None:
    """A file's name with commas, colons or newlines stays within its field."""
    one = msgspec.structs.replace(found(ROOT)[0], path="a,b:c\n::error::x")
    (line,) = documents.github([one])
    assert line.count("\n") == 0
    assert line.startswith("::warning file=a%2Cb%3Ac%0A%3A%3Aerror%3A%3Ax,line=2")
