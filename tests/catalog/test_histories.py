"""What is asked of a day has the answer that was given on that day, whatever came later."""

import datetime as dt
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from catalog_sample import NOW, component, digest, facts, finding, home, scan, verdict
from sqlalchemy import select

from tidewaiter.catalog import as_of, listed_at, model_versions, owners, schema, synced, verdicts_at, workloads
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.trace.asking import trace
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.oci.manifest import MANIFEST

SECOND = dt.timedelta(seconds=1)
IMAGES = "abcd"
PLACE = "reg.example.org/r"
STEPS = 14


class _Life:
    """Random things that happen to a catalog, by a clock that is set by hand."""

    def __init__(self, catalog: Catalog, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.catalog = catalog
        self.chance = random.Random(seed)
        self.now = NOW
        monkeypatch.setattr(clock, "now", lambda: self.now)
        for name in IMAGES:
            catalog.record_facts(facts(name, component(f"p{name}")), repository=f"team/{name}")
        self._events: tuple[Callable[[str], object], ...] = (
            lambda name: catalog.set_tag(f"team/{self._one('ab')}", self._one("xy"), digest(name)),
            lambda name: catalog.set_tag(f"team/{name}", "c", digest(name), cleared_for="staging"),
            lambda name: catalog.withdraw_tag(f"team/{name}", "c"),
            lambda name: catalog.record_verdict(verdict(name, self._one(("allow", "deny")), self.now)),
            lambda _: catalog.record_sync(PLACE, synced.Batch(gone=[self._one("uv")])),
            self._sync,
            self._scan,
            self._run,
            self._serve,
            self._own,
        )

    def _one(self, of: Any) -> Any:
        return self.chance.choice(of)

    def step(self) -> None:
        """Up to three things in one second; what is refused is nothing that happened."""
        for _ in range(self.chance.randint(0, 3)):
            with suppress(TidewaiterError):
                self._one(self._events)(self._one(IMAGES))

    def _sync(self, name: str) -> None:
        image = synced.TakenManifest(digest=digest(name), media_type=MANIFEST, kind="image")
        tags = [synced.SeenTag(self._one("uv"), digest(name), self.now)]
        self.catalog.record_sync(PLACE, synced.Batch(manifests=[image], tags=tags, images=[digest(name)]))

    def _scan(self, name: str) -> None:
        hits = [finding(f"pkg:pypi/p{name}@1.0", "CVE-1", severity=self._one(("high", "low")))]
        found = hits if self.chance.random() < 0.7 else []
        self.catalog.record_scan(scan(name, *found, at=self.now, revision=str(self.chance.random())))

    def _run(self, name: str) -> None:
        gone = self.chance.random() < 0.3
        look = Sighting(
            cluster="k", namespace="n", name=self._one("12"), digest=digest(name), seen_at=self.now, gone=gone
        )
        with self.catalog.database.writing() as connection:
            workloads.record(connection, [look], self.now)

    def _serve(self, name: str) -> None:
        look = Seen(digest(name), self.now, self._one(("", "production")))
        with self.catalog.database.writing() as connection:
            model_versions.record(connection, ("m", "1"), look, self.now, owner=self._one(("", "one", "two")))

    def _own(self, _: str) -> None:
        with self.catalog.database.writing() as connection:
            owners.put(connection, "repository", self._one(("team", "team/a")), self._one(("", "A", "B")), self.now)

    def answers(self, at: dt.datetime | None) -> dict[str, object]:
        """What is answered about `at`, without what says since when it is known."""
        with self.catalog.database.reading() as connection:
            reached = [trace(connection, f"image:{digest(name)}", at=at) for name in IMAGES]
            found: dict[str, object] = {
                "tags": as_of.tags(connection, at),
                "workloads": [(one.path, one.digest, one.owner) for one in workloads.listed(connection, at)],
                "models": [(one.digest, one.stage, one.owner) for one in model_versions.listed(connection, at)],
                "owners": owners.listed(connection, at),
                "verdicts": [verdicts_at.standing(connection, range(1, 5), at)],
                "traces": [(one.nodes, one.edges) for one in reached],
            }
            if at is not None:
                found["list"] = listed_at.listed(connection, at, rows=100)
        concerned = self.catalog.concerned_by_advisory({"CVE-1"}, at=at)
        found["versions"] = [(one.purl, one.findings) for one in concerned.versions]
        found["images"] = concerned.images
        return found


@pytest.fixture(params=range(2))
def life(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same each time."""
    with Catalog.open(home(tmp_path)) as catalog:
        yield _Life(catalog, request.param, monkeypatch)


@pytest.mark.thorough
def test_the_answer_about_a_day_stays_what_it_was(life: _Life) -> None:
    """Of the present as of each moment later: tags, workloads, models, owners, verdicts, findings, traces."""
    then: dict[dt.datetime, dict[str, object]] = {}
    for _ in range(STEPS):
        life.step()
        then[life.now] = life.answers(life.now)
        present = life.answers(None)
        assert {key: then[life.now][key] for key in present} == present
        life.now += SECOND * life.chance.randint(1, 3)
    for at, answers in then.items():
        assert life.answers(at) == answers


def test_a_clock_that_jumps_back_leaves_an_order(life: _Life) -> None:
    """No period is negative or overlaps, and once the clock has caught up the present is as of now."""
    latest = life.now
    for _ in range(STEPS):
        life.step()
        latest = max(latest, life.now)
        life.now += SECOND * life.chance.choice((1, 2, 3, -5, -20))
    life.now = latest + SECOND
    present, now = life.answers(None), life.answers(life.now)
    assert {key: now[key] for key in present} == present
    periods = (
        (schema.workload_period, ("workload_id",), ("first_seen", "gone_at")),
        (schema.model_period, ("model_version_id",), ("first_seen", "gone_at")),
        (schema.ownership, ("kind", "subject"), ("since", "until")),
        (schema.finding_period, ("component_id", "advisory_id"), ("since", "until")),
    )
    with life.catalog.database.reading() as connection:
        for table, keys, ends in periods:
            last: dict[Any, dt.datetime | None] = {}
            columns = [table.c[name] for name in (*keys, *ends)]
            for *key, since, until in connection.execute(select(*columns).order_by(table.c.id)):
                before = last.get(tuple(key), since)
                assert before is not None
                assert before <= since
                assert until is None or since <= until
                last[tuple(key)] = until
