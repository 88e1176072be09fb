"""The embedded engine and a real OPA must agree on the shipped pack."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from policy_documents import FINDING, document

import tidewaiter.policy
from servers import Tool
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.pack import default_pack

pytestmark = pytest.mark.interop

ROOM = Path(tidewaiter.policy.__file__).parent
PACK = ROOM / "packs" / "default"
SCHEMA = ROOM / "schema" / "policy-input.schema.json"

MANY = [
    {
        **FINDING,
        "advisory": f"PYSEC-2024-{number}",
        "name": f"package-{number % 7}",
        "purl": f"pkg:pypi/package-{number % 7}@1.0",
        "severity": ["critical", "high", "medium", "low", "none", "unknown"][number % 6],
        "kind": ["python", "deb", "model"][number % 3],
        "fixed_in": [[], ["1.1"], ["1.1", "2.0"]][number % 3],
        "upgrade_to": ["", "1.1", ""][number % 3],
    }
    for number in range(40)
]
DOCUMENTS: list[dict[str, Any]] = [
    {},
    {"image__user": "root", "image__runs_as_root": True},
    {"image__user": 'quo"ted\\ü', "image__runs_as_root": True},
    {"programs": [{"path": path, "kind": "shell"} for path in ("/bin/sh", "/bin/bash", "/a")]},
    {"programs": [{"path": "/usr/bin/pip", "kind": "package_manager"}, {"path": "/usr/bin/gcc", "kind": "compiler"}]},
    {"programs": [{"path": "/usr/sbin/sshd", "kind": "ssh_server"}, {"path": "/jupyter", "kind": "jupyter"}]},
    {"packages": {"python": {"jupyterlab": ["4.0", "4.1"], "notebook": ["7.0"]}, "deb": {"openssh-server": ["9"]}}},
    {"image__tag": "latest"},
    {"image__tag": "2.15.0-latest"},
    {"image__tag": ""},
    {"image__tag": "", "image__pinned": True},
    {"image__tag": "prod", "image__name": "mnist"},
    {"image__tag": "2.15.0-gpu", "image__name": ""},
    {"image__tag": "0123456789ab-dirty", "image__dirty": True},
    {"findings": [FINDING]},
    {"findings": MANY},
    {"findings": [{**FINDING, "severity": "unknown", "upgrade_to": "", "fixed_in": ["1", "2"]}]},
    {"findings": [{**FINDING, "kind": "deb"}, FINDING]},
    {"not_checked": [{"ecosystem": "Debian:12", "reason": "no data", "count": 33, "examples": ["a 1", "b 2"]}]},
    {"advisories__feeds": []},
    {"advisories__feeds": [{"ecosystem": "PyPI", "as_of": "2024-10-10T00:00:00Z", "age_days": 478}]},
    {"advisories__feeds": [{"ecosystem": "PyPI", "as_of": "", "age_days": 0}]},
    {"image__builder": "local"},
    {"image__builder": "local", "settings__registered_builders": ["local"]},
    {"environment": "research", "findings": MANY, "image__dirty": True, "image__runs_as_root": True},
]


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    """One engine with the default pack."""
    with EmbeddedEngine(default_pack()) as engine:
        yield engine


def of_embedded(engine: EmbeddedEngine, question: PolicyInput) -> dict[str, Any]:
    """Results by package, from the embedded engine."""
    evaluation = engine.evaluate(question)
    assert not evaluation.failure
    assert not [answer.error for answer in evaluation.packages.values() if answer.error]
    return {package: json.loads(bytes(answer.value)) for package, answer in evaluation.packages.items()}


def of_opa(opa: str, folder: Path, question: PolicyInput, packages: list[str]) -> dict[str, Any]:
    """Results by package, from a real OPA with strict built-in errors."""
    (folder / "input.json").write_bytes(msgspec.json.encode(question))
    query = "{" + ", ".join(f'"{package}": data.{package}.results' for package in packages) + "}"
    answer = subprocess.run(
        [opa, "eval", "--strict-builtin-errors", "--data", PACK, "--input", folder / "input.json", query],
        check=True,
        capture_output=True,
    )
    result: dict[str, Any] = json.loads(answer.stdout)["result"][0]["expressions"][0]["value"]
    return result


def by_id(results: dict[str, Any]) -> dict[str, Any]:
    """Results by rule; sets come in no order."""
    return {item["id"]: item for items in results.values() for item in items}


def test_embedded_engine_and_opa_agree(engine: EmbeddedEngine, tool: Tool, tmp_path: Path) -> None:
    """For more than twenty inputs, every rule has the same status, evidence and remedy in both engines."""
    opa = tool("opa")
    assert len(DOCUMENTS) >= 20
    statuses = set()
    for changes in DOCUMENTS:
        question = document(**changes)
        embedded = of_embedded(engine, question)
        assert by_id(of_opa(opa, tmp_path, question, list(embedded))) == by_id(embedded), changes
        statuses |= {(name, item["status"]) for name, item in by_id(embedded).items()}
    # Otherwise the inputs would not show much.
    assert statuses == {(rule.id, status) for rule in engine.pack.rules for status in ("pass", "fail")}


def test_opa_runs_the_packs_tests(tool: Tool) -> None:
    """The pack's own tests pass in a real OPA as well."""
    answer = subprocess.run([tool("opa"), "test", "--format=json", PACK], check=True, capture_output=True)
    results = json.loads(answer.stdout)
    assert len(results) >= 30
    assert not [item for item in results if item.get("fail") or item.get("error")]


def test_opa_checks_the_pack_against_our_schema(tool: Tool) -> None:
    """OPA's strict mode and its own type checker, given our schema, find nothing wrong."""
    subprocess.run([tool("opa"), "check", "--strict", "--schema", SCHEMA, PACK], check=True, capture_output=True)


def test_opa_finds_the_mistakes_that_we_find(tool: Tool, tmp_path: Path) -> None:
    """Our schema makes OPA refuse the same typing mistakes: the schema is one that others can use."""
    (tmp_path / "a.rego").write_text(
        "package a\n\nx contains f.name if {\n\tsome f in input.findings\n\tf.severty == 1\n}\n"
    )
    answer = subprocess.run(
        [tool("opa"), "check", "--schema", SCHEMA, tmp_path], check=False, capture_output=True, text=True
    )
    assert answer.returncode != 0
    assert "severty" in answer.stdout + answer.stderr
