"""Dependency closure."""

import pytest

from little_archive import little_recipe
from tidewaiter.assembly.debian import resolve
from tidewaiter.assembly.recipe import Recipe, Suite
from tidewaiter.core.errors import InputError

STABLE = Suite(name="stable", archive="debian", keys=())
SECURITY = Suite(name="security", archive="debian-security", keys=())


def _paragraph(name: str, version: str = "1.0", **fields: str) -> bytes:
    given = {"Architecture": "amd64", **{key.replace("_", "-"): value for key, value in fields.items()}}
    lines = [f"Package: {name}", f"Version: {version}", *(f"{key}: {value}" for key, value in given.items())]
    lines += [f"Filename: pool/{name}.deb", "Size: 1", "SHA256: " + "0" * 64]
    return "\n".join(lines).encode()


def _closure(*paragraphs: bytes, security: tuple[bytes, ...] = (), recipe: Recipe | None = None) -> dict[str, str]:
    """Group by `name version`."""
    universe = resolve.Universe("amd64")
    universe.add(STABLE, paragraphs)
    universe.add(SECURITY, security)
    found = resolve.closure(recipe or little_recipe(), universe)
    return {f"{one.package.name} {one.package.version}": one.group for one in found}


def test_a_dependency_goes_to_the_first_group_that_needs_it() -> None:
    """What two groups need lies in the layer of the earlier one."""
    found = _closure(
        _paragraph("libone", Depends="base"), _paragraph("two", Pre_Depends="base, extra"), _paragraph("base"),
        _paragraph("extra"),
    )  # fmt: skip
    assert found == {"libone 1.0": "system", "base 1.0": "system", "two 1.0": "tools", "extra 1.0": "tools"}


def test_the_highest_version_of_all_suites_wins() -> None:
    """A security update replaces the release's version; an older one there does not, and equal ones stay."""
    found = _closure(
        _paragraph("libone", "1.0-1"),
        _paragraph("two", "2.0-1+deb12u2"),
        security=(_paragraph("libone", "1.0-1+deb12u10"), _paragraph("two", "2.0-1+deb12u1")),
    )
    assert set(found) == {"libone 1.0-1+deb12u10", "two 2.0-1+deb12u2"}


def test_other_architectures_are_passed_over() -> None:
    """Only packages of the recipe's architecture, or of all, are candidates."""
    found = _closure(
        _paragraph("libone", Architecture="all"),
        _paragraph("two", "9.0", Architecture="arm64"),
        _paragraph("two", "1.0"),
    )
    assert set(found) == {"libone 1.0", "two 1.0"}


@pytest.mark.parametrize(
    ("depends", "expected"),
    [
        ("first | second", "first 1.0"),
        ("absent | second", "second 1.0"),
        ("first (>= 2) | second", "second 1.0"),
        ("second:any (>= 1.0~)", "second 1.0"),
        ("virtual", "provider 3.0"),
        ("virtual (>= 2.5)", "provider 3.0"),
        ("dpkg | second", "second 1.0"),
    ],
)
def test_an_alternative_that_fits_is_chosen(depends: str, expected: str) -> None:
    """The first alternative that exists in a fitting version is taken; a virtual package by its provider."""
    found = _closure(
        _paragraph("libone", Depends=depends),
        _paragraph("two"),
        _paragraph("first"),
        _paragraph("second"),
        _paragraph("provider", "3.0", Provides="virtual (= 2.7), other"),
    )
    assert set(found) == {"libone 1.0", "two 1.0", expected}


def test_what_is_chosen_already_meets_an_alternative() -> None:
    """Nothing is added when a package that is there satisfies the dependency."""
    found = _closure(_paragraph("libone"), _paragraph("two", Depends="first | libone"), _paragraph("first"))
    assert set(found) == {"libone 1.0", "two 1.0"}


def test_a_dropped_dependency_is_left_out() -> None:
    """A dependency that can only be met by dropped packages is not an error, and brings nothing."""
    found = _closure(_paragraph("libone", Depends="dpkg (>= 1.15)"), _paragraph("two"), _paragraph("dpkg", "1.21"))
    assert set(found) == {"libone 1.0", "two 1.0"}


def test_a_dropped_package_does_not_return_as_a_provider() -> None:
    """A virtual package is not met by a package that the recipe drops."""
    with pytest.raises(InputError, match="needs tool"):
        _closure(_paragraph("libone", Depends="tool"), _paragraph("two"), _paragraph("dpkg", Provides="tool"))


@pytest.mark.parametrize(
    ("depends", "provides"),
    [("absent", ""), ("first (>> 1.0)", ""), ("virtual (>= 1)", "virtual"), ("virtual (>= 3)", "virtual (= 2)")],
)
def test_an_unmet_dependency_is_named(depends: str, provides: str) -> None:
    """What no suite offers in a fitting version is an error; a bare Provides meets no versioned need."""
    with pytest.raises(InputError, match="which no suite offers") as caught:
        _closure(_paragraph("libone", Depends=depends), _paragraph("two"), _paragraph("first", Provides=provides))
    assert caught.value.code == "unmet_dependency"


def test_a_package_that_does_not_exist_is_named() -> None:
    """A recipe that wants a package of no suite is an error."""
    with pytest.raises(InputError, match="the package two is in none of its suites"):
        _closure(_paragraph("libone"))


@pytest.mark.parametrize("field", ["Conflicts", "Breaks"])
def test_conflicting_packages_are_refused(field: str) -> None:
    """Two chosen packages that exclude each other are an error; a bound that does not match is none."""
    with pytest.raises(InputError, match="two conflicts with libone"):
        _closure(_paragraph("libone"), _paragraph("two", **{field: "libone (<< 2.0)"}))
    assert _closure(_paragraph("libone"), _paragraph("two", **{field: "libone (<< 1.0)"}))


def test_a_dependency_circle_ends() -> None:
    """Packages that need each other are both chosen once."""
    found = _closure(_paragraph("libone", Depends="two"), _paragraph("two", Depends="libone"))
    assert found == {"libone 1.0": "system", "two 1.0": "system"}
