"""Quick ways give the answers of the plain ones, on random small catalogs."""

from collections.abc import Mapping
from typing import Any

import pytest
from catalog_sample import component, digest, facts, finding, home, scan, verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidewaiter.catalog import narrowing, owners, workloads
from tidewaiter.catalog.answers import ImageSummary
from tidewaiter.catalog.browsing import Filter
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.reach import affected
from tidewaiter.catalog.synced import Batch, Child, SeenTag, TakenManifest
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.oci.manifest import INDEX, MANIFEST

NAMES = ("one", "two", "three", "four")
PLACES = ("team/a", "team/ab", "reg.example.com/team/b")
LAYERS = ("base", "second", "own")
PACKAGES = {"base": ("libssl", "1.0"), "second": ("libxml", "1.0"), "own": ("flask", "1.0")}

_IMAGE = st.fixed_dictionaries(
    {
        "layers": st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3, unique=True).map(sorted),
        "places": st.lists(st.sampled_from(PLACES), max_size=3, unique=True),
        "tag": st.sampled_from(["", "v1", "V1-rc", "latest"]),
        "runs": st.booleans(),
        "verdict": st.sampled_from(["", "allow", "deny"]),
    }
)
_COMPANY = st.fixed_dictionaries(
    {
        "images": st.dictionaries(st.sampled_from(NAMES), _IMAGE, min_size=1),
        "bases": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["debian", "alpine"])),
        "listed": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        "index_runs": st.booleans(),
        "owner": st.sampled_from(["", "team", "team/a", "reg.example.com"]),
    }
)


def _made(catalog: Catalog, company: Mapping[str, Any]) -> None:
    now, images = clock.now(), company["images"]
    for name, image in images.items():
        parts = [component(*PACKAGES[layer], layer=layer) for layer in image["layers"]]
        found = facts(name, *parts, layers=tuple(image["layers"]))
        catalog.record_facts(found)
        for place in image["places"]:
            if "." not in place:
                catalog.record_facts(found, repository=place)
                if image["tag"]:
                    catalog.set_tag(place, image["tag"], digest(name))
                continue
            taken = TakenManifest(digest=digest(name), media_type=MANIFEST, kind="image", facts=found)
            tags = [SeenTag(image["tag"], digest(name), now)] if image["tag"] else []
            catalog.record_sync(place, Batch(manifests=[taken], tags=tags, images=[digest(name)]))
        if image["verdict"]:
            catalog.record_verdict(verdict(name, image["verdict"], now))
        hits = [finding(f"pkg:pypi/{PACKAGES[one][0]}@1.0", "CVE-1") for one in image["layers"] if one != "second"]
        catalog.record_scan(scan(name, *hits))
    for name, base in company["bases"].items():
        catalog.approve_base(base, digest(name), owner="platform", expires=None)
    below = tuple(Child(digest(one), MANIFEST, 1, "image") for one in company["listed"] if one in images)
    index = TakenManifest(digest=digest("index"), media_type=INDEX, kind="index", children=below)
    batch = Batch(
        manifests=[index], tags=[SeenTag("multi", digest("index"), now)], images=[one.digest for one in below]
    )
    catalog.record_sync("reg.example.com/team/b", batch)
    running = [name for name, image in images.items() if image["runs"]] + (["index"] if company["index_runs"] else [])
    with catalog.database.writing() as connection:
        for name in running:
            seen = Sighting(cluster="eu", namespace="blue", name=name, digest=digest(name), seen_at=now)
            workloads.record(connection, [seen], now)
        if company["owner"]:
            owners.put(connection, "repository", company["owner"], "vision", now)


_SOME = settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_MANY = settings(_SOME, max_examples=25)


@pytest.mark.parametrize("thing", ["advisory", "package"])
@settings(_SOME)
@given(company=_COMPANY, rows=st.sampled_from([1, 2, 1000]))
def test_counting_in_the_database_is_looking_at_every_image(
    tmp_path_factory: pytest.TempPathFactory, company: Mapping[str, Any], rows: int, thing: str
) -> None:
    """What `affected` counts group by group is what it counts image by image, to the last field."""
    _counted(tmp_path_factory, company, rows, thing)


def _counted(tmp_path_factory: pytest.TempPathFactory, company: Mapping[str, Any], rows: int, thing: str) -> None:
    with Catalog.open(home(tmp_path_factory.mktemp("home"))) as catalog:
        _made(catalog, company)
        wanted = affected.Wanted(rows=rows)

        def ask() -> affected.Concerned:
            if thing == "advisory":
                return catalog.concerned_by_advisory({"CVE-1"}, wanted)
            return catalog.concerned_by_purl("pkg:pypi/libssl", wanted)

        quick = ask()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(affected, "_summed", affected._looked_at)
            assert quick == ask()


_FILTER = st.one_of(
    st.builds(Filter, search=st.sampled_from(["team", "a", "v1", "LAT", "team/a:v", "multi", "reg", "sha256:", "x y"])),
    st.builds(
        Filter, tag=st.sampled_from(["v*", "*RC", "multi", "*"]), repository=st.sampled_from(["", "team", "*/b"])
    ),
    st.builds(Filter, environment=st.sampled_from(["staging", "production"]), unbuilt=st.booleans()),
    st.builds(Filter, verdict=st.sampled_from(["allow", "deny"]), running=st.booleans()),
    st.builds(Filter, package=st.just("pkg:pypi/flask"), snowflakes=st.booleans()),
    st.builds(Filter, finding=st.sampled_from(["CVE-1", "none", "critical"]), owner=st.sampled_from(["", "vision"])),
)


@settings(_SOME)
@given(company=_COMPANY, wanted=_FILTER)
def test_looking_at_few_images_is_looking_at_all(
    tmp_path_factory: pytest.TempPathFactory, company: Mapping[str, Any], wanted: Filter
) -> None:
    """A list narrowed to the images that can fit is the list that is read from the latest change on, page by page."""
    _looked(tmp_path_factory, company, wanted)


def _looked(tmp_path_factory: pytest.TempPathFactory, company: Mapping[str, Any], wanted: Filter) -> None:
    with Catalog.open(home(tmp_path_factory.mktemp("home"))) as catalog:
        _made(catalog, company)
        narrow = catalog.browse(wanted).items
        paged: list[ImageSummary] = []
        cursor = ""
        while True:
            page = catalog.browse(wanted, cursor=cursor, rows=1)
            paged += page.items
            cursor = page.next
            if not cursor:
                break
        assert paged == list(narrow)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(narrowing, "FEW", 0)
            assert catalog.browse(wanted).items == narrow
            if wanted.search:
                assert catalog.list_images(search=wanted.search).total == len(narrow)
        every = catalog.browse(Filter()).items
        if wanted.search and "multi" not in wanted.search:
            expected = [one for one in every if _contains(one, wanted.search.lower())]
            assert [(one.name, one.digest) for one in narrow] == [(one.name, one.digest) for one in expected]
            listed = catalog.list_images(search=wanted.search)
            assert (listed.total, listed.items) == (len(expected), narrow)


@pytest.mark.thorough
@pytest.mark.parametrize("thing", ["advisory", "package"])
@settings(_MANY)
@given(company=_COMPANY, rows=st.sampled_from([1, 2, 1000]))
def test_counting_in_the_database_many_times(
    tmp_path_factory: pytest.TempPathFactory, company: Mapping[str, Any], rows: int, thing: str
) -> None:
    """The same of many catalogs."""
    _counted(tmp_path_factory, company, rows, thing)


@pytest.mark.thorough
@settings(_MANY)
@given(company=_COMPANY, wanted=_FILTER)
def test_looking_at_few_images_many_times(
    tmp_path_factory: pytest.TempPathFactory, company: Mapping[str, Any], wanted: Filter
) -> None:
    """The same of many catalogs."""
    _looked(tmp_path_factory, company, wanted)


def _contains(image: Any, text: str) -> bool:
    """Whether the search finds it, by what a list shows of it."""
    tags = [one.name.lower() for one in (*image.tags, *image.synced)]
    name, colon, rest = text.rpartition(":")
    if colon and not text.startswith("sha256:") and image.name == name and any(tag.startswith(rest) for tag in tags):
        return True
    begun = image.digest.startswith((text, f"sha256:{text}"))
    return text in image.name or any(text in tag for tag in tags) or begun
