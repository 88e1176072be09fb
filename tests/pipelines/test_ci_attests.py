"""What `ci` attaches to the image that it builds: read with the specifications' own types, whole after any crash."""

import json
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.vsa.v1 import vsa_pb2
from in_toto_attestation.v1 import statement_pb2

from servers import Tool
from tidewaiter.signing import bundle, dsse, predicates
from workplace import Done, command, environment, git, run

pytestmark = pytest.mark.thorough

ATTESTED = {
    predicates.SPDX,
    predicates.CYCLONEDX,
    predicates.PROVENANCE,
    predicates.VULNERABILITIES,
    predicates.VERDICT,
}


def ci(home: Path, project: Path, *more: str, **variables: str) -> Done:
    """Take the project the whole way."""
    return run(home, "ci", project, "--format", "json", *more, extra=variables)


def rows(home: Path) -> list[tuple[str, str]]:
    """Format and predicate type of everything that is attached."""
    with sqlite3.connect(home / "catalog.db") as database:
        return sorted(database.execute("SELECT format, predicate_type FROM attestation"))


def statements(home: Path) -> list[dict[str, Any]]:
    """Payloads of all bundles in the store."""
    blobs = (blob.read_bytes() for blob in (home / "store/blobs/sha256").iterdir() if blob.stat().st_size < 1_000_000)
    bundles = [data for data in blobs if b"verificationMaterial" in data]
    return [json.loads(dsse.parse(bundle.parse(data).envelope).payload) for data in bundles]


COMPLETE = sorted((kind, one) for kind in ("tag", "bundle") for one in (*ATTESTED, predicates.SIGNATURE))


def test_everything_is_attested_in_the_specifications_terms(home: Path, project: Path) -> None:
    """in-toto's types read every statement, provenance and verdict; builder, commit, run and inputs are there."""
    git(project, "remote", "add", "origin", "https://git.example.org/team/small.git")
    run(home, "key", "generate")
    job = "https://ci.example.org/jobs/7"
    done = ci(home, project, CI_JOB_URL=job)
    assert done.code == 0, done.err
    assert set(done.json["attested"]) == ATTESTED
    assert rows(home) == COMPLETE
    by_type = {one["predicateType"]: one for one in statements(home)}
    assert set(by_type) == {*ATTESTED, predicates.SIGNATURE}
    for one in by_type.values():
        read = json_format.ParseDict(one, statement_pb2.Statement(), ignore_unknown_fields=False)
        assert [(item.name, f"sha256:{item.digest['sha256']}") for item in read.subject] == [
            ("team/small", done.json["digest"])
        ]
    made = by_type[predicates.PROVENANCE]["predicate"]
    provenance = json_format.ParseDict(made, provenance_pb2.Provenance(), ignore_unknown_fields=False)
    assert provenance.run_details.builder.id == "urn:tidewaiter:builder:local"
    assert provenance.run_details.metadata.invocation_id == job
    head = subprocess.check_output(["git", "-C", project, "rev-parse", "HEAD"], text=True).strip()
    inputs = provenance.build_definition.resolved_dependencies
    assert inputs[0].digest["gitCommit"] == head
    assert inputs[0].uri == f"git+https://git.example.org/team/small.git@{head}"
    assert all(one.digest for one in inputs)
    assert {one.name for one in inputs} >= {"base.lock", "pylock.toml"}
    assert any(one.name.endswith(".whl") for one in inputs)
    said = by_type[predicates.VERDICT]["predicate"]
    assert said.pop("verifiedLevels") == ["SLSA_BUILD_LEVEL_0"]  # a list, which the package takes for a text
    verdict = json_format.ParseDict(said, vsa_pb2.VerificationSummary(), ignore_unknown_fields=True)
    assert (verdict.verification_result, verdict.slsa_version) == ("PASSED", "1.1")
    assert f"sha256:{verdict.policy.digest['sha256']}" == done.json["verdict"]["policy_revision"]
    assert by_type[predicates.VULNERABILITIES]["predicate"]["invocation"]["uri"] == job
    chain = run(home, "verify", done.json["reference"], "--policy", "staging", "--format", "json")
    assert chain.code == 0, chain.out


def test_a_builders_key_makes_the_attachments_that_production_demands(home: Path, project: Path) -> None:
    """With a registered builder's key nothing of what production demands to be attached is missing."""
    run(home, "key", "generate", "ci", "--builder", "ci-1")
    run(home, "key", "generate", "verdict", "--builder", "server", "--predicate", "vsa", "--predicate", "vuln")
    refused = ci(home, project, "--key", "ci")
    assert refused.code == 1
    assert refused.json["error"]["code"] == "key_out_of_scope"
    (home / "keys/verdict.key").unlink()
    done = ci(home, project, "--key", "ci")
    assert done.code == 0, done.err
    assert not {one["rule"] for one in done.json["production_would_demand"] if one["rule"].startswith("attached.")}
    made = next(one for one in statements(home) if one["predicateType"] == predicates.PROVENANCE)
    assert made["predicate"]["runDetails"]["builder"]["id"] == "urn:tidewaiter:builder:ci-1"
    checked = run(home, "check", done.json["reference"], "--environment", "production", "--format", "json").json
    assert not {one["rule"] for one in checked["violations"] if one["rule"].startswith("attached.")}


def test_killed_while_it_signs_the_same_command_completes_it(home: Path, project: Path) -> None:
    """Killed while it signs, everything or nothing is attached; the next run leaves each thing there once."""
    run(home, "key", "generate")
    process = subprocess.Popen(
        command("ci", project), env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("5/5"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert rows(home) in ([], COMPLETE)
    done = ci(home, project)
    assert done.code == 0, done.err
    assert rows(home) == COMPLETE


@pytest.mark.interop
def test_cosign_takes_all_that_ci_attested(home: Path, project: Path, docker_registry: str, tool: Tool) -> None:
    """Pushed, signature and every attestation hold for cosign in both formats, the provenance too."""
    run(home, "key", "generate")
    done = ci(home, project)
    assert done.code == 0, done.err
    place = f"{docker_registry}/ci-attests/small"
    pushed = run(home, "push", done.json["reference"], place, extra={"TIDEWAITER_PLAIN_HTTP": docker_registry})
    assert pushed.code == 0, pushed.err
    image = f"{place}@{done.json['digest']}"
    offline = ("--insecure-ignore-tlog=true", "--allow-insecure-registry", "--key", str(home / "keys/tidewaiter.pub"))
    for form in ("--new-bundle-format=true", "--new-bundle-format=false"):
        lines = [["verify"]] + [
            ["verify-attestation", "--type", kind]
            for kind in ("spdxjson", "cyclonedx", "slsaprovenance1", "vuln", predicates.VERDICT)
        ]
        for line in lines:
            checked = subprocess.run(
                [tool("cosign"), *line, *offline, form, image], capture_output=True, text=True, timeout=120, check=False
            )
            assert checked.returncode == 0, (line, checked.stderr)
