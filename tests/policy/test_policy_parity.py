"""The embedded engine and a real OPA must give the same verdicts."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from parity_cases import DIFFERENT, DOCUMENTS, ENVIRONMENTS, EXPRESSIONS, MODULES, MUTATIONS, rego, rule_id
from policy_documents import change, document, make_pack

import tidewaiter.policy
from servers import Tool
from tidewaiter.policy.engine import EmbeddedEngine, Engine
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.opa import OpaEngine
from tidewaiter.policy.pack import Pack, default_pack
from tidewaiter.policy.results import RuleResult, compare
from tidewaiter.policy.verdict import decide

ROOM = Path(tidewaiter.policy.__file__).parent
PACK = ROOM / "packs" / "default"
SCHEMA = ROOM / "schema" / "policy-input.schema.json"

QUESTIONS: list[dict[str, Any]] = [
    change(base, {**changes, "environment": environment})
    for base in DOCUMENTS.values()
    for changes in MUTATIONS.values()
    for environment in ENVIRONMENTS
]


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedEngine]:
    """The embedded engine with the default pack."""
    with EmbeddedEngine(default_pack()) as engine:
        yield engine


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack with every edge case of Rego."""
    files, ids = rego()
    return make_pack(tmp_path_factory.mktemp("edges"), files, *ids)


def results(engine: Engine, question: PolicyInput) -> dict[str, RuleResult]:
    """Results by rule; the texts of errors are each engine's own."""
    found = compare(engine.pack.rules, engine.evaluate(question))
    return {
        result.id: result
        if result.status != "undetermined"
        else msgspec.structs.replace(result, evidence=("could not be evaluated",))
        for result in found
        if engine.pack.rule(result.id)
    }


def test_there_are_enough_cases() -> None:
    """The suite does not shrink unseen."""
    assert len(EXPRESSIONS) + len(MODULES) >= 100
    assert len(QUESTIONS) >= 250


def test_embedded_engine_gives_every_edge_case_its_value(edges: Pack) -> None:
    """Each expression has the value that the case states, and where it has none the rule is undetermined."""
    with EmbeddedEngine(edges) as engine:
        found = results(engine, document())
    for name, (expression, value) in EXPRESSIONS.items():
        result = found[rule_id(name)]
        if value is None:
            assert result.status == "undetermined", (expression, result)
        else:
            assert (result.status, result.evidence) == ("pass", (value,)), expression
    for name in MODULES:
        assert found[rule_id(f"module_{name}")].status == "undetermined", name


def test_documents_make_every_rule_pass_and_fail(embedded: EmbeddedEngine) -> None:
    """The documents show each rule of the default pack from all sides; otherwise they would not show much."""
    statuses = set()
    for question in QUESTIONS:
        found = results(embedded, msgspec.convert(question, PolicyInput))
        statuses |= {(name, result.status) for name, result in found.items()}
    expected = {(rule.id, status) for rule in embedded.pack.rules for status in ("pass", "fail")}
    expected |= {(rule.id, "not_applicable") for rule in embedded.pack.rules if rule.id.startswith("framework.")}
    expected |= {("sources.no-serious-findings", "not_applicable")}
    assert statuses == expected


@pytest.mark.interop
def test_opa_gives_every_edge_case_the_same(edges: Pack, tool: Tool) -> None:
    """Every edge case of Rego has the same status and the same value in a real OPA."""
    with EmbeddedEngine(edges) as engine, OpaEngine(edges, Path(tool("opa"))) as opa:
        ours, theirs = results(engine, document()), results(opa, document())
    assert {name for name in ours if ours[name] != theirs[name]} == {rule_id(name) for name in DIFFERENT}
    for name, (expression, here, there) in DIFFERENT.items():
        found = (*ours[rule_id(name)].evidence, *theirs[rule_id(name)].evidence)
        assert found == (here, there), expression


@pytest.mark.interop
def test_opa_gives_every_document_the_same_verdict(embedded: EmbeddedEngine, tool: Tool) -> None:
    """Documents times mutations times environments: the same verdict, down to its id."""
    with OpaEngine(embedded.pack, Path(tool("opa"))) as opa:
        for question in QUESTIONS:
            asked = msgspec.convert(question, PolicyInput)
            assert decide(asked, opa) == decide(asked, embedded), question


@pytest.mark.interop
def test_opa_runs_the_packs_tests(tool: Tool) -> None:
    """The pack's own tests pass in a real OPA as well."""
    answer = subprocess.run([tool("opa"), "test", "--format=json", PACK], check=True, capture_output=True)
    found = json.loads(answer.stdout)
    assert len(found) >= 70
    assert not [item for item in found if item.get("fail") or item.get("error")]


@pytest.mark.interop
def test_opa_checks_the_pack_against_our_schema(tool: Tool) -> None:
    """OPA's strict mode and its own type checker, given our schema, find nothing wrong."""
    subprocess.run([tool("opa"), "check", "--strict", "--schema", SCHEMA, PACK], check=True, capture_output=True)


@pytest.mark.interop
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
