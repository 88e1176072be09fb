"""`policy test`, `policy bundle`, `policy explain` and `check --pack` on the command line."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.cli import app
from tidewaiter.core import clock
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.pack import default_pack

MANIFEST = """
name = "company"
[tighten.rules]
"name.convention" = { research = "deny" }
[[rule]]
id = "company.port"
title = "Opens no port"
failure = "The image opens ports."
why = "Batch jobs serve nobody."
severity = "low"
levels = { research = "deny", staging = "deny", production = "deny" }
"""
REGO = """package company

import data.tidewaiter.lib

open contains port if some port in input.image.exposed_ports

results contains lib.outcome("company.port", open, "Remove EXPOSE from the Dockerfile.")
"""
TEST = """package company_test

import data.company
import data.tidewaiter.document_test as document

test_no_port if document.passes(company.results, "company.port") with input as document.good
"""


@pytest.fixture
def tidewaiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in a home of its own; exit code, and what it printed: JSON, decoded, where that was asked for."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TIDEWAITER_POLICY", raising=False)

    def run(*words: str) -> tuple[int, Any]:
        code = app.run(words)
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if "json" in words else printed.out + printed.err

    return run


@pytest.fixture
def image(tmp_path: Path) -> str:
    """An image in a layout, which opens a port."""
    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    put_image(
        Layout(tmp_path / "it"), [tar.bytes()], name="1", run=RunConfig(user="1000", exposed_ports={"80/tcp": {}})
    )
    return f"oci:{tmp_path}/it:1"


@pytest.fixture
def company(tmp_path: Path) -> Path:
    """A layer with a rule of its own, and its test."""
    folder = tmp_path / "company"
    folder.mkdir()
    (folder / "pack.toml").write_text(MANIFEST)
    (folder / "company.rego").write_text(REGO)
    (folder / "company_test.rego").write_text(TEST)
    return folder


def denied(answer: Any) -> set[str]:
    """Rules that a verdict denies for."""
    return {item["rule"] for item in answer["violations"]}


def test_layer_decides_from_the_setting_and_from_the_option(
    tidewaiter: Any, image: str, company: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same layer gives the same verdict by setting and by `--pack`, and none without either."""
    ask = ("check", image, "--environment", "research", "--format", "json")
    _, without = tidewaiter(*ask)
    code, tried = tidewaiter(*ask, "--pack", str(company))
    assert (code, denied(tried) - denied(without)) == (1, {"company.port", "name.convention"})
    monkeypatch.setenv("TIDEWAITER_POLICY", str(company))
    _, configured = tidewaiter(*ask)
    assert (configured["id"], configured["policy_revision"]) == (tried["id"], tried["policy_revision"])
    assert configured["policy_revision"] != without["policy_revision"]


def test_bundle_of_the_layer_decides_alike(tidewaiter: Any, image: str, company: Path, tmp_path: Path) -> None:
    """`policy bundle` writes what `--pack` reads: the same revision, the same verdict."""
    code, _ = tidewaiter("policy", "bundle", str(company), "-o", str(tmp_path / "company.tar.gz"))
    assert code == 0
    ask = ("check", image, "--environment", "research", "--format", "json", "--pack")
    assert tidewaiter(*ask, str(tmp_path / "company.tar.gz"))[1]["id"] == tidewaiter(*ask, str(company))[1]["id"]


def test_pack_and_clear_exclude_each_other(tidewaiter: Any, image: str, company: Path) -> None:
    """What another policy would allow is not cleared."""
    words = ("check", image, "--environment", "research", "--clear", "--pack", str(company), "--format", "json")
    assert tidewaiter(*words)[0] == 2


def test_layer_that_loosens_is_refused(tidewaiter: Any, image: str, company: Path) -> None:
    """The error names layer and rule, and nothing is decided or bundled."""
    (company / "pack.toml").write_text('name = "company"\n[tighten.rules]\n"image.non-root" = { production = "off" }\n')
    words = ("check", image, "--environment", "research", "--pack", str(company), "--format", "json")
    code, answer = tidewaiter(*words)
    assert (code, answer["error"]["code"]) == (2, "bad_pack")
    assert "layer company: rule image.non-root may not go from deny to off" in answer["error"]["message"]
    assert tidewaiter("policy", "bundle", str(company), "-o", str(company / "b.tar.gz"))[0] == 2
    assert not (company / "b.tar.gz").exists()


def test_tests_of_a_layer_alone_and_of_all(tidewaiter: Any, company: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pack its own tests run; without, those of everything that is configured."""
    code, answer = tidewaiter("policy", "test", str(company), "--format", "json")
    assert (code, [one["name"] for one in answer["tests"]]) == (0, ["company_test.test_no_port"])
    monkeypatch.setenv("TIDEWAITER_POLICY", str(company))
    _, every = tidewaiter("policy", "test", "--format", "json")
    names = {one["name"] for one in every["tests"]}
    assert {"company_test.test_no_port", "tidewaiter.image_test.test_root_fails"} <= names
    (company / "company.rego").write_text(REGO.replace("some port in", "not 1 in"))
    assert tidewaiter("policy", "test", str(company))[0] in {1, 2}


def test_explain_shows_rule_place_and_values(
    tidewaiter: Any, image: str, company: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a rule stands, what it read, and what it said; an unknown rule is an error."""
    monkeypatch.setenv("TIDEWAITER_POLICY", str(company))
    words = ("policy", "explain", image, "--environment", "research")
    code, text = tidewaiter(*words, "--rule", "company.port")
    assert code == 0, text
    for part in (
        "company.port [deny]: fail",
        "stands in company/company.rego:7",
        'reads input.image.exposed_ports = ["80/tcp"]',
        "found: 80/tcp",
    ):
        assert part in text
    _, answer = tidewaiter(*words, "--format", "json")
    assert {one["rule"] for one in answer["rules"]} > {"company.port", "image.non-root"}
    assert tidewaiter(*words, "--rule", "company.prt", "--format", "json")[0] == 2


def test_explain_names_the_waivers_that_matter(tidewaiter: Any, image: str) -> None:
    """A rule that a waiver covers says so; after the revocation it does not."""
    assert tidewaiter("pull", image, "a/b:1.0.0")[0] == 0
    ask = ("policy", "explain", "a/b:1.0.0", "--environment", "staging", "--format", "json")

    def waivers(answer: Any) -> dict[str, list[str]]:
        return {one["rule"]: one["waived_by"] for one in answer["rules"] if one["waived_by"]}

    end = clock.rfc3339(clock.now() + dt.timedelta(days=1))
    asked = ("--rule", "base.approved", "--environment", "staging", "--reason", "moving", "--expires", end)
    code, answer = tidewaiter("waiver", "request", *asked, "--as", "ann", "--format", "json")
    assert code == 0, answer
    assert waivers(tidewaiter(*ask)[1]) == {}
    assert tidewaiter("waiver", "approve", answer["id"], "--as", "bob")[0] == 0
    assert waivers(tidewaiter(*ask)[1]) == {"base.approved": [answer["id"]]}
    assert f"waived by {answer['id']}" in tidewaiter(*ask[:-2], "--rule", "base.approved")[1]
    assert tidewaiter("waiver", "revoke", answer["id"], "--reason", "done", "--as", "ann")[0] == 0
    assert waivers(tidewaiter(*ask)[1]) == {}


def test_a_second_check_starts_no_engine(tidewaiter: Any, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided once is known to the next command, about another image of the class too, under any digest."""
    ask = ("check", image, "--environment", "production", "--format", "json")
    _, first = tidewaiter(*ask)
    monkeypatch.setattr(EmbeddedEngine, "__init__", None)
    code, again = tidewaiter(*ask)
    assert (code, again["id"]) == (1, first["id"])
    with pytest.raises(TypeError):
        EmbeddedEngine(default_pack())


def test_what_is_attached_is_known_of_images_of_the_catalog_alone(tidewaiter: Any, image: str) -> None:
    """Of a foreign file nobody knows whether it is signed; an image of the store is not, until `--clear` signs it."""

    def found(named: str) -> dict[str, list[str]]:
        _, answer = tidewaiter("check", named, "--environment", "production", "--format", "json")
        return {item["rule"]: item["evidence"] for item in answer["violations"]}

    assert found(image)["attached.signature"] == ["it is not known whether there is a signature"]
    assert tidewaiter("pull", image, "a/b:1.0.0")[0] == 0
    denied_for = found("a/b:1.0.0")
    assert denied_for["attached.signature"] == ["there is no signature"]
    assert denied_for["attached.provenance"] == ["there is no provenance"]
    assert "attached.sbom" not in denied_for


@pytest.mark.interop
def test_opa_by_setting_gives_the_same_verdict(
    tidewaiter: Any, image: str, company: Path, monkeypatch: pytest.MonkeyPatch, tool: Tool
) -> None:
    """`policy_engine = opa` changes who evaluates, and nothing else; without an OPA nothing is decided."""
    ask = ("check", image, "--environment", "production", "--format", "json", "--pack", str(company))
    _, embedded = tidewaiter(*ask)
    monkeypatch.setenv("TIDEWAITER_POLICY_ENGINE", "opa")
    monkeypatch.setenv("TIDEWAITER_OPA", tool("opa"))
    code, answer = tidewaiter(*ask)
    assert (code, answer["id"]) == (1, embedded["id"])
    monkeypatch.setenv("TIDEWAITER_OPA", "no-such-opa")
    code, answer = tidewaiter(*ask)
    assert (code, answer["error"]["code"]) == (3, "missing_tool")
