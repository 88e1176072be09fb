"""Whether images are allowed in an environment, by the verdicts that stand."""

import datetime as dt
from pathlib import Path

from catalog_sample import digest, facts, home, verdict
from sqlalchemy import insert, select

from tidewaiter.catalog import allowed, schema
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock

HOUR = dt.timedelta(hours=1)


def test_each_answer_and_the_worst_of_an_index(tmp_path: Path) -> None:
    """Allowed, denied, over, never decided, unknown; an index is as its worst image, or as its own verdict says."""
    now = clock.now()
    with Catalog.open(home(tmp_path)) as catalog:
        for name in ("yes", "no", "over", "open", "index", "judged"):
            catalog.record_facts(facts(name), repository="team/model")
        catalog.record_verdict(verdict("yes", "allow", now))
        catalog.record_verdict(verdict("no", "deny", now))
        catalog.record_verdict(verdict("over", "allow", now - 2 * HOUR))
        catalog.record_verdict(verdict("judged", "allow", now))
        with catalog.database.writing() as connection:
            of = schema.artifact.c
            number = {row.digest: row.id for row in connection.execute(select(of.digest, of.id))}
            listed = [("index", "yes"), ("index", "over"), ("judged", "no")]
            connection.execute(
                insert(schema.synced_child),
                [
                    {"parent_id": number[digest(one)], "child_id": number[digest(other)], "platform": "linux/amd64"}
                    for one, other in listed
                ],
            )
        asked = {
            (digest(name), "staging"): answer
            for name, answer in (
                *(("yes", "allow"), ("no", "deny"), ("over", "expired"), ("open", "none"), ("never seen", "none")),
                *(("index", "expired"), ("judged", "allow")),
            )
        } | {(digest("yes"), "production"): "none"}
        with catalog.database.reading() as connection:
            assert allowed.answers(connection, asked.keys(), None, now) == asked
            before = allowed.answers(connection, asked.keys(), now - HOUR * 3 / 2, now)
    assert before[digest("over"), "staging"] == "allow"
    assert before[digest("no"), "staging"] == "none"
