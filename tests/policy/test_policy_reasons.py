from collections.abc import Iterator
from pathlib import Path

import pytest
from policy_documents import document, make_pack

from tidewaiter.policy.engine import EmbeddedEngine, Reading
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.reasons import Reason, reasons
from tidewaiter.policy.results import compare

RULE = """package p

import data.settings as chosen
import input.image as image

limit := chosen.most

helper(one) := count(one.labels)

listed contains name if some name, _ in image.labels

results contains {"id": "a.b", "status": "pass", "evidence": [], "remedy": ""} if {
	helper(input.image) < limit
	some program in input.programs
	program.path != input.packages.python[input.image.tag][0]
	count(listed) > 0
}

unused := input.environment
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    """One engine with the default pack."""
    with EmbeddedEngine(default_pack()) as engine:
        yield engine


def explained(engine: EmbeddedEngine, **changes: object) -> dict[str, Reason]:
    """Reasons by rule."""
    asked = document(**changes)
    found = compare(engine.pack.rules, engine.evaluate(asked))
    return {one.rule: one for one in reasons(engine.pack, asked, found, engine.readings())}


def test_every_rule_of_the_default_pack_is_found_in_its_file(engine: EmbeddedEngine) -> None:
    """File and line point at the definition that names the rule, and every rule reads something."""
    found = engine.readings()
    assert set(found) == {rule.id for rule in engine.pack.rules}
    for name, reading in found.items():
        (text,) = [module.text for module in engine.pack.modules if module.path == reading.file]
        after = "\n".join(text.splitlines()[reading.line - 1 :][:3])
        assert name in after
        assert reading.reads


def test_reading_follows_functions_rules_imports_and_indexes(tmp_path: Path) -> None:
    """What a rule reads through names is found; what it does not reach, and data, is not."""
    with EmbeddedEngine(make_pack(tmp_path, RULE, "a.b", data='{"settings": {"most": 9}}')) as engine:
        assert engine.readings() == {
            "a.b": Reading(file="p.rego", line=12, reads=(("image",), ("packages", "python"), ("programs",)))
        }


def test_reason_shows_the_values_that_decided(engine: EmbeddedEngine) -> None:
    """A failed rule comes with what it found, and with the fields and values that it read."""
    reason = explained(engine, image__dirty=True)["name.not-dirty"]
    assert (reason.status, reason.level, reason.file) == ("fail", "deny", "name.rego")
    assert [(value.path, value.value) for value in reason.reads] == [
        ("input.image.dirty", "true"),
        ("input.image.reference", '"vision/mnist:0123456789ab"'),
    ]
    assert "differs from its commit" in reason.evidence[0]


def test_long_values_are_cut_with_their_length(engine: EmbeddedEngine) -> None:
    """Thousands of packages do not fill the screen, and it is said how much there is."""
    many = {f"package-{number}": ["1.0"] for number in range(500)}
    (value,) = [
        value
        for value in explained(engine, packages__python=many)["image.no-jupyter"].reads
        if value.path == "input.packages.python"
    ]
    assert len(value.value) < 400
    assert value.value.endswith("characters)")


def test_field_that_an_image_does_not_have_is_nothing(tmp_path: Path) -> None:
    """One label among many possible ones may be missing."""
    rego = (
        'package p\n\nresults contains {"id": "a.b", "status": "pass", "evidence": [], "remedy": ""} if '
        "not input.image.labels.owner\n"
    )
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b")) as engine:
        (value,) = explained(engine)["a.b"].reads
    assert (value.path, value.value) == ("input.image.labels.owner", "nothing")
