"""Component sets that are nearly the same, as comparing all of them with one another would find."""

from pathlib import Path

import pytest
from catalog_sample import component, facts, home
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.resemblance import Resemblances
from tidewaiter.core import limits

Sets = list[frozenset[int]]


def resemblances(folder: Path, sets: Sets, threshold: float = 0.9) -> Resemblances:
    """What is alike among images with these packages."""
    with Catalog.open(home(folder)) as catalog:
        images = [
            (facts(f"i{number}", *(component(f"p{one}") for one in sorted(members))), f"team/i{number:03}")
            for number, members in enumerate(sets)
        ]
        catalog.record_many(images)
        return catalog.resemblances(threshold=threshold, rows=1000)


def test_a_lock_that_differs_in_one_package(tmp_path: Path) -> None:
    """Sets that share nearly everything are one group, with what differs; the others are in none."""
    base = frozenset(range(20))
    found = resemblances(tmp_path, [base, base, base | {20}, base - {0}, frozenset(range(10, 40)), frozenset()])
    assert found.complete
    assert [[(one.images, one.added, one.removed) for one in group.members] for group in found.groups] == [
        [(2, 0, 0), (1, 1, 0), (1, 0, 1)]
    ]
    assert found.groups[0].images == 4
    assert found.groups[0].members[1].similarity == round(20 / 21, 4)


def test_too_much_to_compare_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is bounded, and an answer that leaves something out says so."""
    base = frozenset(range(20))
    sets = [base | {20 + number} for number in range(6)]
    monkeypatch.setattr(limits, "RESEMBLANCE_COMPARISONS", 3)
    found = resemblances(tmp_path, sets)
    assert not found.complete
    assert sum(len(group.members) for group in found.groups) < len(sets)


_SETS = st.lists(st.frozensets(st.integers(0, 14), min_size=1), min_size=2, max_size=8, unique=True)


@pytest.mark.thorough
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sets=_SETS, threshold=st.sampled_from([0.5, 0.7, 0.9, 1.0]))
def test_nothing_alike_is_missed(tmp_path_factory: pytest.TempPathFactory, sets: Sets, threshold: float) -> None:
    """A set is in a group exactly when some first of a group is like it; firsts are not like one another."""
    found = resemblances(tmp_path_factory.mktemp("alike"), sets, threshold)
    number = {f"team/i{place:03}": members for place, members in enumerate(sets)}
    grouped = [[number[one.name] for one in group.members] for group in found.groups]

    def alike(one: frozenset[int], other: frozenset[int]) -> bool:
        return len(one & other) / len(one | other) >= threshold

    firsts = [members[0] for members in grouped]
    firsts += [one for one in sets if not any(one in members for members in grouped)]
    assert all(alike(members[0], one) for members in grouped for one in members[1:])
    assert not any(alike(one, other) for place, one in enumerate(firsts) for other in firsts[:place])
