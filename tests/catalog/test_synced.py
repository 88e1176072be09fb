"""What lies elsewhere: recorded once, whoever saw it, and never mistaken for what the store says."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_sample import component, digest, facts, home
from sqlalchemy import func, select, text

import tidewaiter
from tidewaiter.catalog import schema, synced
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.synced import Batch, Child, SeenTag, TakenManifest
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotFoundError, StorageError
from tidewaiter.oci.manifest import INDEX, MANIFEST

PLACE = "reg.example.com:5000/team/a"
AT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(home(tmp_path)) as opened:
        yield opened


def image(name: str, version: str = "1.0") -> TakenManifest:
    """An image that was inspected."""
    return TakenManifest(
        digest=digest(name), media_type=MANIFEST, kind="image", size=200, facts=facts(name, component("p", version))
    )


def batch(*names: str, at: dt.datetime = AT, tag: str = "1") -> Batch:
    """These images, and a tag that means the last of them."""
    taken = [image(name) for name in names]
    return Batch(manifests=taken, tags=[SeenTag(tag, taken[-1].digest, at)], images=[one.digest for one in taken])


def entries(catalog: Catalog) -> int:
    """How many entries wait for the audit log."""
    with catalog.database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(schema.audit_pending)) or 0


def test_the_same_again_changes_nothing(catalog: Catalog) -> None:
    """One batch is one entry of the audit log; the same batch again is none, and changes no row."""
    first = catalog.record_sync(PLACE, batch("one"))
    assert (first.images, first.tags, first.moved) == (1, 1, ())
    assert entries(catalog) == 1
    again = catalog.record_sync(PLACE, Batch(tags=batch("one").tags, images=batch("one").images))
    assert (again.images, again.tags, again.moved) == (0, 0, ())
    assert entries(catalog) == 1
    assert catalog.sync_tags(PLACE) == {"1": digest("one")}


def test_half_a_batch_is_never_recorded(catalog: Catalog) -> None:
    """When one of its values cannot be recorded, nothing of a batch is, and no entry says otherwise."""
    bad = Batch(manifests=[image("one")], tags=[SeenTag("1", digest("nobody has seen it"), AT)])
    with pytest.raises(KeyError):
        catalog.record_sync(PLACE, bad)
    assert catalog.sync_statuses([digest("one")]) == {}
    assert entries(catalog) == 0


def test_who_saw_a_tag_later_is_right(catalog: Catalog) -> None:
    """A slow sync does not put back what a tag meant before another one looked."""
    catalog.record_sync(PLACE, batch("old", at=AT))
    catalog.record_sync(PLACE, batch("new", at=AT + 2 * MINUTE))
    late = catalog.record_sync(PLACE, batch("old", at=AT + MINUTE))
    assert late.moved == ()
    assert catalog.sync_tags(PLACE) == {"1": digest("new")}
    assert catalog.record_sync(PLACE, batch("old", at=AT + 3 * MINUTE)).moved[0].before == digest("new")


def test_a_clock_that_jumps_back(catalog: Catalog) -> None:
    """A tag that was seen in what is the future now does not stay as it is for ever."""
    future = clock.now() + dt.timedelta(days=400)
    catalog.record_sync(PLACE, batch("old", at=future))
    catalog.record_sync(PLACE, batch("new", at=clock.now()))
    assert catalog.sync_tags(PLACE) == {"1": digest("new")}
    assert [one.digest for one in catalog.moved_tags()] == [digest("new")]


def test_what_a_list_says_is_no_finding_out(catalog: Catalog) -> None:
    """A manifest that only a list named is known by name; once it was read, no list changes what it is."""
    listed = Child(digest("two"), MANIFEST, 500, "artifact")
    index = TakenManifest(digest=digest("index"), media_type=INDEX, kind="index", children=(listed,))
    catalog.record_sync(PLACE, Batch(manifests=[index]))
    status = catalog.sync_statuses([digest("two")])[digest("two")]
    assert (status.read, status.kind) == (False, "artifact")
    catalog.record_sync(PLACE, Batch(manifests=[image("two")]))
    catalog.record_sync(PLACE, Batch(manifests=[index]))
    status = catalog.sync_statuses([digest("two")])[digest("two")]
    assert (status.read, status.kind, status.inspected) == (True, "image", True)
    assert [one.digest for one in catalog.sync_children(digest("index"))] == [digest("two")]


def test_a_list_cannot_hide_what_was_recorded_here(catalog: Catalog) -> None:
    """An image of this home stays one, whatever somebody's index, or a list of referrers, calls its digest."""
    catalog.record_facts(facts("one"), repository="team/own")
    claim = Child(digest("one"), MANIFEST, 500, "artifact")
    index = TakenManifest(digest=digest("index"), media_type=INDEX, kind="index", children=(claim,), referrers=(claim,))
    catalog.record_sync(PLACE, Batch(manifests=[index]))
    status = catalog.sync_statuses([digest("one")])[digest("one")]
    assert (status.kind, status.inspected) == ("image", True)
    assert [one.kind for one in catalog.sync_children(digest("index"))] == ["image"]


def test_a_subject_may_come_after_what_refers_to_it(catalog: Catalog) -> None:
    """It is no image until somebody says or sees that; then it has its referrer."""
    signature = TakenManifest(digest=digest("sig"), media_type=MANIFEST, kind="artifact", subject=digest("two"))
    catalog.record_sync(PLACE, Batch(manifests=[signature]))
    assert catalog.concerned_by_purl("pkg:pypi/a").not_inspected == 0
    child = Child(digest("two"), MANIFEST, 500, "image", "linux/amd64")
    index = TakenManifest(digest=digest("index"), media_type=INDEX, kind="index", children=(child,))
    catalog.record_sync(PLACE, Batch(manifests=[index]))
    assert [one.kind for one in catalog.sync_children(digest("index"))] == ["image"]
    catalog.record_sync(PLACE, Batch(manifests=[image("two")]))
    with catalog.database.reading() as connection:
        assert synced.referrers(connection, digest("two")) == {digest("sig")}


def test_another_release_tries_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why an image could not be read counts for the release that found it out; the next one may read it."""
    broken = TakenManifest(digest=digest("one"), media_type=MANIFEST, kind="image", problem="it is no tar")
    catalog.record_sync(PLACE, Batch(manifests=[broken]))
    assert catalog.sync_statuses([digest("one")])[digest("one")].problem == "it is no tar"
    monkeypatch.setattr(tidewaiter, "__version__", "99.0")
    assert catalog.sync_statuses([digest("one")])[digest("one")].problem == ""


def test_names_of_places(catalog: Catalog) -> None:
    """A place is HOST/REPO, a layout or an archive; what is too long, or would steer a terminal, is none."""
    for name in ("a" * 256, "reg/\x1b[2J", "reg/\u202egnp", "reg/a\nb"):
        with pytest.raises(InputError):
            catalog.record_sync(name, batch("one"))
    assert catalog.list_images().total == 0
    assert synced.named("reg:5000/a/b:1") == ("reg:5000/a/b", "1", None)
    assert synced.named("reg:5000/a/b") == ("reg:5000/a/b", "latest", None)
    assert synced.named("team/model:1") is None
    assert synced.named(f"oci:/x/y@{digest('one')}") == ("oci:/x/y", "", digest("one"))
    assert synced.named("oci:/x/../y:NAME:1") == ("oci:/y", "NAME:1", None)


def test_an_image_elsewhere_is_found_by_its_name(catalog: Catalog) -> None:
    """By tag, by digest, and through an index, whatever its host is called; what nobody saw is not found."""
    child = Child(digest("one"), MANIFEST, 500, "image", "linux/amd64")
    other = Child(digest("two"), MANIFEST, 500, "image", "linux/arm64")
    index = TakenManifest(digest=digest("index"), media_type=INDEX, kind="index", children=(other, child))
    tag = SeenTag("multi", digest("index"), AT)
    both = [image("one"), image("two"), index]
    catalog.record_sync(PLACE, Batch(manifests=both, tags=[tag], images=[digest("one"), digest("two")]))
    for name in (f"{PLACE}:multi", f"{PLACE}@{digest('one')}", digest("one")):
        found = catalog.image(name).summary
        assert (found.digest, [one.name for one in found.synced]) == (digest("one"), ["multi"])
    assert catalog.list_images(search="mult").total == 2
    assert catalog.list_images(search=f"{PLACE}:multi").total == 2
    with pytest.raises(NotFoundError):
        catalog.image(f"{PLACE}:none")
    with pytest.raises(InputError):
        catalog.image("'; DROP TABLE tag; --")


def test_a_tag_of_the_store_is_given_back_not_moved(catalog: Catalog) -> None:
    """A tag that the catalog lost is set again, not cleared; one that means something stays."""
    catalog.record_sync("team/model", Batch(manifests=[image("one"), image("two")], images=[digest("one")]))
    assert catalog.restore_tag("team/model", "v1", digest("one"))
    assert catalog.image("team/model:v1").summary.tags[0].visibility == "pulled"
    assert not catalog.restore_tag("team/model", "v1", digest("two"))
    assert catalog.resolve_tag("team/model", "v1") == digest("one")


def test_a_full_disk_leaves_the_catalog_whole(catalog: Catalog) -> None:
    """It is an error in words; nothing of the batch is there, and the same batch is recorded once there is space."""
    many = facts("two", *(component(f"package-{number}") for number in range(2000)))
    taken = TakenManifest(digest=digest("two"), media_type=MANIFEST, kind="image", facts=many)
    large = Batch(manifests=[taken], tags=[SeenTag("2", digest("two"), AT)], images=[digest("two")])
    catalog.record_sync(PLACE, batch("one"))
    with catalog.database.reading() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="disk is full"):
        catalog.record_sync(PLACE, large)
    assert (catalog.list_images().total, catalog.sync_tags(PLACE), entries(catalog)) == (1, {"1": digest("one")}, 1)
    with catalog.database.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert catalog.record_sync(PLACE, large).images == 1
