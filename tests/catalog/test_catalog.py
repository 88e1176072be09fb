"""Recording and asking, through the catalog's own methods on a real SQLite file."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from catalog_sample import NOW, build, component, digest, facts, finding, home, scan
from sqlalchemy import func, select

from tidewaiter.advisories.finding import NotChecked
from tidewaiter.catalog import schema
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.records import AttachmentRecord, SignatureRecord
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotFoundError


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    with Catalog.open(home(tmp_path)) as opened:
        yield opened


def _rows(catalog: Catalog) -> dict[str, int]:
    with catalog.database.reading() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in schema.metadata.sorted_tables
        }


def _record_everything(catalog: Catalog) -> None:
    catalog.record_build(build("one"))
    catalog.record_facts(facts("one", component("numpy"), component("keras", layer="app")), repository="team/model")
    catalog.record_scan(scan("one", finding("pkg:pypi/numpy@1.0", "GHSA-1", "CVE-1")))
    catalog.record_signature(
        SignatureRecord(
            digest=digest("one"), key_fingerprint="k", builder="local", manifest_digest=digest("sig"), created=NOW
        )
    )
    catalog.record_attachment(
        AttachmentRecord(
            digest=digest("one"), kind="spdx", media_type="m", blob_digest=digest("sbom"), size=3, created=NOW
        )
    )
    catalog.set_tag("team/model", "v1", digest("one"))


def test_the_same_records_twice_change_nothing(catalog: Catalog) -> None:
    """Every record function may be called again with the same values: no row is added, the audit log included."""
    _record_everything(catalog)
    before, image = _rows(catalog), catalog.image(digest("one"))
    assert before["audit_pending"] == 4
    _record_everything(catalog)
    assert _rows(catalog) == before
    assert catalog.image(digest("one")) == image


def test_facts_before_and_after_the_build_give_the_same_image(tmp_path: Path) -> None:
    """The order of inspection and build record does not matter."""
    found = facts("one", component("numpy"))
    with Catalog.open(home(tmp_path / "a")) as first, Catalog.open(home(tmp_path / "b")) as second:
        first.record_build(build("one"))
        first.record_facts(found, repository="team/model")
        second.record_facts(found, repository="team/model")
        second.record_build(build("one"))
        assert first.image(digest("one")) == second.image(digest("one"))
        layers = second.image(digest("one")).layers
        assert [(layer.kind, layer.title, layer.contents) for layer in layers] == [
            ("base", "the base", ()),
            ("app", "", ("a.py",)),
        ]
        assert layers[0].unpacked_size == 300


def test_an_image_is_found_by_every_name(catalog: Catalog) -> None:
    """Digest, NAME@DIGEST and NAME:TAG lead to the image; unknown and malformed names are told apart."""
    _record_everything(catalog)
    for name in (digest("one"), f"team/model@{digest('one')}", "team/model:v1"):
        assert catalog.image(name).summary.digest == digest("one")
    assert catalog.resolve_tag("team/model", "v1") == digest("one")
    assert catalog.resolve_tag("team/model", "v2") is None
    for unknown in (digest("two"), f"other@{digest('one')}", "team/model:v2", "team/model"):
        with pytest.raises(NotFoundError):
            catalog.image(unknown)
    with pytest.raises(InputError):
        catalog.image("sha256:abc")


def test_components_and_sets_are_shared(catalog: Catalog) -> None:
    """Two images with the same packages share one component set, whatever the order; a third has its own."""
    catalog.record_facts(facts("one", component("a"), component("b")), repository="x")
    catalog.record_facts(facts("two", component("b"), component("a")), repository="x")
    catalog.record_facts(facts("three", component("a")), repository="x")
    rows = _rows(catalog)
    assert (rows["artifact"], rows["component"], rows["component_set"], rows["layer"]) == (3, 2, 2, 2)


def test_an_image_cannot_change_what_is_said_of_another(catalog: Catalog) -> None:
    """A licence that another image claims for the same package version stays with that image's layer."""
    catalog.record_facts(
        facts("bad", component("numpy", layer="evil", licenses=("Evil",)), layers=("evil",)), repository="x"
    )
    catalog.record_facts(facts("good", component("numpy")), repository="x")
    assert catalog.image(digest("good")).components[0].licenses == ("MIT",)
    assert catalog.image(digest("bad")).components[0].licenses == ("Evil",)


def test_a_scan_counts_for_every_image_with_the_same_packages(catalog: Catalog) -> None:
    """Findings belong to component versions: another image with the same set shows them without its own scan."""
    for image in ("one", "two"):
        catalog.record_facts(facts(image, component("numpy")), repository="x")
    catalog.record_scan(scan("one", finding("pkg:pypi/numpy@1.0", "GHSA-1")))
    seen = catalog.image(digest("two"))
    assert [one.advisory for one in seen.findings] == ["GHSA-1"]
    assert seen.summary.scan is not None
    assert seen.summary.scan.counts == {"high": 1}


def test_what_was_not_scanned_is_not_clean(catalog: Catalog) -> None:
    """An image without a scan has no scan summary and no findings, also when a part of it was scanned elsewhere."""
    catalog.record_facts(facts("one", component("numpy")), repository="x")
    catalog.record_facts(facts("two", component("numpy"), component("keras")), repository="x")
    catalog.record_scan(scan("one", finding("pkg:pypi/numpy@1.0", "GHSA-1")))
    assert catalog.image(digest("two")).summary.scan is None


def test_a_gap_is_kept(catalog: Catalog) -> None:
    """Packages without advisory data are counted and listed with the reason."""
    gap = NotChecked(purl="pkg:pypi/numpy@1.0", name="numpy", version="1.0", ecosystem="PyPI", reason="no data")
    catalog.record_facts(facts("one", component("numpy")), repository="x")
    catalog.record_scan(scan("one", not_checked=(gap,)))
    seen = catalog.image(digest("one"))
    assert seen.not_checked == (gap,)
    assert seen.summary.scan is not None
    assert (seen.summary.scan.counts, seen.summary.scan.not_checked) == ({}, 1)


def test_a_withdrawn_advisory_disappears(catalog: Catalog) -> None:
    """What a newer scan no longer finds is gone; an older scan that arrives late changes nothing."""
    catalog.record_facts(facts("one", component("numpy"), component("keras")), repository="x")
    numpy, keras = finding("pkg:pypi/numpy@1.0", "GHSA-1"), finding("pkg:pypi/keras@1.0", "GHSA-2")
    catalog.record_scan(scan("one", numpy))
    catalog.record_scan(scan("one", keras, at=NOW + dt.timedelta(days=1), revision="r2"))
    assert [one.advisory for one in catalog.image(digest("one")).findings] == ["GHSA-2"]
    catalog.record_scan(scan("one", numpy, at=NOW - dt.timedelta(days=1), revision="r0"))
    assert [one.advisory for one in catalog.image(digest("one")).findings] == ["GHSA-2"]
    age = catalog.advisory_age()
    assert age is not None
    assert age.revision == digest("r2")


def test_a_second_scan_in_the_same_second_counts(catalog: Catalog) -> None:
    """New data that is imported and matched within a second replaces what was found just before."""
    catalog.record_facts(facts("one", component("numpy")), repository="x")
    catalog.record_scan(scan("one", finding("pkg:pypi/numpy@1.0", "GHSA-1")))
    catalog.record_scan(scan("one", finding("pkg:pypi/numpy@1.0", "GHSA-2"), revision="r2"))
    assert [one.advisory for one in catalog.image(digest("one")).findings] == ["GHSA-2"]


def test_a_scan_by_a_clock_that_was_ahead_does_not_stand_until_then(catalog: Catalog) -> None:
    """What is scanned once the clock is right counts: its findings, and that others are gone."""
    catalog.record_facts(facts("one", component("numpy"), component("keras")), repository="team/model")
    far = clock.now() + dt.timedelta(days=400)
    catalog.record_scan(scan("one", finding("pkg:pypi/numpy@1.0", "GHSA-1"), at=far, revision="early"))
    catalog.record_scan(scan("one", finding("pkg:pypi/keras@1.0", "GHSA-2"), at=clock.now(), revision="late"))
    assert catalog.concerned_by_advisory({"GHSA-1"}).images == ()
    assert len(catalog.concerned_by_advisory({"GHSA-2"}).images) == 1


def test_a_scan_of_unknown_packages_is_refused_whole(catalog: Catalog) -> None:
    """A finding about a package that the image does not have records nothing of that scan."""
    catalog.record_facts(facts("one", component("numpy")), repository="x")
    catalog.record_facts(facts("two", component("keras")), repository="x")
    before = _rows(catalog)
    with pytest.raises(InputError, match="keras"):
        catalog.record_scan(
            scan("one", finding("pkg:pypi/numpy@1.0", "GHSA-1"), finding("pkg:pypi/keras@1.0", "GHSA-2"))
        )
    assert _rows(catalog) == before


def test_nothing_is_recorded_of_an_unknown_image(catalog: Catalog) -> None:
    """Scan, signature and tag of an image that was not recorded are errors that name it."""
    record = SignatureRecord(
        digest=digest("one"), key_fingerprint="k", builder="b", manifest_digest=digest("s"), created=NOW
    )
    before = _rows(catalog)
    with pytest.raises(NotFoundError, match=digest("one")):
        catalog.record_signature(record)
    with pytest.raises(NotFoundError):
        catalog.record_scan(scan("one"))
    with pytest.raises(NotFoundError):
        catalog.set_tag("x", "v1", digest("one"))
    assert _rows(catalog) == before


def test_images_with_answers_for_packages_and_advisories(catalog: Catalog) -> None:
    """A purl, a purl without version, an advisory and its alias all lead to the images, and to no others."""
    catalog.record_facts(facts("one", component("numpy"), component("numpydoc")), repository="team/one")
    catalog.record_facts(facts("two", component("numpy", "2.0")), repository="team/two")
    catalog.record_scan(scan("one", finding("pkg:pypi/numpy@1.0", "GHSA-1", "CVE-1")))
    catalog.set_tag("team/one", "v1", digest("one"))
    assert [use.name for use in catalog.images_with("pkg:pypi/numpy")] == ["team/one", "team/two"]
    assert [use.name for use in catalog.images_with("pkg:pypi/numpy@2.0")] == ["team/two"]
    assert catalog.images_with("pkg:pypi/num") == ()
    for name in ("GHSA-1", "ghsa-1", "CVE-1", "cve-1"):
        (use,) = catalog.images_with(name)
        assert (use.name, use.tags, use.purl, use.advisory, use.fixed_in) == (
            "team/one",
            ("v1",),
            "pkg:pypi/numpy@1.0",
            "GHSA-1",
            ("2.0",),
        )
    assert catalog.images_with("CVE-2") == ()


def test_the_list_is_searched_and_paged(catalog: Catalog) -> None:
    """Name parts, tags, digests and commits are found; wildcards are ordinary letters; pages do not overlap."""
    for number in range(5):
        commit = f"{number}f" * 20
        catalog.record_build(build(f"i{number}", f"team/m{number}", commit=commit))
    catalog.set_tag("team/m3", "Stable", digest("i3"))
    assert catalog.list_images(search="M3").total == 1
    assert catalog.list_images(search="stable").items[0].name == "team/m3"
    assert catalog.list_images(search="team/m3:stab").total == 1
    assert catalog.list_images(search="2f2f").items[0].name == "team/m2"
    assert catalog.list_images(search=digest("i4")[:20]).items[0].name == "team/m4"
    assert catalog.list_images(search="%").total == 0
    assert catalog.list_images(search="_").total == 0
    pages = [catalog.list_images(page=page, rows=2) for page in (1, 2, 3, 99)]
    assert [len(page.items) for page in pages] == [2, 2, 1, 1]
    assert len({image.digest for page in pages for image in page.items}) == 5
    assert pages[3].page == pages[3].pages == 3


def test_odd_texts_are_kept_readable(catalog: Catalog) -> None:
    """Lone surrogates, NUL and endless names out of an image are recorded, cut and cleaned, never refused."""
    endless = "x" * 100_000
    odd = component("odd", location="a\udcffb\0c", description=endless, supplier=endless)
    long_one = component("long", purl="pkg:pypi/" + endless, version=endless)
    long_two = component("long", purl="pkg:pypi/" + endless + "y", version=endless)
    found = msgspec.structs.replace(facts("one", odd, long_one, long_two), labels={"\udcff": "\0"}, created="yesterday")
    catalog.record_facts(found, repository="x")
    seen = catalog.image(digest("one"))
    assert [one.location for one in seen.components if one.name == "odd"] == ["a\\udcffb\ufffdc"]
    assert seen.config.labels == {"\\udcff": "\ufffd"}
    assert seen.created is None
    long = [one for one in seen.components if one.name == "long"]
    assert len(long) == 2
    assert all(len(one.purl) < 2100 and len(one.version) <= 8192 for one in long)


def test_a_rebuild_with_the_same_bytes_is_a_second_build(catalog: Catalog) -> None:
    """Lineage keeps both builds of one digest, the newest first, and the list shows the newest."""
    catalog.record_build(build("one"))
    later = NOW + dt.timedelta(days=1)
    catalog.record_build(build("one", started=later, finished=later, commit="cd" * 20))
    seen = catalog.image(digest("one"))
    assert [one.commit[:2] for one in seen.builds] == ["cd", "ab"]
    assert seen.summary.commit == "cd" * 20
    assert seen.builds[0].base_name == "debian12"
