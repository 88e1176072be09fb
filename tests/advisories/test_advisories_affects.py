import json
import zipfile
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from osv_feed import affected, entry, parsed
from packaging.version import InvalidVersion, Version

from tidewaiter.advisories.affects import Decision, Index, Scope


def decide(version: str, *events: tuple[str, str], **more: Any) -> Decision:
    """Scope and Index must agree."""
    (item,) = parsed(entry("X-1", affected("thing", *events, **more))).affected
    standing = Index([item]).standing(version)
    decision = Scope(item).decide(version)
    assert decision == ("affected" if standing.affected else "undecided" if standing.undecided else "unaffected")
    return decision


BRANCHES = (("introduced", "1.0"), ("fixed", "1.0.2"), ("introduced", "3.0"), ("fixed", "3.2.5"))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.9", "unaffected"),
        ("1.0rc1", "unaffected"),
        ("1.0", "affected"),
        ("1.0.1.post3", "affected"),
        ("1.0.2", "unaffected"),
        ("2", "unaffected"),
        ("3.0.0", "affected"),
        ("3.2.5.dev1", "affected"),
        ("3.2.5", "unaffected"),
        ("1!1.0", "unaffected"),
    ],
)
def test_ranges_of_several_branches(version: str, expected: str) -> None:
    """The specification's example of two branches, with the finer points of PEP 440, in any order of events."""
    assert decide(version, *BRANCHES) == decide(version, *reversed(BRANCHES)) == expected


def test_zero_introduces_before_every_version() -> None:
    """`introduced: 0` holds for versions that sort before 0, too, and for texts that are no version."""
    assert decide("0.dev0", ("introduced", "0"), ("fixed", "1")) == "affected"
    assert decide("any text at all", ("introduced", "0")) == "affected"


def test_last_affected_is_still_affected() -> None:
    """The last affected version is in the range, also as a rebuild of it; the next one is not."""
    events = (("introduced", "1.0"), ("last_affected", "1.0"))
    assert decide("1.0", *events) == "affected"
    assert decide("1.0+cpu", *events) == "affected"
    assert decide("1.0.post1", *events) == "unaffected"
    assert decide("1.5", ("introduced", "0"), ("last_affected", "1.4")) == "unaffected"


def test_a_version_that_ends_one_branch_and_starts_another_is_affected() -> None:
    """As in PYSEC-2023-72, where pyspark 3.1.3 is affected: the start counts, in whatever order events are listed."""
    events = (("introduced", "0"), ("fixed", "3.1.1"), ("introduced", "3.1.1"), ("fixed", "3.2.2"))
    assert decide("3.1.3", *events) == decide("3.1.3", *reversed(events)) == "affected"
    assert decide("3.2.2", *events) == decide("3.2.2", *reversed(events)) == "unaffected"


def test_limits_bound_what_a_range_speaks_of() -> None:
    """A version is before the limits when it is before one of them; `*` is no limit."""
    assert decide("1.9", ("introduced", "0"), ("limit", "1.0"), ("limit", "2.0")) == "affected"
    assert decide("2.0", ("introduced", "0"), ("limit", "1.0"), ("limit", "2.0")) == "unaffected"
    assert decide("9", ("introduced", "1"), ("limit", "*"), ("limit", "2.0")) == "affected"


def test_the_list_of_versions_counts_beside_the_ranges() -> None:
    """A listed version is affected whatever the ranges say, by equality of versions and as a rebuild."""
    listing = {"versions": ("1.0", "oddly named")}
    assert decide("1.0.0", ("introduced", "2"), **listing) == "affected"
    assert decide("1.0.0+cpu", **listing) == "affected"
    assert decide("oddly named", **listing) == "affected"
    assert decide("1.1", **listing) == "unaffected"


@pytest.mark.parametrize(
    "item",
    [
        affected("thing", ("introduced", "0"), ("fixed", "0.2.0-n653")),
        affected("thing", ("introduced", "0"), ("fixed", "deadbeef"), kind="GIT"),
        affected("thing", ("introduced", "0"), ("fixed", "9"), kind="SOME-NEW-KIND"),
        affected("thing", ("introduced", "0"), ("some_new_event", "9")),
        affected("thing"),
        affected("thing", ("introduced", "0"), ("fixed", "2"), ecosystem="Unheard-of"),
    ],
    ids=["unreadable bound", "git", "unknown kind", "unknown event", "nothing", "unknown order"],
)
def test_what_versions_cannot_tell_is_undecided(item: dict[str, Any]) -> None:
    """An entry that names the package without a usable range is neither affected nor unaffected."""
    assert Scope(parsed(entry("X-1", item)).affected[0]).decide("1.0") == "undecided"


def test_a_git_range_beside_a_usable_one_is_passed_over() -> None:
    """Commit ranges add nothing where version ranges or a list of versions decide."""
    item = affected("thing", ("introduced", "0"), ("fixed", "2.0"))
    item["ranges"].append({"type": "GIT", "repo": "https://example.org", "events": [{"introduced": "0"}]})
    scope = Scope(parsed(entry("X-1", item)).affected[0])
    assert [scope.decide(version) for version in ("1.0", "2.0")] == ["affected", "unaffected"]
    listed = affected("thing", ("introduced", "0"), kind="GIT", versions=("1.0",))
    scope = Scope(parsed(entry("X-1", listed)).affected[0])
    assert [scope.decide(version) for version in ("1.0", "2.0")] == ["affected", "unaffected"]


def test_an_unreadable_version_is_undecided() -> None:
    """A version that PEP 440 or dpkg cannot read is never unaffected."""
    assert decide("x y", ("introduced", "1"), ("fixed", "2")) == "undecided"
    assert decide("x y", versions=("1.0",)) == "undecided"
    assert decide("1.0 beta", ("introduced", "0"), ("fixed", "2"), ecosystem="Debian:12") == "undecided"


def test_debian_versions_compare_as_dpkg_does() -> None:
    """Epochs, tildes and revisions count."""
    events = (("introduced", "0"), ("fixed", "1:2.36-9+deb12u8"))
    more = {"ecosystem": "Debian:12"}
    assert decide("1:2.36-9+deb12u7", *events, **more) == "affected"
    assert decide("1:2.36-9+deb12u8~bpo11+1", *events, **more) == "affected"
    assert decide("2.40-1", *events, **more) == "affected"
    assert decide("1:2.36-9+deb12u10", *events, **more) == "unaffected"


def test_semver_ranges_use_their_own_order() -> None:
    """A SemVer range on a package of PyPI compares by SemVer, and cannot tell of versions that are none."""
    events = (("introduced", "1.0.0"), ("fixed", "1.0.0-rc.2"))
    assert decide("1.0.0", *events, kind="SEMVER") == "affected"
    assert decide("1.0.0-rc.1", ("introduced", "1.0.0-beta"), ("fixed", "1.0.0-rc.2"), kind="SEMVER") == "affected"
    assert decide("1.0rc1", *events, kind="SEMVER") == "undecided"


_version = lru_cache(None)(Version)


class BySpecification:
    """IncludedInRanges of the OSV schema over one `affected`, as plainly as possible."""

    def __init__(self, item: dict[str, Any]) -> None:
        ranges = [found["events"] for found in item.get("ranges", []) if found["type"] != "GIT"]
        try:
            self._ranges: list[list[tuple[int, Version, int]]] | None = [
                sorted(self._place(*next(iter(event.items()))) for event in events) for events in ranges
            ]
        except InvalidVersion:
            self._ranges = None

    @staticmethod
    def _place(kind: str, text: str) -> tuple[int, Version, int]:
        # An introduced "0" sorts before everything.
        first = kind == "introduced" and text == "0"
        return int(not first), Version("0" if first else text), ("fixed", "introduced", "last_affected").index(kind)

    def decide(self, version: Version) -> Decision:
        if self._ranges is None:
            return "undecided"
        for events in self._ranges:
            vulnerable = False
            for bounded, bound, kind in events:
                if kind == 1 and (not bounded or version >= bound):
                    vulnerable = True
                elif (kind == 0 and version >= bound) or (kind == 2 and version > bound):
                    vulnerable = False
            if vulnerable:
                return "affected"
        return "unaffected"


CONTRADICTIONS = {
    ("PYSEC-2023-61", "unaffected"): 6,  # lists pre-releases (3.2a1) of the version that its range starts with
    ("PYSEC-2023-177", "unaffected"): 2,  # lists 23.9.0 and its post-release as affected, and 23.9.0 as fixed
    ("PYSEC-2021-114", "unaffected"): 1,  # lists 2.11.6, which one of its ranges calls fixed (and another affected)
}


@pytest.mark.thorough
def test_ranges_and_lists_of_the_real_database_agree(shared_data: Path) -> None:
    """Over all entries: every listed version is in the ranges, but for contradictions in the data that are named here.

    The lists are the database's own ground truth. What `ranges` alone say is also compared with a plain second
    implementation of the specification, for every version of the package that any entry lists, and so is the index.
    """
    with zipfile.ZipFile(shared_data / "osv-pypi-2024-10-10.zip") as archive:
        entries = [json.loads(archive.read(name)) for name in archive.namelist()]
    by_package = defaultdict(list)
    versions = defaultdict(set)
    for item in (item for item in entries if not item.get("withdrawn")):
        (about,) = item["affected"]
        by_package[about["package"]["name"]].append((item["id"], about, parsed(item).affected[0]))
        versions[about["package"]["name"]].update(about.get("versions", []))
    contradictions: Counter[tuple[str, Decision]] = Counter()
    checked: Counter[str] = Counter()
    for name, items in by_package.items():
        index = Index([found for _, _, found in items])
        specification = [BySpecification(about) for _, about, _ in items]
        listed = [frozenset(about.get("versions", [])) for _, about, _ in items]
        for version in versions[name]:
            standing = index.standing(version)
            try:
                readable: Version | None = _version(version)
            except InvalidVersion:
                readable = None
            for number, (id_, _, found) in enumerate(items):
                scope = index.scopes[number]
                by_ranges = scope.decide_by_ranges(version)
                assert scope.decide(version) == (
                    "affected" if number in standing.affected
                    else "undecided" if number in standing.undecided
                    else "unaffected"
                )  # fmt: skip
                if readable is not None and found.ranges:
                    assert by_ranges == specification[number].decide(readable)
                    checked["compared"] += 1
                    if version in listed[number]:
                        checked["listed"] += 1
                        if by_ranges != "affected":
                            contradictions[id_, by_ranges] += 1
                elif readable is None:
                    assert by_ranges != "unaffected"
    assert contradictions == CONTRADICTIONS
    assert checked["compared"] > 250_000
    assert checked["listed"] > 139_000
