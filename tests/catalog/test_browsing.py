"""Images by what is known of them: each filter, pages by cursor, tags that moved."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_sample import build, component, digest, facts, finding, home, scan, verdict

from tidewaiter.catalog.browsing import Filter
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.synced import Batch, SeenTag, TakenManifest
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError
from tidewaiter.oci.manifest import MANIFEST

ELSEWHERE = "reg.example.com:5000/team/a"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Three images: built, synced with the same packages, synced with other ones."""
    with Catalog.open(home(tmp_path)) as opened:
        opened.record_build(build("built"))
        opened.record_facts(facts("built", component("numpy")), repository="team/model")
        opened.set_tag("team/model", "v1", digest("built"))
        opened.record_scan(scan("built", finding("pkg:pypi/numpy@1.0", "GHSA-1", aliases=("CVE-2026-1",))))
        taken = [
            TakenManifest(digest=digest(name), media_type=MANIFEST, kind="image", facts=facts(name, component(package)))
            for name, package in (("same", "numpy"), ("other", "keras"))
        ]
        tags = [SeenTag(f"{one.facts.reference}-1", one.digest, clock.now()) for one in taken if one.facts]
        opened.record_sync(ELSEWHERE, Batch(manifests=taken, tags=tags, images=[one.digest for one in taken]))
        yield opened


def found(catalog: Catalog, **wanted: object) -> set[str]:
    """The images that fit, by the words that they were made of."""
    words: dict[str, str] = {digest(word): word for word in ("built", "same", "other")}
    return {words[one.digest] for one in catalog.browse(Filter(**wanted)).items}  # type: ignore[arg-type]  # whatever a test asks


def test_every_filter(catalog: Catalog) -> None:
    """Each leaves those that fit, and all together those that fit all."""
    assert found(catalog) == {"built", "same", "other"}
    assert found(catalog, repository="team") == {"built"}
    assert found(catalog, repository=ELSEWHERE) == {"same", "other"}
    assert found(catalog, repository="*/TEAM/*") == {"same", "other"}
    assert found(catalog, repository="tea_/model") == found(catalog, repository="%") == set()
    assert found(catalog, tag="v?") == {"built"}
    assert found(catalog, tag="*-1") == {"same", "other"}
    assert found(catalog, unbuilt=True) == {"same", "other"}
    assert found(catalog, snowflakes=True) == {"other"}
    assert found(catalog, environment="staging") == {"built"}
    assert found(catalog, finding="CVE-2026-1") == {"built", "same"}
    assert found(catalog, finding="cve-2026-1", unbuilt=True) == {"same"}
    assert found(catalog, finding="critical") <= found(catalog, finding="none") == {"built", "same"}
    assert found(catalog, finding="CVE-2026-2") == set()
    assert found(catalog, since=clock.now() + dt.timedelta(days=1)) == set()
    assert found(catalog, since=clock.now() - dt.timedelta(days=1)) == {"built", "same", "other"}


def test_text_is_text(catalog: Catalog) -> None:
    """What looks like SQL, or like a pattern of SQL, is looked for as it is written."""
    for odd in ("'; DROP TABLE tag; --", "%", "_", "\\", "\u202e", "x" * 5000):
        for name in ("repository", "tag", "finding", "environment"):
            assert found(catalog, **{name: odd}) == set()
    assert found(catalog) == {"built", "same", "other"}


def test_pages_follow_one_another(catalog: Catalog) -> None:
    """Each image stands on one page, also of those that changed at one moment; another text is no cursor."""
    seen: list[str] = []
    cursor = ""
    while True:
        page = catalog.browse(Filter(), cursor=cursor, rows=1)
        seen += [one.digest for one in page.items]
        cursor = page.next
        if not cursor:
            break
    assert sorted(seen) == sorted(digest(word) for word in ("built", "same", "other"))
    for odd in ("x", "WzEsMl0", "é", "W251bGwsMSwxXQ", "WzFlOTksMSwxXQ"):
        with pytest.raises(InputError):
            catalog.browse(Filter(), cursor=odd)


def test_tags_that_moved(catalog: Catalog) -> None:
    """Here and elsewhere; clearing a tag moves nothing."""
    assert catalog.moved_tags() == ()
    catalog.record_verdict(verdict("built", "allow", clock.now()))
    catalog.set_tag("team/model", "v1", digest("built"), cleared_for="staging")
    assert catalog.moved_tags() == ()
    catalog.set_tag("team/model", "v1", digest("other"))
    catalog.record_sync(ELSEWHERE, Batch(tags=[SeenTag("same-1", digest("other"), clock.now())]))
    moved = {(one.name, one.tag, one.before, one.digest) for one in catalog.moved_tags()}
    assert moved == {
        ("team/model", "v1", digest("built"), digest("other")),
        (ELSEWHERE, "same-1", digest("same"), digest("other")),
    }
    assert [one.name for one in catalog.moved_tags(repository="team")] == ["team/model"]
    assert len(catalog.moved_tags(rows=1)) == 1


def test_a_text_that_no_plain_tag_can_contain_is_found_in_odd_ones(catalog: Catalog) -> None:
    """Names in a layout may have colons, slashes and blanks: they are found by them, whatever the case."""
    odd = {"Hub/Library:A 1": "same", "other:1": "other", "plain_1.0-x": "built"}
    catalog.record_sync("layout", Batch(tags=[SeenTag(tag, digest(word), clock.now()) for tag, word in odd.items()]))
    catalog.record_sync("layout", Batch(images=[digest(word) for word in odd.values()]))
    wanted = {
        "library:a": {"same"},
        ":a 1": {"same"},
        "b/l": {"same"},
        "r:1": {"other"},
        "n_1.0-": {"built"},
        "%": set(),
    }
    assert {text: found(catalog, search=text) for text in wanted} == wanted
