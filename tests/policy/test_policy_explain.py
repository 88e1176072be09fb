from collections.abc import Iterator

import pytest
from policy_documents import FINDING, document

from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.explain import difference, lines, violation_lines
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.verdict import Violation, decide


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    """One engine with the default pack."""
    with EmbeddedEngine(default_pack()) as engine:
        yield engine


def test_lines_say_rule_reason_evidence_and_change(engine: EmbeddedEngine) -> None:
    """Everything that a person needs to mend the image is in the text."""
    text = "\n".join(lines(decide(document(findings=[FINDING]), engine), engine.pack))
    assert text.startswith("production: denied")
    for part in (
        "advisories.no-fixable-high-critical [critical]",
        "why: The fix is there",
        "found: pillow 10.2.0: PYSEC-2024-1 (high); fixed in 10.3.0",
        "change: In requirements.in set pillow>=10.3.0",
    ):
        assert part in text


def test_lines_of_an_allowed_image_are_one(engine: EmbeddedEngine) -> None:
    """Nothing to change, nothing to say."""
    assert lines(decide(document(), engine), engine.pack) == ["production: allowed (until 2026-02-01T12:00:00Z)"]


def test_lines_tell_not_checked_from_clean(engine: EmbeddedEngine) -> None:
    """Packages without data are named even where they only warn."""
    group = {"ecosystem": "Debian:12", "reason": "no data", "count": 3, "examples": ["libc6 2.36"]}
    text = lines(decide(document(environment="staging", not_checked=[group]), engine))
    assert text[0].startswith("staging: allowed")
    assert text[-1] == "not checked: 3 packages of Debian:12 (no data): libc6 2.36"


def test_long_evidence_is_counted() -> None:
    """Past ten lines of evidence the rest is a number."""
    item = Violation(rule="a.b", severity="low", message="m", evidence=tuple(map(str, range(13))), remedy="r")
    text = violation_lines((item,))
    assert text[-2:] == ["    found: 3 more", "    change: r"]


def test_difference_is_what_production_demands_beyond_staging(engine: EmbeddedEngine) -> None:
    """Rules that already deny are left out; those that only warned there deny here."""
    changes = {"image__builder": "local", "image__dirty": True, "findings": [FINDING]}
    staging = decide(document(environment="staging", **changes), engine)
    beyond = difference(staging, decide(document(**changes), engine))
    assert [item.rule for item in beyond.violations] == ["name.not-dirty", "build.builder-registered"]
    assert beyond.warnings == ()
    assert difference(staging, staging).violations == ()


def test_evidence_cannot_steer_the_terminal(engine: EmbeddedEngine) -> None:
    """A path with escape sequences or line breaks in it is shown harmlessly."""
    verdict = decide(document(programs=[{"path": "/bin/\x1b[2J\nsh", "kind": "shell"}]), engine)
    text = lines(verdict)
    assert "    found: /bin/\ufffd[2J\ufffdsh" in text
    assert "\x1b" not in "".join(text)
