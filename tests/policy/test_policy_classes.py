"""Answers that are worked out once for a class of images are those that every image alone would get."""

import random
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from parity_cases import DOCUMENTS, ENVIRONMENTS, MUTATIONS
from policy_documents import FINDING, PASSING, change, document, make_pack

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.oci.digest import Digest
from tidewaiter.policy import classes
from tidewaiter.policy.classes import ClassEngine, paths_read
from tidewaiter.policy.engine import EmbeddedEngine, Evaluation, PackageAnswer, WaitingEngine
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.pack import Pack, default_pack
from tidewaiter.policy.verdict import Verdict, decide

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
        self.told: list[tuple[PolicyInput, Collection[str] | None]] = []

    def evaluate(self, document: PolicyInput, packages: Collection[str] | None = None) -> Evaluation:
        self.asked.append(document)
        self.told.append((document, packages))
        return self.engine.evaluate(document, packages)


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

    def evaluate(self, document: PolicyInput, packages: Collection[str] | None = None) -> Evaluation:
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


class Kept:
    """A memory that outlives engines."""

    def __init__(self) -> None:
        self.answers: dict[Digest, bytes] = {}

    def recall(self, keys: Collection[Digest]) -> Mapping[Digest, bytes]:
        return {key: self.answers[key] for key in keys if key in self.answers}

    def keep(self, answers: Mapping[Digest, bytes]) -> None:
        self.answers.update(answers)


def _verdict(engine: Counting, memory: Kept, asked: PolicyInput, *, name: str = "one") -> Verdict:
    with ClassEngine(engine, memory, name=name) as classes:
        return decide(asked, classes)


def test_what_a_memory_holds_needs_no_engine(embedded: EmbeddedEngine) -> None:
    """A second process asks nothing, about another image of the class too; the verdict is that of the engine."""
    memory, counting = Kept(), Counting(embedded)
    asked = document(findings=[FINDING])
    like = document(findings=[FINDING], image__digest="sha256:" + "e" * 64, packages__python={"unknown": ["1"]})
    first = _verdict(counting, memory, asked)
    assert len(counting.asked) == 1
    assert _verdict(counting, memory, asked) == first == decide(asked, embedded)
    assert _verdict(counting, memory, like) == decide(like, embedded)
    assert len(counting.asked) == 1


def test_what_is_prepared_is_asked_once_and_in_parts(embedded: EmbeddedEngine) -> None:
    """Each question of many documents is asked once, of packages that lack an answer; evaluating asks none."""
    memory, counting = Kept(), Counting(embedded)
    names = [{"image__digest": "sha256:" + digit * 64} for digit in "abc"] + [{"image__tag": "latest"}]
    documents = [document(findings=[FINDING], **changes) for changes in names]
    with ClassEngine(counting, memory) as answers:
        answers.prepare(documents)
        assert [packages for _, packages in counting.told] == [None, {"tidewaiter.name"}]
        found = [answers.evaluate(one) for one in documents]
        assert found == [embedded.evaluate(one) for one in documents]
        assert found[1] is found[2]
        assert len(counting.asked) == answers.asked == 2
    with ClassEngine(counting, memory) as answers:
        answers.prepare(documents)
        assert [answers.evaluate(one) for one in documents] == found
        assert answers.asked == 0


def test_preparing_stops_where_something_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that fails is not tried on all documents twice; evaluating says of each that it failed."""
    monkeypatch.setattr(classes, "_TOGETHER", 1)
    rego = 'package p\n\nresults contains 1 / 0 if input.image.tag != "x"\n'
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b")) as engine:
        counting = Counting(engine)
        documents = [document(image__tag=f"1.{number}") for number in range(3)]
        with ClassEngine(counting) as answers:
            answers.prepare(documents)
            assert len(counting.asked) == 2
            assert all(answers.evaluate(one).packages["p"].error for one in documents)


def test_an_engine_answers_for_some_packages(embedded: EmbeddedEngine) -> None:
    """What it answers for them is what it answers for them among all."""
    whole = embedded.evaluate(document(findings=[FINDING])).packages
    wanted = {"tidewaiter.name", "tidewaiter.advisories", "tidewaiter.unheard"}
    some = embedded.evaluate(document(findings=[FINDING]), wanted).packages
    assert some == {name: whole[name] for name in sorted(wanted & whole.keys())}
    assert len(some) == 2


def test_another_engine_or_pack_asks_for_itself(embedded: EmbeddedEngine, tmp_path: Path) -> None:
    """What one program answered for one pack is no answer of another."""
    memory, counting = Kept(), Counting(embedded)
    _verdict(counting, memory, document())
    _verdict(counting, memory, document(), name="another")
    assert len(counting.asked) == 2
    with EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b")) as other:
        changed = Counting(other)
        assert _verdict(changed, memory, document()) == decide(document(), other)
        assert len(changed.asked) == 1


def test_a_waiver_and_the_passing_of_days_ask_again(embedded: EmbeddedEngine) -> None:
    """A finding that is waived, and data that grew older, are another class."""
    memory, counting = Kept(), Counting(embedded)
    feed = {"ecosystem": "PyPI", "as_of": "2026-01-30T00:00:00Z", "age_days": 2}
    for number, changes in enumerate(
        (
            {"findings": [FINDING]},
            {"findings": [{**FINDING, "waived_by": "W-1"}]},
            {"findings": [FINDING], "advisories__feeds": [feed]},
            {"findings": [FINDING], "advisories__feeds": [{**feed, "age_days": 9}]},
        ),
        start=1,
    ):
        with ClassEngine(counting, memory) as classes:
            assert classes.evaluate(document(**changes)) == embedded.evaluate(document(**changes))
        assert len(counting.asked) == number


@pytest.mark.parametrize("stored", [b"", b"{}", b"null", b'{"value":1,"error":"x"}', b'["a"', b"[" * 5000])
def test_an_odd_memory_is_not_believed(embedded: EmbeddedEngine, stored: bytes) -> None:
    """What is kept there and is no answer, or an error, is asked for again."""
    memory, counting = Kept(), Counting(embedded)
    first = _verdict(counting, memory, document())
    memory.answers = dict.fromkeys(memory.answers, stored)
    assert _verdict(counting, memory, document()) == first


def test_errors_are_not_kept(tmp_path: Path) -> None:
    """A rule that failed to evaluate is tried again by the next process."""
    memory = Kept()
    with EmbeddedEngine(make_pack(tmp_path, "package p\n\nresults contains 1 / 0\n", "a.b")) as engine:
        counting = Counting(engine)
        for number in (1, 2):
            assert _verdict(counting, memory, document()).undetermined
            assert len(counting.asked) == number


def test_an_engine_that_waits_starts_with_the_first_question(tmp_path: Path) -> None:
    """Nothing runs before; what is wrong with the pack is said when it is asked, and the engine ends with the block."""
    pack = make_pack(tmp_path, PASSING, "a.b")
    made: list[EmbeddedEngine] = []

    def start() -> EmbeddedEngine:
        made.append(EmbeddedEngine(pack))
        return made[0]

    with WaitingEngine(pack, start) as waiting:
        assert made == []
        assert decide(document(), waiting).allowed
        assert decide(document(), waiting).allowed
        assert len(made) == 1
    assert made[0].evaluate(document()).packages  # closed: a new child for the one question
    made[0].close()
    wrong = make_pack(tmp_path, "package p\n\nresults contains input.imagee\n", "a.b")
    with WaitingEngine(wrong, lambda: EmbeddedEngine(wrong)) as waiting, pytest.raises(InputError):
        waiting.evaluate(document())


def test_a_memory_gets_answers_in_parts(embedded: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many images do not pile answers up until the end."""
    monkeypatch.setattr(classes, "_AT_ONCE", 1)
    memory = Kept()
    with ClassEngine(embedded, memory) as engine:
        engine.evaluate(document())
        assert memory.answers
        assert engine.evaluate(document()) == embedded.evaluate(document())


@pytest.mark.parametrize(
    ("body", "kept"), [("input.now != x", 1), ("count(input) > 0", 1), ("input.image.tag != x", 2)]
)
def test_an_answer_about_the_time_is_not_kept(tmp_path: Path, body: str, kept: int) -> None:
    """Nobody asks that question again; only the names of the packages are kept then."""
    rego = PASSING.rstrip() + f' if {{\n\tx := "never"\n\t{body}\n}}\n'
    memory = Kept()
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b")) as engine, ClassEngine(engine, memory) as answers:
        assert decide(document(), answers).allowed
    assert len(memory.answers) == kept
