from itertools import pairwise

import pytest

from tidewaiter.advisories.versions import apk, debian, go, maven, order_of, pep440, rpm, semver


def test_semver_order_is_the_one_of_its_specification() -> None:
    """The example of SemVer 2.0 section 11, and numbers before words."""
    ascending = (
        "0.9",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "1.10",
        "2",
    )
    assert all(semver(left) < semver(right) for left, right in pairwise(ascending))
    assert semver("1.0.0+one") == semver("1.0.0+two") == semver("1")


@pytest.mark.parametrize("text", ["", "V1.0.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0rc1", "1" * 5000])
def test_text_that_is_no_semantic_version_is_refused(text: str) -> None:
    """What is no version raises ValueError, however it is broken."""
    with pytest.raises(ValueError):
        semver(text)


@pytest.mark.parametrize("text", ["", "2.0.1rc2-git", "x y", "9" * 5000])
def test_text_that_is_no_python_version_is_refused(text: str) -> None:
    """PEP 440's and the integer parser's refusals are one error."""
    with pytest.raises(ValueError):
        pep440(text)


def test_orders_belong_to_ecosystems() -> None:
    """Ecosystem ranges use the ecosystem's order, SemVer ranges SemVer's; what is not known has none."""
    assert order_of("PyPI", "ECOSYSTEM") is pep440
    assert order_of("Debian", "ECOSYSTEM") is debian
    assert order_of("npm", "SEMVER") is semver
    assert order_of("npm", "ECOSYSTEM") is order_of("npm", "SEMVER")
    assert order_of("Go", "ECOSYSTEM") is order_of("Go", "SEMVER") is go
    assert order_of("PyPI", "SEMVER") is semver
    assert order_of("Alpine", "ECOSYSTEM") is apk
    assert order_of("Rocky Linux", "ECOSYSTEM") is rpm
    assert order_of("Maven", "ECOSYSTEM") is maven
    assert order_of("RubyGems", "ECOSYSTEM") is None
    with pytest.raises(ValueError):
        debian("not a version")
