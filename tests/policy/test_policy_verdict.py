import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from policy_documents import FINDING, PASSING, document, make_pack

from tidewaiter.core.errors import InputError
from tidewaiter.oci import digest
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.verdict import ENVIRONMENTS, Verdict, check_environment, decide

RESEARCH, STAGING, PRODUCTION = "research", "staging", "production"


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    """One engine with the default pack."""
    with EmbeddedEngine(default_pack()) as engine:
        yield engine


def answer(engine: EmbeddedEngine, rule: str, environment: str, changes: dict[str, Any]) -> str:
    """`deny`, `warn` or `off`: what the verdict makes of `rule` for the good image with `changes`."""
    verdict = decide(document(environment=environment, **changes), engine)
    if rule in {item.rule for item in verdict.violations}:
        assert verdict.verdict == "deny"
        return "deny"
    return "warn" if rule in {item.rule for item in verdict.warnings} else "off"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_good_image_is_allowed_without_a_word(engine: EmbeddedEngine, environment: str) -> None:
    """An image that satisfies every rule is allowed everywhere, with no violation and no warning."""
    verdict = decide(document(environment=environment), engine)
    assert (verdict.verdict, verdict.violations, verdict.warnings) == ("allow", (), ())
    assert verdict.allowed
    assert not verdict.undetermined


OLD = [{"ecosystem": "PyPI", "as_of": "2024-10-10T00:00:00Z", "age_days": 478}]
MISSING = [{"ecosystem": "Debian:12", "reason": "no data", "count": 3, "examples": ["libc6 2.36"]}]


@pytest.mark.parametrize(
    ("rule", "changes", "levels"),
    [
        ("image.non-root", {"image__runs_as_root": True}, "warn deny deny"),
        ("image.no-shell", {"programs": [{"path": "/bin/sh", "kind": "shell"}]}, "off warn deny"),
        ("image.no-package-manager", {"programs": [{"path": "/a", "kind": "package_manager"}]}, "off warn deny"),
        ("image.no-compiler", {"programs": [{"path": "/a", "kind": "compiler"}]}, "off warn deny"),
        ("image.no-debugger", {"programs": [{"path": "/a", "kind": "debugger"}]}, "off warn deny"),
        ("image.no-ssh-server", {"programs": [{"path": "/a", "kind": "ssh_server"}]}, "warn deny deny"),
        ("image.no-jupyter", {"packages__python": {"notebook": ["7.0"]}}, "off warn deny"),
        ("name.no-latest", {"image__tag": "latest"}, "warn deny deny"),
        ("name.convention", {"image__tag": "prod"}, "warn deny deny"),
        ("name.not-dirty", {"image__dirty": True}, "off warn deny"),
        ("advisories.no-fixable-high-critical", {"findings": [FINDING]}, "warn deny deny"),
        (
            "advisories.unknown-severity-with-fix",
            {"findings": [{**FINDING, "severity": "unknown"}]},
            "off warn deny",
        ),
        ("advisories.coverage", {"not_checked": MISSING}, "off warn deny"),
        ("advisories.age", {"advisories__feeds": OLD}, "warn warn deny"),
        ("build.builder-registered", {"image__builder": "local"}, "off off deny"),
        ("base.approved", {"base__approved": False}, "off warn deny"),
        ("base.approved", {"base__approved": False, "base__expired": True}, "off warn deny"),
        ("base.not-retired", {"base__approved": False, "base__retired": True}, "warn warn deny"),
        ("framework.tested", {"framework__tested": "no"}, "off warn warn"),
        ("framework.tested", {"framework__tested": "unknown"}, "off warn warn"),
        ("framework.no-conflict", {"framework__conflicts": ["CUDA 11"]}, "warn warn deny"),
        ("framework.driver-known", {"framework__least_driver": ""}, "off warn deny"),
    ],
)
def test_environments_differ_as_the_manifest_says(
    engine: EmbeddedEngine, rule: str, changes: dict[str, Any], levels: str
) -> None:
    """Each rule of the default pack denies, warns or is silent as its environment asks."""
    found = [answer(engine, rule, environment, changes) for environment in (RESEARCH, STAGING, PRODUCTION)]
    assert found == levels.split()


def test_violation_names_rule_evidence_and_change(engine: EmbeddedEngine) -> None:
    """A denial says what was found and what to write where."""
    (violation,) = decide(document(findings=[FINDING]), engine).violations
    assert violation.rule == "advisories.no-fixable-high-critical"
    assert violation.severity == "critical"
    assert violation.evidence == ("pillow 10.2.0: PYSEC-2024-1 (high); fixed in 10.3.0",)
    assert violation.remedy == "In requirements.in set pillow>=10.3.0, then `tidewaiter lock PROJECT` and build again."


def test_json_has_exactly_the_documented_shape(engine: EmbeddedEngine) -> None:
    """The encoded verdict has the fields that others read, and decodes to the same value."""
    facts = digest.of(b"facts")
    verdict = decide(document(image__dirty=True, not_checked=MISSING), engine, evidence={"facts": facts})
    shape = json.loads(msgspec.json.encode(verdict))
    assert list(shape) == [
        "id",
        "artifact",
        "environment",
        "verdict",
        "policy_revision",
        "advisories_revision",
        "evidence",
        "violations",
        "waived",
        "refused_waivers",
        "warnings",
        "not_checked",
        "decided_at",
        "valid_until",
    ]
    assert list(shape["violations"][0]) == ["rule", "severity", "message", "evidence", "remedy"]
    assert shape["evidence"]["facts"] == facts
    assert shape["waived"] == []
    assert shape["not_checked"] == MISSING
    assert shape["policy_revision"] == engine.pack.revision
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


def test_id_names_the_question_without_the_times(engine: EmbeddedEngine) -> None:
    """Asked again later, the id is the same; asked about anything else, it differs."""
    first = decide(document(), engine)
    later = decide(document(now="2026-01-31T18:00:00Z"), engine)
    assert (first.id, first.decided_at) != (later.id, later.decided_at)
    assert first.id == later.id
    others = [
        decide(document(environment="staging"), engine),
        decide(document(image__digest="sha256:" + "c" * 64), engine),
        decide(document(image__user="1000"), engine),
        decide(document(advisories__revision="sha256:" + "d" * 64), engine),
        decide(document(), engine, evidence={"facts": digest.of(b"x")}),
    ]
    assert len({first.id, *(other.id for other in others)}) == 6


def test_id_changes_with_the_policy(tmp_path: Path) -> None:
    """Another revision of the pack is another verdict."""
    with EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b")) as one:
        first = decide(document(), one)
    with EmbeddedEngine(make_pack(tmp_path, PASSING + "\n# changed\n", "a.b")) as other:
        second = decide(document(), other)
    assert first.allowed
    assert second.allowed
    assert first.id != second.id


def test_validity_is_bounded_from_both_sides(engine: EmbeddedEngine) -> None:
    """24 hours are the longest validity; more, none and less than none are refused."""
    day = dt.timedelta(days=1)
    assert decide(document(), engine).valid_until == "2026-02-01T12:00:00Z"
    assert decide(document(), engine, lifetime=day).valid_until == "2026-02-01T12:00:00Z"
    assert decide(document(), engine, lifetime=dt.timedelta(hours=1)).valid_until == "2026-01-31T13:00:00Z"
    for wrong in (day + dt.timedelta(seconds=1), dt.timedelta(0), -day):
        with pytest.raises(InputError):
            decide(document(), engine, lifetime=wrong)


def test_empty_policy_denies(tmp_path: Path) -> None:
    """A pack without rules allows nothing."""
    with EmbeddedEngine(make_pack(tmp_path, {})) as engine:
        verdict = decide(document(), engine)
    assert [(verdict.verdict, item.rule) for item in verdict.violations] == [("deny", "policy.empty")]


def test_policy_that_is_off_in_the_environment_denies(tmp_path: Path) -> None:
    """Rules that are all off are no policy for this environment."""
    with EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b", levels="off")) as engine:
        assert [item.rule for item in decide(document(), engine).violations] == ["policy.empty"]


@pytest.mark.parametrize("level", ["deny", "warn", "off"])
def test_undetermined_denies_at_every_level(tmp_path: Path, level: str) -> None:
    """A rule that cannot be evaluated denies even where failing it would only warn, and is told apart from a no."""
    with EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b", "c.d", levels=level)) as engine:
        verdict = decide(document(), engine)
    assert verdict.verdict == "deny"
    assert verdict.undetermined
    assert ("c.d", "undetermined") in {(item.rule, item.severity) for item in verdict.violations}


def test_denial_with_a_real_violation_is_not_undetermined(tmp_path: Path) -> None:
    """One real no is a no, whatever else could not be checked."""
    rego = 'package p\n\nresults contains {"id": "a.b", "status": "fail", "evidence": ["e"], "remedy": "r"}\n'
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b", "c.d")) as engine:
        verdict = decide(document(), engine)
    assert [item.severity for item in verdict.violations] == ["high", "undetermined"]
    assert not verdict.undetermined


def test_not_applicable_neither_denies_nor_warns(tmp_path: Path) -> None:
    """A rule that does not concern the image stays silent."""
    rego = 'package p\n\nresults contains {"id": "a.b", "status": "not_applicable", "evidence": ["no"], "remedy": ""}\n'
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b")) as engine:
        verdict = decide(document(), engine)
    assert (verdict.verdict, verdict.violations, verdict.warnings) == ("allow", (), ())


def test_unknown_environment_and_malformed_time_are_input_errors(engine: EmbeddedEngine) -> None:
    """What cannot be asked is refused before the engine is."""
    with pytest.raises(InputError, match="not a policy environment"):
        check_environment("prod")
    wrong = msgspec.structs.replace(document(), environment="prod")
    with pytest.raises(InputError, match="not a policy environment"):
        decide(wrong, engine)
    with pytest.raises(InputError, match="yesterday"):
        decide(document(now="yesterday"), engine)
