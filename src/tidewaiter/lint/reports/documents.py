"""Findings for machines: our JSON, SARIF 2.1.0, GitLab's code quality, GitHub's annotations."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from tidewaiter import __version__
from tidewaiter.lint.finding import Finding
from tidewaiter.lint.rule import RULES
from tidewaiter.lint.text import Text

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_GITLAB = {"error": "major", "warning": "minor", "info": "info"}
_GITHUB = {"error": "error", "warning": "warning", "info": "notice"}


def fingerprint(finding: Finding, texts: Mapping[str, Text], earlier: dict[str, int]) -> str:
    """The same for the same mistake when lines above it come or go.

    Args:
        finding: whose.
        texts: the files, by path.
        earlier: how often each was given before; equal lines are told apart by their order.
    """
    line = " ".join(texts[finding.path].line(finding.span.line).split())
    name = hashlib.sha256(f"{finding.rule}\0{finding.path}\0{line}\0{finding.message}".encode()).hexdigest()
    earlier[name] = earlier.get(name, 0) + 1
    return hashlib.sha256(f"{name} {earlier[name]}".encode()).hexdigest()[:40]


def json(findings: Sequence[Finding], files: int, proofs: Sequence[msgspec.Struct] = ()) -> dict[str, Any]:
    """`{files, findings: […], proofs: […]}`; a finding has its fields, but `fixable` in the place of its edits."""
    rows = []
    for one in findings:
        row: dict[str, Any] = msgspec.to_builtins(one)
        row["fixable"] = bool(row.pop("edits"))
        rows.append(row)
    return {"files": files, "findings": rows, "proofs": msgspec.to_builtins(proofs)}


def sarif(findings: Sequence[Finding], texts: Mapping[str, Text]) -> dict[str, Any]:
    """A SARIF log of one run; what is ignored is there as suppressed."""
    names = sorted({one.rule for one in findings})
    earlier: dict[str, int] = {}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tidewaiter",
                        "version": __version__,
                        "rules": [_rule(name, findings) for name in names],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(one, names.index(one.rule), fingerprint(one, texts, earlier)) for one in findings],
            }
        ],
    }


def _rule(name: str, findings: Sequence[Finding]) -> dict[str, Any]:
    known = RULES.get(name)
    first = next(one for one in findings if one.rule == name)
    return {
        "id": name,
        "shortDescription": {"text": known.title if known else first.message},
        "fullDescription": {"text": first.why},
        "help": {"text": first.remedy},
        "defaultConfiguration": {"level": _LEVELS[known.severity if known else first.severity]},
    }


def _result(one: Finding, index: int, name: str) -> dict[str, Any]:
    span = one.span
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": max(span.end_column, span.column) if span.end_line == span.line else span.end_column,
    }
    result: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": _LEVELS[one.severity],
        "message": {"text": f"{one.message} {one.remedy}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": quote(one.path, safe="/")}, "region": region}}],
        "partialFingerprints": {"ruleAndLine/v1": name},
    }
    if one.ignored is not None:
        kind = "inSource" if one.ignored_by == "comment" else "external"
        result["suppressions"] = [{"kind": kind, "status": "accepted", "justification": one.ignored}]
    return result


def gitlab(findings: Sequence[Finding], texts: Mapping[str, Text]) -> list[dict[str, Any]]:
    """GitLab's code quality report (Code Climate's format)."""
    earlier: dict[str, int] = {}
    return [
        {
            "type": "issue",
            "check_name": one.rule,
            "description": f"{one.message} {one.remedy}",
            "content": {"body": one.why},
            "categories": ["Bug Risk"],
            "severity": _GITLAB[one.severity],
            "fingerprint": fingerprint(one, texts, earlier),
            "location": {"path": one.path, "lines": {"begin": one.span.line, "end": one.span.end_line}},
        }
        for one in findings
        if one.ignored is None
    ]


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def github(findings: Sequence[Finding]) -> Iterator[str]:
    """Workflow commands that GitHub shows beside the lines."""
    for one in findings:
        if one.ignored is not None:
            continue
        span = one.span
        places = {
            "file": one.path,
            "line": str(span.line),
            "endLine": str(span.end_line),
            "title": one.rule,
        }
        if span.end_line == span.line:
            places |= {"col": str(span.column), "endColumn": str(span.end_column)}
        said = ",".join(
            f"{key}={_escaped(value).replace(':', '%3A').replace(',', '%2C')}" for key, value in places.items()
        )
        yield f"::{_GITHUB[one.severity]} {said}::{_escaped(f'{one.message} {one.remedy}')}"
