"""Every fuzz target, without fuzzing: what it starts from, and what earlier failures were."""

import fuzz_run
import pytest
from fuzz_target import Target

TARGETS = fuzz_run.targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_seeds_do_not_fail_and_the_first_is_understood(target: Target) -> None:
    """A target reaches its parser: the first seed is read, and none of them, hostile ones among them, makes it fail."""
    understood = [target(seed) for seed in target.seeds]
    assert understood[0]


def test_names_of_targets_are_their_own() -> None:
    """No target hides another of the same name."""
    assert len({target.name for target in TARGETS}) == len(TARGETS)
