"""Maven's version order, held against Maven's own implementation."""

import random
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers import Tool
from tidewaiter.sbom.versions.maven import Key

_PIECES = (
    *("0", "1", "2", "10", "01", ".", ".", "-", "-", "a", "b", "m", "x", "rc", "cr", "ga", "final", "release", "sp"),
    *("snapshot", "alpha", "beta", "milestone", "Final", "RELEASE", "1.0", "00", "123456789012", "jre", "+", "_"),
)
_numbers = st.lists(st.sampled_from(["0", "1", "2", "10", "01"]), min_size=1, max_size=4).map(".".join)
_words = st.sampled_from(["alpha", "beta", "M", "rc", "CR", "SNAPSHOT", "sp", "jre", "x"])
_qualifiers = st.one_of(
    st.just(""),
    st.sampled_from([".Final", "-Final", ".GA", ".RELEASE", "-SNAPSHOT"]),
    st.builds("{}{}{}".format, st.sampled_from(["-", "."]), _words, st.sampled_from(["", "1", "2", "10"])),
    st.builds("-{}-{}".format, _words, st.sampled_from(["1", "2", "10"])),
)
_versions = st.builds("{}{}".format, _numbers, _qualifiers)


def _sign(left: str, right: str) -> int:
    return (Key(left) > Key(right)) - (Key(left) < Key(right))


@pytest.mark.interop
def test_order_agrees_with_maven(tool: Tool) -> None:
    """Three thousand generated versions compare with their neighbours as `ComparableVersion` compares them."""
    chance = random.Random(5)
    versions = ["1", "1.0.RC2", "1.0-RC3", "1.0.1", "2.0.Final", "2.0.0", "1.sp.1", "1-rc", "5.3.0.RELEASE", "31.1-jre"]
    while len(versions) < 3000:
        if chance.random() < 0.5:
            versions.append("".join(chance.choice(_PIECES) for _ in range(chance.randint(1, 6))))
        else:
            versions.append(versions[-1] + chance.choice(_PIECES))
    jar = tool("maven-artifact.jar")
    done = subprocess.run([tool("java"), "-jar", jar, *versions], capture_output=True, text=True, check=True)
    answers = [line.split() for line in done.stdout.splitlines() if line.startswith("   ")]
    pairs = list(pairwise(versions))
    assert [(left, right) for left, _, right in answers] == pairs
    says = {-1: "<", 0: "==", 1: ">"}
    wrong = [answer for answer, pair in zip(answers, pairs, strict=True) if says[_sign(*pair)] != answer[1]]
    assert not wrong
    equal = [pair for pair in pairs if _sign(*pair) == 0]
    assert equal
    assert all(Key(left) == Key(right) and hash(Key(left)) == hash(Key(right)) for left, right in equal)


def test_known_versions_ascend() -> None:
    """Qualifiers before the release, service packs and unknown words after it, further numbers after those."""
    ascending = (
        "1-alpha-1",
        "1-beta",
        "1-M2",
        "1.0.RC2",
        "1.0-RC3",
        "1-SNAPSHOT",
        "1",
        "1-sp",
        "1-jre",
        "1-1",
        "1.0.1",
        "1.10",
    )
    assert all(Key(left) < Key(right) for left, right in pairwise(ascending))
    assert Key("1.0.0.Final") == Key("1") == Key("1-ga")
    assert Key("1-a1") == Key("1-alpha-1")


def test_the_cycle_of_mavens_own_order_is_answered_as_maven_does() -> None:
    """`1.sp.1`, `1` and `1-rc` have no order that fits all three: each pair compares as it does in Maven."""
    assert Key("1.sp.1") > Key("1") > Key("1-rc") > Key("1.sp.1")


@given(_versions, _versions, _versions)
@settings(max_examples=300, deadline=None)
def test_order_is_total(one: str, two: str, three: str) -> None:
    """Exactly one of less, equal and greater holds for two versions as people write them, and order carries over."""
    first, second, third = sorted((Key(one), Key(two), Key(three)))
    assert first <= second <= third
    assert first <= third
    assert (first == third) == (first == second == third)
    assert first != second or hash(first) == hash(second)


@pytest.mark.parametrize("text", ["", " ", "1 0", "1\u0660", "1" * 1001])
def test_text_that_is_no_version_is_refused(text: str) -> None:
    """Maven takes nearly everything; blanks, other alphabets and endless texts are no versions here."""
    with pytest.raises(ValueError):
        Key(text)


def test_a_deep_version_is_compared() -> None:
    """A thousand changes between digits and letters do not exhaust the stack."""
    assert Key("a1" * 500) < Key("a1" * 499)
    assert Key("1-" * 500) == Key("1-" * 499 + "1")
