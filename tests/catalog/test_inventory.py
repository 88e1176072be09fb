"""Repositories, tags, layers, builds and verdicts, part after part; and the filters that lists of images have."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from catalog_sample import build, component, digest, facts, home, scan, verdict

from tidewaiter.catalog import inventory, owners, workloads
from tidewaiter.catalog.browsing import Filter
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.parts import Part
from tidewaiter.catalog.synced import Batch, SeenTag, TakenManifest
from tidewaiter.core import clock
from tidewaiter.oci.manifest import MANIFEST

ELSEWHERE = "reg.example.com:5000/team/a"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Two built images with verdicts, and one that was seen elsewhere, which a workload runs."""
    with Catalog.open(home(tmp_path)) as opened:
        for name, package, repository in (("one", "numpy", "team/model"), ("two", "keras", "team-b/model")):
            opened.record_build(build(name, repository=repository))
            opened.record_facts(facts(name, component(package)), repository=repository)
            opened.record_scan(scan(name))
            opened.set_tag(repository, "v1", digest(name))
        opened.set_tag("team/model", "v2", digest("one"))
        opened.record_verdict(verdict("one", "allow", clock.now()))
        opened.record_verdict(verdict("two", "deny", clock.now()))
        seen = TakenManifest(
            digest=digest("seen"), media_type=MANIFEST, kind="image", facts=facts("seen", component("numpy"))
        )
        tags = [SeenTag("v1", seen.digest, clock.now())]
        opened.record_sync(ELSEWHERE, Batch(manifests=[seen], tags=tags, images=[seen.digest]))
        with opened.database.writing() as connection:
            now = clock.now()
            owners.put(connection, "repository", "team", "anna", now)
            owners.put(connection, "repository", "team/model", "bert", now)
            look = workloads.Sighting(cluster="c", namespace="n", name="w", seen_at=now, digest=digest("seen"))
            workloads.record(connection, [look], now)
        yield opened


def whole(
    catalog: Catalog, part: Callable[..., Part], step: int, key: Callable[[Any], Any], **wanted: Any
) -> list[Any]:
    """All rows of a list, `step` at a time."""
    found: list[Any] = []
    after: Any = {}
    for _ in range(100):
        with catalog.database.reading() as connection:
            one = part(connection, rows=step, **after, **wanted)
        assert len(one.items) <= step
        found += one.items
        if one.next is None:
            return found
        after = {"after": key(one.next)}
    raise AssertionError("the list does not end")


def first(position: tuple[Any, ...] | None) -> Any:
    """The only part of a position."""
    assert position is not None
    (found,) = position
    return found


def every(position: tuple[Any, ...]) -> Any:
    """The position as it is."""
    return position


@pytest.mark.parametrize(
    ("part", "key", "number"),
    [
        (inventory.repositories, first, 3),
        (inventory.tags, every, 4),
        (inventory.builds, first, 2),
        (inventory.verdicts, first, 2),
        (inventory.layers, first, None),
    ],
)
def test_parts_make_the_whole(
    catalog: Catalog, part: Callable[..., Part], key: Callable[[Any], Any], number: int | None
) -> None:
    """One row at a time gives what all at once gives, and each row once."""
    at_once = whole(catalog, part, 100, key)
    assert number in {None, len(at_once)}
    assert at_once == whole(catalog, part, 1, key)
    assert len(set(map(repr, at_once))) == len(at_once) > 0


def test_a_repository_is_told_with_its_owner(catalog: Catalog) -> None:
    """The nearest owner, how many images and tags there are, and when something changed."""
    found = {one.name: one for one in whole(catalog, inventory.repositories, 10, first)}
    assert set(found) == {"team/model", "team-b/model", ELSEWHERE}
    assert (found["team/model"].owner, found["team/model"].images, found["team/model"].tags) == ("bert", 1, 2)
    assert (found["team-b/model"].owner, found[ELSEWHERE].tags) == ("", 1)
    assert found["team/model"].changed_at is not None
    named = whole(catalog, inventory.repositories, 10, first, search="TEAM-B")
    assert [one.name for one in named] == ["team-b/model"]


def test_tags_by_what_is_asked(catalog: Catalog) -> None:
    """By repository with what lies below it, by name, by image; what was seen elsewhere is `synced`."""

    def names(**wanted: Any) -> set[str]:
        return {
            f"{one.repository}:{one.tag} {one.visibility}" for one in whole(catalog, inventory.tags, 1, every, **wanted)
        }

    assert names(repository="team") == {"team/model:v1 built", "team/model:v2 built"}
    assert names(tag="v2") == {"team/model:v2 built"}
    assert names(digest=digest("seen")) == {f"{ELSEWHERE}:v1 synced"}


def test_what_a_tag_came_to_mean(catalog: Catalog) -> None:
    """The latest first, of the store and elsewhere."""
    catalog.set_tag("team/model", "v1", digest("two"))
    with catalog.database.reading() as connection:
        found = inventory.tag_changes(connection, "team/model", "v1", rows=10).items
        seen = inventory.tag_changes(connection, ELSEWHERE, "v1", rows=10).items
        last = inventory.tag_changes(connection, "team/model", "v1", rows=1)
        before = inventory.tag_changes(connection, "team/model", "v1", rows=1, after=int(first(last.next)))
    assert [one.digest for one in found] == [digest("two"), digest("one")]
    assert [(one.digest, one.visibility) for one in seen] == [(digest("seen"), "synced")]
    assert (last.items + before.items, before.next) == (found, None)


def test_verdicts_and_builds_by_what_is_asked(catalog: Catalog) -> None:
    """By answer, image, environment; by repository, commit and builder."""
    assert [one.digest for one in whole(catalog, inventory.verdicts, 9, first, verdict="deny")] == [digest("two")]
    assert [one.verdict for one in whole(catalog, inventory.verdicts, 9, first, image=digest("one"))] == ["allow"]
    assert whole(catalog, inventory.verdicts, 9, first, environment="nowhere") == []
    built = whole(catalog, inventory.builds, 9, first, repository="team")
    assert [one.digest for one in built] == [digest("one")]
    commit = built[0].commit
    assert len(whole(catalog, inventory.builds, 9, first, commit=commit[:7])) == 2
    assert whole(catalog, inventory.builds, 9, first, builder="nobody") == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"search": "team-b"}, {"two"}),
        ({"search": "MODEL"}, {"one", "two"}),
        ({"verdict": "allow"}, {"one"}),
        ({"verdict": "deny"}, {"two"}),
        ({"verdict": "deny", "environment": "research"}, set()),
        ({"package": "pkg:pypi/numpy"}, {"one", "seen"}),
        ({"package": "pkg:pypi/num"}, set()),
        ({"owner": "bert"}, {"one"}),
        ({"owner": "anna"}, set()),
        ({"running": True}, {"seen"}),
        ({"running": True, "search": "team-b"}, set()),
        ({"base": "no-such-base"}, set()),
    ],
)
def test_filters(catalog: Catalog, wanted: dict[str, Any], names: set[str]) -> None:
    """Each filter finds what it says; the nearest owner counts, not the one of the folder."""
    words: dict[str, str] = {digest(word): word for word in ("one", "two", "seen")}
    assert {words[one.digest] for one in catalog.browse(Filter(**wanted)).items} == names


def test_the_newest_verdict_counts(catalog: Catalog) -> None:
    """An image that was allowed and is denied now is found by `deny` only."""
    later = verdict("one", "deny", clock.now() + dt.timedelta(minutes=1))
    catalog.record_verdict(later)
    assert {one.digest for one in catalog.browse(Filter(verdict="deny")).items} == {digest("one"), digest("two")}
    assert catalog.browse(Filter(verdict="allow")).items == ()
