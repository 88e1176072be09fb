"""Debian version order, held against dpkg itself."""

import random
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core.errors import InputError
from tidewaiter.sbom.versions import dpkg

_NEAR = "0019aZ~~+.-"
_versions = st.builds(
    lambda epoch, first, rest: epoch + first + rest.rstrip("-"),
    st.sampled_from(["", "0:", "1:"]),
    st.sampled_from("0129"),
    st.text(alphabet=_NEAR, max_size=6),
)


def _pairs(count: int) -> list[tuple[str, str]]:
    chance = random.Random(20240229)

    def version() -> str:
        tail = "".join(chance.choice(_NEAR) for _ in range(chance.randint(0, 5))).rstrip("-")
        return chance.choice(["", "", "0:", "1:"]) + chance.choice("0129") + tail

    pairs = []
    for _ in range(count):
        left = version()
        right = (left + chance.choice(_NEAR[:-1])) if chance.random() < 0.5 else version()
        pairs.append((left, right))
    return pairs


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg, the oracle of this order, is not installed")
def test_order_agrees_with_dpkg() -> None:
    """Four hundred generated pairs compare as `dpkg --compare-versions` compares them."""
    known = [
        ("0:00", "0:0~"),
        ("1.0", "0:1.0-0"),
        ("1.0~rc1-1", "1.0-1"),
        ("2.36-9+deb12u7", "2.36-9+deb12u10"),
        ("1.2.3", "1.2.3-"[:-1] + "a"),
        ("3.0.14-1~deb12u2", "3.0.14-1"),
        ("007", "7"),
        ("1.", "1.0"),
        ("1:0.1", "9.9"),
    ]
    for left, right in known + _pairs(400):
        relation = {-1: "lt", 0: "eq", 1: "gt"}[dpkg.compare(left, right)]
        answer = subprocess.run(["dpkg", "--compare-versions", left, relation, right], capture_output=True, check=False)
        assert answer.returncode == 0, f"dpkg denies {left} {relation} {right}"


@given(_versions, _versions, _versions)
def test_order_is_total(one: str, two: str, three: str) -> None:
    """The order is antisymmetric and transitive, so sorting by it has one answer."""
    assert dpkg.compare(one, two) == -dpkg.compare(two, one)
    if dpkg.compare(one, two) <= 0 and dpkg.compare(two, three) <= 0:
        assert dpkg.compare(one, three) <= 0


@pytest.mark.parametrize(
    ("version", "relation", "wanted", "holds"),
    [
        ("2.36-9", ">=", "2.36", True),
        ("2.36-9", "<<", "2.36", False),
        ("2.36", "=", "2.36-0", True),
        ("2.35~1", ">>", "2.35", False),
        ("2.35", "<=", "2.35", True),
    ],
)
def test_relations_of_a_depends_field(version: str, relation: dpkg.Relation, wanted: str, holds: bool) -> None:
    """Each of the five relations answers as deb-version says."""
    assert dpkg.satisfies(version, relation, wanted) is holds


@pytest.mark.parametrize("text", ["", "a:1", "1 2", "1.0-", ":1", "-1", "1:", "1.0_2", "1" * 1001, "ä1"])
def test_text_that_is_no_version_is_refused(text: str) -> None:
    """What deb-version does not allow is an error, never some position in the order."""
    with pytest.raises(InputError, match="not a Debian version"):
        dpkg.key(text)
