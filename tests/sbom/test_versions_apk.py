"""Alpine version order, held against answers of apk-tools."""

import operator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.sbom.versions.apk import key

# Answers of apk-tools 3 (commit 90b974fd, `apk_version_compare` and `apk_version_validate`) on versions of our own.
ANSWERS = (Path(__file__).parent / "apk_versions.txt").read_text().splitlines()
_SAYS = {"<": operator.lt, "=": operator.eq, ">": operator.gt}

_numbers = st.sampled_from(["0", "1", "2", "10", "01", "09", "36"])
_versions = st.builds(
    "{}{}{}{}{}{}".format,
    _numbers,
    st.lists(_numbers.map(".{}".format), max_size=2).map("".join),
    st.sampled_from(["", "a", "b"]),
    st.lists(st.sampled_from(["_alpha", "_rc", "_rc1", "_p", "_p2", "_git10"]), max_size=2).map("".join),
    st.sampled_from(["", "", "~ab", "~1"]),
    st.sampled_from(["", "-r0", "-r1", "-r10"]),
)


def test_order_and_grammar_agree_with_apk_tools() -> None:
    """Four hundred pairs compare as apk-tools compares them, and it refuses the sixty texts that are refused here."""
    assert len(ANSWERS) == 460
    for line in ANSWERS:
        left, says, *rest = line.split(" ")
        if left == "!":
            with pytest.raises(ValueError):
                key(says)
        else:
            assert _SAYS[says](key(left), key(rest[0])), line


def test_known_versions_ascend() -> None:
    """Pre-releases come before, later suffixes after; each longer version is the newer one."""
    ascending = (
        "1.1_alpha",
        "1.1_rc1-r3",
        "1.1",
        "1.1-r0",
        "1.1-r10",
        "1.1~ab",
        "1.1_p1",
        "1.1a",
        "1.1.0",
        "1.1.01",
        "1.1.1",
    )
    assert all(key(left) < key(right) for left, right in pairwise(ascending))


@given(_versions, _versions, _versions)
@settings(max_examples=300, deadline=None)
def test_order_is_total(one: str, two: str, three: str) -> None:
    """Exactly one of less, equal and greater holds for two versions, and order carries over a third."""
    first, second, third = sorted((key(one), key(two), key(three)))
    assert first <= second <= third
    assert first <= third
    assert (first == third) == (first == second == third)


@pytest.mark.parametrize(
    "text", ["", "v1", "1.0-1", "1.0-r", "1.0_", "1.0_foo", "1.0ab", "1..0", "1.0 ", "\u0661", "1" * 1001]
)
def test_text_that_is_no_version_is_refused(text: str) -> None:
    """What apk does not read has no place in the order."""
    with pytest.raises(ValueError):
        key(text)
