"""The negative corpus: everything that must not be trusted, and how each is told from the others."""

from pathlib import Path

import negative_corpus_attestations
import negative_corpus_keys
import negative_corpus_places
import negative_corpus_signatures
import negative_corpus_verdicts
import pytest
from negative_corpus_world import IMAGE, Case

from tidewaiter.core.errors import InputError
from tidewaiter.signing import keys, trust, verify
from tidewaiter.signing.verify import AbsentError, InvalidError, UncheckedError

CASES: list[Case] = [
    *negative_corpus_signatures.CASES,
    *negative_corpus_attestations.CASES,
    *negative_corpus_verdicts.CASES,
    *negative_corpus_places.CASES,
]
ENDS = {"invalid": InvalidError, "absent": AbsentError, "unchecked": UncheckedError}


def test_the_corpus_is_large_and_no_case_is_twice() -> None:
    """At least 60 cases, each with a name of its own."""
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.step} {case.name}")
def test_a_deception_is_not_accepted(case: Case, tmp_path: Path) -> None:
    """The chain does not hold, at the step that the case breaks and at no other, and ends as the case says."""
    world = case.build(tmp_path)
    report = verify.chain(world.gathered, IMAGE, world.trust, at=world.now, repository=world.repository)
    assert not report.holds
    outcomes = {step.number: step.outcome for step in report.steps}
    assert outcomes[case.step] == case.outcome, report.steps
    # Without a signature there is no key to ask about; an image without a key has nothing else either; and what could
    # not be read could be a later verdict.
    follow = {1: set(outcomes), 2: set(outcomes), 3: {4}}.get(case.step, set()) | ({9} if world.unread else set())
    failed = {number for number, outcome in outcomes.items() if outcome not in {"holds", "not_asked"}}
    assert failed <= {case.step} | follow, report.steps
    error = report.error()
    assert type(error) is ENDS[case.outcome]
    assert report.undetermined == (case.outcome == "unchecked")


@pytest.mark.parametrize("name", negative_corpus_keys.SEALED_CASES)
def test_an_odd_private_key_is_not_opened(name: str) -> None:
    """Nobody signs with a key whose file is not exactly as cosign writes it."""
    with pytest.raises(InputError):
        keys.open_sealed(negative_corpus_keys.SEALED_CASES[name], negative_corpus_keys.PASSWORD, source="a key")


@pytest.mark.parametrize("name", negative_corpus_keys.PUBLIC_CASES)
def test_an_odd_public_key_is_not_trusted(name: str, tmp_path: Path) -> None:
    """A policy that names anything but an ECDSA P-256 key in PEM is no policy."""
    (tmp_path / "odd.pub").write_bytes(negative_corpus_keys.PUBLIC_CASES[name])
    policy = b'environment = "research"\nrequire = ["signature"]\n[[key]]\nname = "odd"\npath = "odd.pub"\n'
    with pytest.raises(InputError):
        trust.parse(policy, source="trust.toml", directory=tmp_path)


def test_the_keys_that_the_odd_ones_come_from_are_taken() -> None:
    """The cases are refused for what is odd about them."""
    opened = keys.open_sealed(negative_corpus_keys.SEALED, negative_corpus_keys.PASSWORD, source="a key")
    assert opened.public == keys.parse_public(negative_corpus_keys.KEY.public.pem, source="a key")
