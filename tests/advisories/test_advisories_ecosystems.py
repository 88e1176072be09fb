"""Packages of every ecosystem that is followed, from what inspection finds to the finding."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from osv_feed import affected, deb, debian_security, entry, python, zipped

from tidewaiter.advisories.database import Database
from tidewaiter.advisories.importing import import_feed
from tidewaiter.advisories.matcher import Matcher
from tidewaiter.inspection import naming
from tidewaiter.inspection.layer_facts import FoundPackage, OsRelease
from tidewaiter.sbom.component import Component

NOTHING = OsRelease(id="", version_id="", version="", name="")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with the shipped snapshot."""
    with Database(tmp_path / "advisories.db") as database:
        yield database


def component(package: FoundPackage, release: OsRelease) -> Component:
    """The component that inspection makes of a package."""
    return Component(
        kind=package.kind,
        name=package.name,
        version=package.version,
        purl=naming.purl(package, release),
        ecosystem=naming.ecosystem(package, release),
        source_name=package.source_name,
        source_version=package.source_version,
    )


def release(id_: str, version: str, text: str = "") -> OsRelease:
    return OsRelease(id=id_, version_id=version, version=text, name="")


class Case(NamedTuple):
    """A vulnerable and a fixed package, and where and as what OSV files the advisory."""

    ecosystem: str
    name: str
    fixed: str
    bad: FoundPackage
    good: FoundPackage
    release: OsRelease = NOTHING
    range_kind: str = "SEMVER"


def found(kind: str, name: str, version: str, **more: str) -> FoundPackage:
    return FoundPackage(kind=kind, name=name, version=version, location="/x", **more)  # type: ignore[arg-type]


CASES = {
    "npm scope": Case(
        "npm",
        "@babel/traverse",
        "7.23.2",
        found("npm", "@babel/traverse", "7.23.0"),
        found("npm", "@babel/traverse", "7.23.2"),
    ),
    "Go module": Case(
        "Go",
        "golang.org/x/net",
        "0.17.0",
        found("golang", "golang.org/x/net", "0.0.0-20230101000000-0123456789ab"),
        found("golang", "golang.org/x/net", "0.17.0"),
    ),
    "Go standard library": Case(
        "Go", "stdlib", "1.20.10", found("golang", "stdlib", "1.20rc1"), found("golang", "stdlib", "1.21")
    ),
    "crate": Case(
        "crates.io", "openssl", "0.10.55", found("cargo", "openssl", "0.10.9"), found("cargo", "openssl", "0.10.60")
    ),
    "Maven artifact": Case(
        "Maven",
        "org.springframework:spring-core",
        "5.3.27",
        found("maven", "org.springframework:spring-core", "5.3.9.RELEASE"),
        found("maven", "org.springframework:spring-core", "5.3.27.RELEASE"),
        range_kind="ECOSYSTEM",
    ),
    "Alpine by origin": Case(
        "Alpine:v3.19",
        "openssl",
        "3.1.4-r3",
        found("apk", "libcrypto3", "3.1.4-r2", source_name="openssl"),
        found("apk", "libcrypto3", "3.1.4-r10", source_name="openssl"),
        release("alpine", "3.19.1"),
        "ECOSYSTEM",
    ),
    "Ubuntu LTS by source": Case(
        "Ubuntu:22.04:LTS",
        "openssl",
        "3.0.2-0ubuntu1.10",
        found("deb", "libssl3", "3.0.2-0ubuntu1.9", source_name="openssl"),
        found("deb", "libssl3", "3.0.2-0ubuntu1.10", source_name="openssl"),
        release("ubuntu", "22.04", "22.04.3 LTS (Jammy Jellyfish)"),
        "ECOSYSTEM",
    ),
    "Debian by source and its version": Case(
        "Debian:12",
        "gcc-12",
        "12.2.0-15",
        found("deb", "libgcc-s1", "12.2.0-16", source_name="gcc-12", source_version="12.2.0-14"),
        found("deb", "libgcc-s1", "12.2.0-14", source_name="gcc-12", source_version="12.2.0-15"),
        release("debian", "12"),
        "ECOSYSTEM",
    ),
    "Rocky Linux by source, with epoch": Case(
        "Rocky Linux:9",
        "openssl",
        "1:3.0.7-18.el9_2",
        found("rpm", "openssl-libs", "1:3.0.7-16.el9_2", source_name="openssl"),
        found("rpm", "openssl-libs", "1:3.0.7-1.el9_2", source_name="openssl", source_version="3.0.7-18.el9_2"),
        release("rocky", "9.2"),
        "ECOSYSTEM",
    ),
    "AlmaLinux by package": Case(
        "AlmaLinux:9",
        "openssl-libs",
        "1:3.0.7-18.el9_2",
        found("rpm", "openssl-libs", "1:3.0.7-16.el9_2", source_name="openssl"),
        found("rpm", "openssl-libs", "1:3.0.7-18.el9_2", source_name="openssl"),
        release("almalinux", "9.2"),
        "ECOSYSTEM",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_package_is_found_where_osv_files_its_advisories(database: Database, tmp_path: Path, name: str) -> None:
    """Ecosystem, name and version that inspection writes are those of OSV; before the fix affected, with it not."""
    case = CASES[name]
    item = affected(
        case.name, ("introduced", "0"), ("fixed", case.fixed), ecosystem=case.ecosystem, kind=case.range_kind
    )
    import_feed(database, zipped(tmp_path / "all.zip", entry("X-1", item)))
    result = Matcher(database).match([component(case.bad, case.release), component(case.good, case.release)])
    assert [(item.version, item.fixed_in) for item in result.findings] == [(case.bad.version, (case.fixed,))]
    assert result.not_checked == ()
    assert [item.ecosystem for item in result.coverage] == [case.ecosystem]


def test_a_range_of_git_commits_leaves_it_open(database: Database, tmp_path: Path) -> None:
    """An entry that knows commits only says nothing about a version: that is said, and is no finding."""
    item = {
        "package": {"ecosystem": "crates.io", "name": "thing"},
        "ranges": [{"type": "GIT", "repo": "https://example.com/x", "events": [{"introduced": "0"}, {"fixed": "abc"}]}],
    }
    import_feed(database, zipped(tmp_path / "all.zip", entry("X-1", item)))
    result = Matcher(database).match([component(found("cargo", "thing", "1.0.0"), NOTHING)])
    assert result.findings == ()
    assert [item.advisories for item in result.not_checked] == [("X-1",)]


def test_packages_without_an_ecosystem_in_osv_are_not_checked(database: Database) -> None:
    """conda has no advisories there; a Java archive of unknown group cannot be looked up."""
    packages = [found("conda", "numpy", "1.26.0"), found("maven", "spring-core", "5.3.9")]
    result = Matcher(database).match([component(package, NOTHING) for package in packages])
    assert result.findings == ()
    assert {item.name for item in result.not_checked} == {"numpy", "spring-core"}


def test_real_debian_advisories_match_the_packages_of_a_base(database: Database, tmp_path: Path) -> None:
    """Ten DSAs against a bookworm base of October 2023 and of today's point release; each release by itself."""
    import_feed(database, zipped(tmp_path / "all.zip", *debian_security()))
    assert {"Debian:11", "Debian:12"} <= database.coverage().keys()
    old = [
        deb("libc6", "2.36-9+deb12u3", source="glibc"),
        deb("libc-bin", "2.36-9+deb12u3", source="glibc"),
        deb("libssl3", "3.0.11-1~deb12u1", source="openssl"),
        deb("libgssapi-krb5-2", "1.20.1-2+deb12u1", source="krb5"),
        deb("mount", "2.38.1-5+b1", source="util-linux", source_version="2.38.1-5"),
        deb("liblzma5", "5.4.1-0.2", source="xz-utils"),
    ]
    findings = {(item.name, item.advisory) for item in Matcher(database).match(old).findings}
    assert findings == {
        *((name, f"DSA-{number}-1") for name in ("libc6", "libc-bin") for number in (5611, 5673, 5678)),
        *(("libssl3", f"DSA-{number}-1") for number in (5532, 5764)),
        ("libgssapi-krb5-2", "DSA-5726-1"),
        ("mount", "DSA-5650-1"),
        ("liblzma5", "DSA-5895-1"),
    }
    new = [deb("libc6", "2.36-9+deb12u10", source="glibc"), deb("libssl3", "3.0.17-1~deb12u2", source="openssl")]
    assert Matcher(database).match(new).findings == ()
    bullseye = deb("libc6", "2.31-13+deb11u8", source="glibc", release="11")
    found_there = Matcher(database).match([bullseye]).findings
    assert [(item.advisory, item.fixed_in) for item in found_there] == [
        ("DSA-5673-1", ("2.31-13+deb11u9",)),
        ("DSA-5678-1", ("2.31-13+deb11u10",)),
    ]


def test_nvidia_libraries_are_found_under_their_other_names(database: Database, tmp_path: Path) -> None:
    """An advisory filed under one CUDA's wheel reaches the others at the same version, and says under which name."""
    item = affected("nvidia-cublas-cu12", ("introduced", "0"), ("fixed", "12.4.0"))
    import_feed(database, zipped(tmp_path / "all.zip", entry("X-1", item)), force=True)
    packages = [
        python("nvidia-cublas-cu11", "11.11.3.6"),
        python("nvidia-cublas", "13.0.0"),
        python("nvidia_cublas_cu12", "12.1.3.1"),
    ]
    result = Matcher(database).match(packages)
    assert {(item.name, item.found_as) for item in result.findings} == {
        ("nvidia-cublas-cu11", "nvidia-cublas-cu12"),
        ("nvidia_cublas_cu12", "nvidia-cublas-cu12"),
    }
