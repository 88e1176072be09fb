"""What the analysis of the sources found is a part of what policy is asked about."""

import json
from pathlib import Path

import pytest

from tidewaiter.core import limits
from tidewaiter.pipelines import analysed
from tidewaiter.pipelines.static.report import Kind, NotChecked, Severity, StaticFinding, StaticReport
from tidewaiter.policy.input import NOT_ANALYSED, AnalysedInput
from workplace import commit, run


def one(kind: Kind, severity: Severity, ignored: str | None = None) -> StaticFinding:
    return StaticFinding(
        tool="tidewaiter",
        kind=kind,
        rule=f"{kind}/x",
        severity=severity,
        file="main.py",
        line=1,
        column=1,
        message="m",
        remedy="r",
        ignored=ignored,
    )


def test_findings_are_counted_by_kind_and_severity() -> None:
    """What counts is counted; what somebody wants left does not count; of what was not looked at twenty are told."""
    report = StaticReport(
        findings=(
            one("secrets", "high"),
            one("secrets", "high"),
            one("secrets", "high", "of tests"),
            one("lint", "low"),
        ),
        not_checked=tuple(NotChecked(f"file {number}", "x" * 1000) for number in range(30)),
        files=3,
        fail_on=(),
    )
    told = analysed.told(report)
    assert told.ran
    assert told.findings == (
        AnalysedInput(kind="lint", severity="low", count=1),
        AnalysedInput(kind="secrets", severity="high", count=2),
    )
    assert len(told.not_checked) == 20
    assert all(len(line) <= limits.KIB for line in told.not_checked)
    assert analysed.told(None) == NOT_ANALYSED


@pytest.mark.thorough
def test_policy_is_told_what_was_built_here(tmp_path: Path, home: Path, project: Path) -> None:
    """`ci` warns of a secret that the project lets pass, a later `check` of the same image knows it still, and of an
    image that another home built nobody says that its sources are clean."""
    (project / "tool.py").write_text('TOKEN = "glpat-' + 'x7Kq2Lm9Rt4Vb8Nc3ZdW"\n')
    with (project / "tidewaiter.toml").open("a") as file:
        file.write('\n[static]\nfail_on = ["critical"]\n')
    commit(project)
    assert run(home, "key", "generate").code == 0
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "pack.toml").write_text('name = "ours"\n[tighten.rules]\n"sources.analysed" = { staging = "deny" }\n')
    done = run(home, "ci", project, "--format", "json")
    assert done.code == 0, done.out + done.err
    assert {one["rule"]: one["evidence"] for one in done.json["verdict"]["warnings"]}[
        "sources.no-serious-findings"
    ] == ["secrets: 1 high"]
    reference = done.json["reference"]
    again = run(home, "check", reference, "--environment", "staging", "--format", "json").json
    assert "sources.no-serious-findings" in json.dumps(again)
    archive = tmp_path / "image.tar"
    assert run(home, "export", reference, archive).code == 0
    words = ["check", f"oci-archive:{archive}", "--environment", "staging", "--format", "json", "--pack", layer]
    other = run(tmp_path / "other", *words)
    assert other.code == 1, other.out + other.err
    denied = {one["rule"]: one["evidence"] for one in other.json["violations"]}
    assert denied["sources.analysed"] == ["nobody here analysed its sources"]
    assert "sources.no-serious-findings" not in {one["rule"] for one in other.json["warnings"]}
