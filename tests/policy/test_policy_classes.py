"""Answers that are worked out once for a class of images are those that every image alone would get."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from parity_cases import DOCUMENTS, ENVIRONMENTS, MUTATIONS
from policy_documents import FINDING, PASSING, change, document, make_pack

from tidewaiter.core import limits
from tidewaiter.policy.classes import ClassEngine, paths_read
from tidewaiter.policy.engine import EmbeddedEngine, Evaluation, PackageAnswer
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.pack import Pack, default_pack
from tidewaiter.policy.verdict import decide

NAMES: list[dict[str, Any]] = [
    {},
    {"image__digest": "sha256:" + "e" * 64},
    {"image__tag": "latest", "image__reference": "vision/mnist:latest"},
    {"image__name": "Vision", "image__reference": "Vision:0123456789ab"},
]


class Counting:
    """An engine that remembers what it was asked."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine
        self.pack = engine.pack
        self.asked: list[PolicyInput] = []

    def evaluate(self, document: PolicyInput) -> Evaluation:
        self.asked.append(document)
        return self.engine.evaluate(document)


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedEngine]:
    """The embedded engine with the default pack."""
    with EmbeddedEngine(default_pack()) as engine:
        yield engine


def test_every_document_gets_the_verdict_that_it_gets_alone(embedded: EmbeddedEngine) -> None:
    """Documents times mutations times environments times names, mixed: the same verdict, down to its id."""
    questions = [
        msgspec.convert(change(change(base, changes), {**names, "environment": environment}), PolicyInput)
        for base in DOCUMENTS.values()
        for changes in MUTATIONS.values()
        for names in NAMES
        for environment in ENVIRONMENTS
    ]
    questions = random.Random(6).sample(questions, 400)
    classes = ClassEngine(embedded)
    for question in questions:
        assert decide(question, classes) == decide(question, embedded)
    asked = classes.asked
    assert asked < len(questions)
    for question in questions[:100]:
        assert decide(question, classes) == decide(question, embedded)
    assert classes.asked == asked


def test_another_name_asks_only_the_rules_that_read_it(embedded: EmbeddedEngine) -> None:
    """An image like another but for its digest asks nothing; with another tag what has to be asked has no findings."""
    counting = Counting(embedded)
    classes = ClassEngine(counting)
    first = document(findings=[FINDING])
    classes.evaluate(first)
    classes.evaluate(document(findings=[FINDING], image__digest="sha256:" + "e" * 64))
    assert len(counting.asked) == 1
    renamed = document(findings=[FINDING], image__tag="latest")
    assert classes.evaluate(renamed) == embedded.evaluate(renamed)
    assert len(counting.asked) == 2
    assert counting.asked[1].findings == ()
    assert classes.evaluate(first) == embedded.evaluate(first)
    assert len(counting.asked) == 2


def test_what_a_package_may_read_is_known(tmp_path: Path) -> None:
    """Its own paths and those of every package that it refers to; what is not plainly a path is all of the input."""
    pack = make_pack(
        tmp_path,
        {
            "p.rego": "package p\n\nimport data.lib.deep\n\nx := input.image.tag\n",
            "q.rego": 'package q\n\nx := input["image"]\n',
            "r.rego": "package r\n\nimport input.base as ground\n\nx := ground.name\n",
            "s.rego": "package s\n\nx := data[y]\n",
            "lib.rego": "package lib.deep\n\nx := input.findings[_].name # input.now\n",
            "none.rego": 'package none\n\nmy_input := "# \\\\" # input\ny := `input "$` # data\nz := "\\" input$"\n',
            "after.rego": 'package after\n\nx := ["#", "a\\"b", input.now]\n',
            "template.rego": 'package template\n\nx := $"{input.now}"\n',
        },
    )
    read = paths_read(pack)
    assert read["p"] == {("image", "tag"), ("findings",)}
    assert read["q"] == {()}
    assert read["r"] == {("base",)}
    assert read["s"] == frozenset().union(*read.values())
    assert read["none"] == frozenset()
    assert read["after"] == {("now",)}
    assert () in read["template"]


def test_a_module_that_hides_its_package_counts_for_all(tmp_path: Path) -> None:
    """A package that is written with brackets may be any package."""
    pack = make_pack(
        tmp_path,
        {"p.rego": PASSING, "odd.rego": 'package a["b"]\n\nx := input.image.digest\n'},
        "a.b",
    )
    assert paths_read(pack)["p"] == {("image", "digest")}


def test_the_whole_input_in_a_rule_makes_every_image_a_class_of_its_own(tmp_path: Path) -> None:
    """A rule that shows all of the input is asked about every image."""
    rule = '{"id": "a.b", "status": "fail", "evidence": [json.marshal(input.image)], "remedy": "x"}'
    with EmbeddedEngine(make_pack(tmp_path, f"package p\n\nresults contains {rule}\n", "a.b")) as engine:
        classes = ClassEngine(engine)
        for digit in "abab":
            question = document(image__digest="sha256:" + digit * 64)
            assert decide(question, classes) == decide(question, engine)
        assert classes.asked == 2


class Failing:
    """An engine whose first answers fail: the engine itself, then a package."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self.answers = [
            Evaluation({}, "the process died"),
            Evaluation({"p": PackageAnswer(error="out of time")}),
            Evaluation({"p": PackageAnswer(msgspec.Raw(b"[]"))}),
        ]

    def evaluate(self, document: PolicyInput) -> Evaluation:
        return self.answers.pop(0)


def test_a_failure_is_not_remembered(tmp_path: Path) -> None:
    """What could not be evaluated is tried again; what was evaluated then is remembered."""
    failing = Failing(make_pack(tmp_path, PASSING, "a.b"))
    classes = ClassEngine(failing)
    assert classes.evaluate(document()).failure == "the process died"
    assert classes.evaluate(document()).packages["p"].error == "out of time"
    assert classes.evaluate(document()).packages["p"].error == ""
    assert classes.evaluate(document()).packages["p"].error == ""
    assert failing.answers == []


def test_answers_are_forgotten_beyond_the_bound(embedded: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one document's answers the second takes the place of the first, and nothing is answered wrongly."""
    packages = len(embedded.evaluate(document()).packages)
    monkeypatch.setattr(limits, "POLICY_CLASSES", packages)
    classes = ClassEngine(embedded)
    for environment in ("staging", "research", "staging"):
        question = document(environment=environment, now="2026-01-31T12:00:01Z", findings=[FINDING])
        assert decide(question, classes) == decide(question, embedded)
    assert len(classes._answers) == packages
