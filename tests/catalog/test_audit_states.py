"""What was seen elsewhere, what runs, what serves and who owns: the log says how these rows read."""

import datetime as dt
from pathlib import Path

import pytest
from audit_manipulations import OF_ROWS, flatten, found_after, verified
from catalog_sample import digest, facts, home, verdict

from tidewaiter.catalog import clearing, model_versions, owners, workloads
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.synced import Batch, Child, SeenTag, TakenManifest
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.core.settings import Settings
from tidewaiter.oci.manifest import INDEX, MANIFEST

PLACE = "reg.example.org/team/far"
HOUR = dt.timedelta(hours=1)


def _runs(image: str, at: dt.datetime, name: str = "web") -> Sighting:
    return Sighting(cluster="eu 1", namespace="a", name=name, digest=digest(image), seen_at=at)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home in which all of that was recorded, changed and taken back, some of it in the same second."""
    settings = home(tmp_path_factory.mktemp("states"))
    now = clock.now()
    image = TakenManifest(digest=digest("far"), media_type=MANIFEST, kind="image")
    below = Child(digest("far"), MANIFEST, 9, "image", "linux/amd64")
    signed = Child(digest("signature"), MANIFEST, 9, "artifact", artifact_type="application/x")
    index = TakenManifest(
        digest=digest("index"), media_type=INDEX, kind="index", children=(below,), referrers=(signed,)
    )
    tags = [SeenTag("1", digest("far"), now), SeenTag("2", digest("index"), now)]
    with Catalog.open(settings) as catalog:
        catalog.record_facts(facts("one"), repository="team/model")
        catalog.record_facts(facts("two"), repository="team/model")
        for name in ("one", "two"):
            catalog.set_tag("team/model", "1.0", digest(name))
            catalog.set_tag("team/model", name, digest(name))
        for when in (now - HOUR, now):
            catalog.record_verdict(verdict("one", "allow", when))
        catalog.record_sync(PLACE, Batch(manifests=[image, index], tags=tags, images=[digest("far")]))
        catalog.record_sync(PLACE, Batch(tags=[SeenTag("1", digest("index"), now)], gone=["2"]))
        with catalog.database.writing() as connection:
            assert clearing.remove(connection, repository="team/model", name="two", at=now)
            workloads.record(connection, [_runs("one", now - HOUR), _runs("far", now - HOUR, "job")], now)
            workloads.record(connection, [_runs("far", now - HOUR)], now)
            workloads.record(connection, [_runs("one", now - HOUR)], now)
            model_versions.record(connection, ("mnist", "7"), Seen(digest("one"), now, "production"), now, owner="ml")
            model_versions.record(connection, ("mnist", "7"), Seen("", now, gone=True), now)
            owners.put(connection, "repository", "team", "vision", now - HOUR)
            for name in ("ops", "", "vision"):
                owners.put(connection, "repository", "team", name, now)
    assert audit_sequencer.settle(settings) == ""
    flatten(settings.home.catalog)
    return settings


def test_what_nobody_changed_reads_as_it_was_logged(furnished: Settings) -> None:
    """Also a tag that is gone, and periods that began in the same second."""
    seen = verified(furnished)
    assert seen.problems == ()
    with Catalog.open(furnished) as catalog, catalog.database.reading() as connection:
        kinds = {one.kind for one in audit_states.all_of(connection)}
        (gone,) = audit_states.now(connection, "synced_tag", (PLACE, "2"))
        (removed,) = audit_states.now(connection, "tag", ("team/model", "two"))
    assert kinds == {
        "model",
        "owner",
        "tag",
        "tag_change",
        "verdict",
        "verdict_time",
        "workload",
        *(f"synced_{of}" for of in ("change", "child", "manifest", "referrer", "tag")),
    }
    assert gone.digest == removed.digest == ""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE workload SET name = 'other' WHERE name = 'job'",
        "UPDATE workload_period SET gone_at = last_seen WHERE gone_at IS NULL",
        "UPDATE workload_period SET digest = 'sha256:' || substr(digest, 9) || '0'",
        "DELETE FROM workload_period WHERE id = 1",
        (
            "INSERT INTO workload_period SELECT 99, workload_id, digest, known, stage, first_seen, last_seen, gone_at"
            " FROM workload_period LIMIT 1"
        ),
        "UPDATE model_version SET version = '8'",
        "UPDATE model_period SET stage = 'research' WHERE stage <> ''",
        "DELETE FROM model_period",
        "UPDATE ownership SET owner = 'nobody' WHERE until IS NULL",
        "UPDATE ownership SET until = since WHERE until IS NULL",
        "DELETE FROM ownership WHERE until IS NOT NULL",
        "UPDATE synced_tag SET artifact_id = (SELECT min(id) FROM artifact)",
        "UPDATE synced_tag SET set_at = '2020-01-01 00:00:00.000000'",
        "DELETE FROM synced_tag",
        "INSERT INTO synced_tag SELECT repository_id, '2', artifact_id, set_at FROM synced_tag",
        "DELETE FROM synced_tag_history WHERE id = (SELECT max(id) FROM synced_tag_history)",
        "UPDATE synced_tag_history SET set_at = '2020-01-01 00:00:00.000000' WHERE id = 1",
        "UPDATE tag_history SET visibility = 'pulled' WHERE visibility = 'gone'",
        "UPDATE tag_history SET set_at = '2020-01-01 00:00:00.000000' WHERE id = 1",
        "UPDATE tag_history SET artifact_id = (SELECT artifact_id FROM tag_history WHERE name = 'two') WHERE id = 1",
        "DELETE FROM tag_history WHERE id = 1",
        (
            "INSERT INTO tag (repository_id, name, artifact_id, visibility, set_at)"
            " SELECT repository_id, name, artifact_id, 'pulled', set_at FROM tag_history WHERE visibility = 'gone'"
        ),
        "UPDATE verdict_earlier SET valid_until = '2099-01-01 00:00:00.000000'",
        "DELETE FROM verdict_earlier",
        "UPDATE synced_manifest SET problem = 'odd' WHERE kind = 'index'",
        "DELETE FROM synced_referrer",
        "UPDATE synced_child SET platform = 'linux/arm64'",
        "DELETE FROM synced_child",
    ],
)
def test_an_edited_row_is_found(furnished: Settings, tmp_path: Path, statement: str) -> None:
    """Whichever table it is in, and whether it was changed, removed or added."""
    assert found_after(furnished, tmp_path, statement) & OF_ROWS
