from pathlib import Path

import msgspec
import pytest
from policy_documents import PASSING, document, make_pack

from tidewaiter.policy.engine import EmbeddedEngine, Evaluation, PackageAnswer
from tidewaiter.policy.results import Comparing, RuleResult, compare
from tidewaiter.policy.verdict import decide

RESULT = '{"id": "a.b", "status": "pass", "evidence": [], "remedy": ""}'


def results(parent: Path, rego: str | dict[str, str], *rules: str) -> tuple[RuleResult, ...]:
    """What comparing gives for a pack that promises `rules`; the verdict on it must be deny unless all passed."""
    with EmbeddedEngine(make_pack(parent, rego, *rules)) as engine:
        found = compare(engine.pack.rules, engine.evaluate(document()))
        assert decide(document(), engine).allowed == all(item.status == "pass" for item in found)
        comparing = Comparing(engine.pack)
        assert [comparing.compare(engine.evaluate(document())) for _ in range(2)] == [found, found]
        return found


def test_one_result_for_each_rule_passes(tmp_path: Path) -> None:
    """What the manifest promises and the rules give, in the manifest's order."""
    rego = PASSING.replace('"id": "a.b"', '"id": id').rstrip() + ' if some id in ["c.d", "a.b"]'
    found = results(tmp_path, rego, "c.d", "a.b")
    assert [(item.id, item.status) for item in found] == [("c.d", "pass"), ("a.b", "pass")]


@pytest.mark.parametrize(
    ("rego", "why"),
    [
        ("package p\n\nx := 1", "it gave no result"),
        (f"package p\n\nresults contains {RESULT} if input.image.dirty", "it gave no result"),
        (f"package p\n\nresults := [{RESULT}] if input.image.dirty", "results is undefined"),
        (
            f"package p\n\nresults contains {RESULT}\n\nresults contains {RESULT.replace('pass', 'not_applicable')}",
            "it gave 2",
        ),
        ("package p\n\nresults := true", "malformed result"),
        ("package p\n\nresults := {1, 2}", "malformed result"),
        (f"package p\n\nresults contains {RESULT.replace('pass', 'ok')}", "malformed result"),
        (f"package p\n\nresults contains {RESULT.replace('[]', 'null')}", "malformed result"),
        (f"package p\n\nresults contains {RESULT.replace('[]', '[1]')}", "malformed result"),
        (f"package p\n\nresults contains {RESULT.replace('remedy', 'remedies')}", "malformed result"),
        (f"package p\n\nresults contains {RESULT.replace('pass', 'fail')}", "it failed without evidence or remedy"),
        (f"package p\n\nresults contains {RESULT.replace('a.b', 'a.c')}", "it gave no result"),
        (f"package p\n\nx := 1\n\nx := 2\n\nresults contains {RESULT} if x == 1", "rule conflicts"),
        (f"package p\n\nx := y\n\ny := x\n\nresults contains {RESULT} if x == 1", "recursion"),
    ],
)
def test_anything_else_is_undetermined_and_denies(tmp_path: Path, rego: str, why: str) -> None:
    """Missing, undefined, double and malformed results, conflicts and recursion never pass and never fail quietly."""
    found = results(tmp_path, rego, "a.b")
    assert found[0].id == "a.b"
    assert found[0].status == "undetermined"
    assert found[0].remedy
    assert why in " ".join(line for item in found for line in item.evidence)


@pytest.mark.parametrize("value", [f"[{RESULT}]", f"{{{RESULT}}}", RESULT])
def test_results_may_be_a_complete_rule(tmp_path: Path, value: str) -> None:
    """An array, a set and a single object are accepted: what counts is one result for each rule."""
    assert [item.status for item in results(tmp_path, f"package p\n\nresults := {value}", "a.b")] == ["pass"]


def test_result_without_promise_is_undetermined(tmp_path: Path) -> None:
    """A rule that the manifest does not know, perhaps by a typing mistake, denies."""
    rego = {"p.rego": PASSING, "q.rego": f"package q\n\nresults contains {RESULT.replace('a.b', 'a.bb')}"}
    found = results(tmp_path, rego, "a.b")
    assert [(item.id, item.status) for item in found] == [("a.b", "pass"), ("a.bb", "undetermined")]


def test_two_packages_cannot_answer_for_one_rule_differently(tmp_path: Path) -> None:
    """A second package that passes a rule does not overrule the one that fails it."""
    failing = '{"id": "a.b", "status": "fail", "evidence": ["e"], "remedy": "r"}'
    rego = {"p.rego": PASSING, "q.rego": f"package q\n\nresults contains {failing}"}
    assert [item.status for item in results(tmp_path, rego, "a.b")] == ["undetermined"]


def test_package_that_fails_spoils_its_own_rules_only(tmp_path: Path) -> None:
    """An error in one package leaves the results of the others, and denies."""
    broken = f"package q\n\nresults contains {RESULT.replace('a.b', 'c.d')} if to_number(input.now) == 1"
    found = results(tmp_path, {"p.rego": PASSING, "q.rego": broken}, "a.b", "c.d")
    assert [(item.id, item.status) for item in found] == [
        ("a.b", "pass"),
        ("c.d", "undetermined"),
        ("q", "undetermined"),
    ]


def test_failure_of_the_engine_spoils_every_rule(tmp_path: Path) -> None:
    """Without an answer, no rule has passed."""
    rules = make_pack(tmp_path, PASSING, "a.b", "c.d").rules
    found = compare(rules, Evaluation({}, "it died"))
    assert [(item.id, item.status, item.evidence) for item in found] == [
        (name, "undetermined", ("could not be evaluated: it died",)) for name in ("a.b", "c.d")
    ]


def test_answers_that_change_are_not_taken_for_those_before(tmp_path: Path) -> None:
    """Whatever was compared before, an evaluation is compared as if it were the first one."""
    pack = make_pack(tmp_path, PASSING, "a.b")
    with EmbeddedEngine(pack) as engine:
        comparing = Comparing(engine.pack)

    def answer(*results: str, error: str = "") -> PackageAnswer:
        return PackageAnswer(value=msgspec.Raw(f"[{', '.join(results)}]".encode()), error=error)

    passed, failed = (
        answer(RESULT),
        answer(RESULT.replace("pass", "fail").replace('[], "remedy": ""', '["e"], "remedy": "r"')),
    )
    nothing, odd, broken = answer(), answer("1"), answer(error="it died")
    strange = answer(RESULT.replace("a.b", "x.y"))
    some = [passed, failed, nothing, odd, broken, strange]
    pairs = [{"p": one, "q": other} for one in some for other in some]
    alone = [{"p": one} for one in some]
    everything = [Evaluation(packages) for packages in (*pairs, *alone, {})]
    everything += [Evaluation({"p": passed}, failure="it is late")]
    for first in everything:
        for second in everything:
            for evaluation in (first, second):
                assert comparing.compare(evaluation) == compare(pack.rules, evaluation, pack.homes)
