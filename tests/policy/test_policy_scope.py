"""Names of images and versions of packages, as waivers write them."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.policy.scope import fits_name, within


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("vision/mnist", "vision/mnist", True),
        ("vision/mnist", "vision/mnist2", False),
        ("vision/mnist", "a/vision/mnist", False),
        ("vision/*", "vision/mnist", True),
        ("vision/*", "vision/a/mnist", False),
        ("vision/**", "vision/a/mnist", True),
        ("vision/**", "vision", False),
        ("*", "mnist", True),
        ("*", "vision/mnist", False),
        ("**", "vision/mnist", True),
        ("**/mnist-*", "a/b/mnist-2", True),
        ("**/mnist-*", "a/b/mnist-2/x", False),
        ("vision.x/*", "visionax/mnist", False),
        ("*/*-gpu", "vision/mnist-gpu", True),
        ("a*a", "a", False),
    ],
)
def test_patterns_fit_whole_names(pattern: str, name: str, *, fits: bool) -> None:
    """A star stays within a part, two cross parts, and nothing before or after a pattern is let through."""
    assert fits_name(pattern, name) is fits


def test_an_image_without_a_name_fits_no_pattern() -> None:
    """What was named by a file could be anything."""
    assert not fits_name("**", "")
    assert not fits_name("*", "")


@given(st.text("ab/*", max_size=8).filter(lambda text: "***" not in text), st.text("ab/", min_size=1, max_size=8))
def test_patterns_fit_as_the_regular_expression_says(pattern: str, name: str) -> None:
    """The matcher agrees with the regular expression that says the same."""
    parts = {"**": ".*", "*": "[^/]*"}
    regular = "".join(parts.get(part, re.escape(part)) for part in re.split(r"(\*+)", pattern))
    assert fits_name(pattern, name) is (re.fullmatch(regular, name) is not None)


def test_a_pattern_full_of_stars_is_quick() -> None:
    """A pattern that keeps a backtracking matcher busy for years is answered at once."""
    began = time.monotonic()
    assert not fits_name("*a" * 127, "a" * 200 + "b")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("version", "versions", "ecosystem", "inside"),
    [
        ("2.10.1", ">=2.10,<2.12", "PyPI", True),
        ("2.12.0", ">=2.10,<2.12", "PyPI", False),
        ("2.9", ">=2.10", "PyPI", False),
        ("2.12.0rc1", "<2.12", "PyPI", True),
        ("2.11.0+cpu", "<=2.11.0", "PyPI", True),
        ("2.11.0+cpu", "==2.11.0+cpu", "PyPI", True),
        ("2.11.0", "==2.11.0+cpu", "PyPI", False),
        ("1.0", "!=1.0.0", "PyPI", False),
        ("2.36-9+deb12u9", "<2.36-9+deb12u14", "Debian", True),
        ("1:1.0", ">2.0", "Debian", True),
        ("1.10.0", ">1.9.0", "npm", True),
    ],
)
def test_versions_compare_as_their_ecosystem_orders_them(
    version: str, versions: str, ecosystem: str, *, inside: bool
) -> None:
    """Every bound holds, by the order of the ecosystem; a rebuild counts as its release."""
    assert within(version, versions, ecosystem) is inside


@pytest.mark.parametrize(
    ("version", "versions", "ecosystem"),
    [
        ("1.0", "1.0", "PyPI"),
        ("1.0", ">=1.0,", "PyPI"),
        ("1.0", ">=x y", "PyPI"),
        ("banana", ">=1", "PyPI"),
        ("1", ">0", ""),
    ],
)
def test_what_cannot_be_compared_is_an_error(version: str, versions: str, ecosystem: str) -> None:
    """A malformed bound, a version of another kind and an unknown order are never inside or outside."""
    with pytest.raises(ValueError, match=r"."):
        within(version, versions, ecosystem)
