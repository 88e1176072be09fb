"""RPM version order, held against rpm itself."""

import random
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers import Tool
from tidewaiter.sbom.versions.rpm import key

_PIECES = (
    "0",
    "1",
    "2",
    "10",
    "01",
    ".",
    ".",
    "-",
    "-",
    "a",
    "b",
    "rc",
    "~",
    "^",
    "_",
    "+",
    "el9",
    "1.0-1",
    "1:",
    "2:1-",
)
_versions = st.lists(
    st.sampled_from(["0", "1", "10", "01", ".", "a", "rc", "~", "^", "_", "el9"]), min_size=1, max_size=6
).map("".join)


def _answers(rpm: str, pairs: list[tuple[str, str]]) -> list[int]:
    script = "".join(f'print(rpm.vercmp("{left}", "{right}") .. "\\n") ' for left, right in pairs)
    done = subprocess.run([rpm, "--eval", "%{lua: " + script + "}"], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.interop
def test_order_agrees_with_rpm(tool: Tool) -> None:
    """A thousand generated pairs, epochs and releases among them, compare as `rpm.vercmp` compares them."""
    chance = random.Random(9)
    pairs = [("1.0", "0:1_0"), ("1.0-1", "1.0"), ("1.0~rc1", "1.0"), ("1.0^git1", "1.0"), ("1.0^git1", "1.0.1")]
    while len(pairs) < 1000:
        pair = tuple("".join(chance.choice(_PIECES) for _ in range(chance.randint(1, 6))) for _ in range(2))
        try:
            key(pair[0]), key(pair[1])
        except ValueError:
            continue
        pairs.append((pair[0], pair[1]))
    answers = _answers(tool("rpm"), pairs)
    own = [(key(left) > key(right)) - (key(left) < key(right)) for left, right in pairs]
    wrong = [(pair, answer) for pair, answer, mine in zip(pairs, answers, own, strict=True) if answer != mine]
    assert not wrong


def test_known_versions_ascend() -> None:
    """`~` before the release, `^` after it and before the next; the epoch above all."""
    ascending = (
        "1.0~rc1-5",
        "1.0-1",
        "1.0-1.el9",
        "1.0-1.el9_1",
        "1.0-2",
        "1.0^git1-1",
        "1.0.1-1",
        "1.10-1",
        "1:0.1-1",
    )
    assert all(key(left) < key(right) for left, right in pairwise(ascending))
    assert key("1.0") == key("0:1_0")


@given(_versions, _versions, _versions)
@settings(max_examples=300, deadline=None)
def test_order_is_total(one: str, two: str, three: str) -> None:
    """Exactly one of less, equal and greater holds for two versions, and order carries over a third."""
    first, second, third = sorted((key(one), key(two), key(three)))
    assert first <= second <= third
    assert first <= third
    assert (first == third) == (first == second == third)


@pytest.mark.parametrize("text", ["", "-", "1:", "a:1", "-1", "1-", "\u0661:1", "1" * 1001])
def test_text_that_is_no_version_is_refused(text: str) -> None:
    """Without a version, or with an epoch that is no number, there is no place in the order."""
    with pytest.raises(ValueError):
        key(text)
