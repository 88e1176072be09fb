import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from osv_feed import Entry, affected, entry, simple, zip_bytes

from servers import Serve, reply
from tidewaiter.advisories import mirror
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.importing import ImportResult
from tidewaiter.core import settings
from tidewaiter.core.errors import (
    InputError,
    IntegrityError,
    NetworkError,
    RefusedError,
    TidewaiterError,
    UndeterminedError,
)
from tidewaiter.core.progress import Silent
from tidewaiter.transport.client import Client

DAY = "2024-05-{:02}T00:00:00.{:06}Z"


class Mirror:
    """A folder of files as OSV's bucket has them, and what was asked of it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.tags = True

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one request; the ETag is of the content."""
        self.asked.append(f"{handler.command} {handler.path}")
        body = self.files.get(handler.path)
        if body is None:
            reply(handler, 404)
        else:
            tag = f'"{hash(body)}"' if self.tags else ""
            reply(handler, 200, body, ETag=tag)

    def publish(self, ecosystem: str, *entries: Entry, listed: bool = True, single: bool = True) -> None:
        """Put up an ecosystem: the export, each entry, and the list with each entry's `modified`."""
        self.files[f"/{ecosystem}/all.zip"] = zip_bytes(*(item for item in entries if "withdrawn" not in item))
        if single:
            self.files |= {f"/{ecosystem}/{item['id']}.json": json.dumps(item).encode() for item in entries}
        if listed:
            lines = sorted((f"{item['modified']},{item['id']}" for item in entries), reverse=True)
            self.files[f"/{ecosystem}/modified_id.csv"] = "\n".join(lines).encode() + b"\n"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with the shipped snapshot."""
    with Database(tmp_path / "advisories.db") as database:
        yield database


Update = Callable[..., tuple[ImportResult, ...]]


@pytest.fixture
def osv() -> Mirror:
    """An empty mirror."""
    return Mirror()


@pytest.fixture
def update(database: Database, tmp_path: Path, serve: Serve, osv: Mirror) -> Update:
    """Updates the database from the mirror."""
    url = serve(osv.answer)
    chosen = settings.load({"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_OSV_MIRROR": f"{url}/"})

    def run(*ecosystems: str, **more: Any) -> tuple[ImportResult, ...]:
        osv.asked.clear()
        with Client() as client:
            return mirror.update(database, client, chosen, ecosystems=ecosystems or ("npm",), **more)

    return run


def npm(number: int, *, day: int = 1, fixed: str = "2.0.0", **more: Any) -> Entry:
    """Entry `GHSA-<number>` about an npm package of its own."""
    item = affected(f"@scope/package-{number}", ("introduced", "0"), ("fixed", fixed), ecosystem="npm", kind="SEMVER")
    return entry(f"GHSA-{number}", item, modified=DAY.format(day, number), **more)


def test_the_exports_of_the_mirror_are_taken(database: Database, osv: Mirror, update: Update, tmp_path: Path) -> None:
    """Each ecosystem comes from its own folder, and is named by where it comes from; nothing is left behind."""
    osv.publish("PyPI", *(simple(number) for number in range(2000)), listed=False)
    osv.publish("Rocky%20Linux", entry("RLSA-1", affected("bash", ("introduced", "0"), ecosystem="Rocky Linux:9")))
    results = update("PyPI", "Rocky Linux")
    assert [(item.ecosystems, item.entries, item.whole) for item in results] == [
        (("PyPI",), 2000, True),
        (("Rocky Linux",), 1, True),
    ]
    assert database.coverage()["Rocky Linux:9"].source.endswith("/Rocky%20Linux/all.zip")
    assert list((tmp_path / "cache").iterdir()) == []


def test_all_eight_ecosystems_are_followed_unless_one_is_named() -> None:
    """The ecosystems of the packages that are found in images."""
    assert set(mirror.ECOSYSTEMS) == {"PyPI", "Debian", "Ubuntu", "Alpine", "npm", "Go", "crates.io", "Maven"}


def test_only_what_changed_is_fetched_the_next_time(database: Database, osv: Mirror, update: Update) -> None:
    """New, changed and withdrawn entries come one by one; the result equals an import of the whole."""
    osv.publish("npm", *(npm(number) for number in range(20)))
    assert update()[0].whole
    first = database.revision()
    changed = [
        *(npm(number) for number in range(2, 20)),
        npm(0, day=2, fixed="3.0.0"),
        npm(1, day=3, withdrawn="2024-05-03T00:00:00Z"),
        npm(20, day=4),
    ]
    osv.publish("npm", *changed)
    (result,) = update()
    assert (result.whole, result.entries, result.withdrawn) == (False, 20, 1)
    assert (result.added, result.changed, result.removed) == (1, 1, 1)
    assert result.as_of == "2024-05-04T00:00:00Z"
    assert sorted(osv.asked) == [
        "GET /npm/GHSA-0.json",
        "GET /npm/GHSA-1.json",
        "GET /npm/GHSA-20.json",
        "GET /npm/modified_id.csv",
    ]
    second = database.revision()
    assert second != first
    assert database.coverage()["npm"].entries == 20
    database.replace("npm", (), source="none", as_of=result.as_of, force=True)
    assert update()[0].whole
    assert database.revision() == second


def test_a_mirror_without_news_is_asked_for_its_list_only(osv: Mirror, update: Update) -> None:
    """Nothing is fetched again; without a list the export's ETag says that it is the same."""
    osv.publish("npm", *(npm(number) for number in range(5)))
    update()
    (result,) = update()
    assert osv.asked == ["GET /npm/modified_id.csv"]
    assert (result.entries, result.added, result.changed, result.removed, result.whole) == (5, 0, 0, 0, False)
    del osv.files["/npm/modified_id.csv"]
    (result,) = update()
    assert osv.asked[-1] == "GET /npm/all.zip"
    (result,) = update()
    assert osv.asked == ["GET /npm/modified_id.csv", "HEAD /npm/all.zip"]
    assert (result.entries, result.whole) == (5, False)
    osv.tags = False
    assert update()[0].whole


@pytest.mark.parametrize("odd", ["gone", "missing", "older", "other", "page", "many"])
def test_the_whole_export_is_taken_where_the_list_does_not_fit(
    database: Database, osv: Mirror, update: Update, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """An entry that is gone, missing, older than listed or another one, a page for a list, or too many changes."""
    osv.publish("npm", *(npm(number) for number in range(5)))
    update()
    changed = [npm(0, day=2, fixed="3.0.0"), npm(1, day=2), *(npm(number) for number in range(2, 5))]
    if odd == "gone":
        changed.pop()
    osv.publish("npm", *changed)
    if odd == "missing":
        del osv.files["/npm/GHSA-1.json"]
    elif odd == "older":
        osv.files["/npm/GHSA-0.json"] = json.dumps(npm(0)).encode()
    elif odd == "other":
        osv.files["/npm/GHSA-0.json"] = json.dumps(npm(7, day=3)).encode()
    elif odd == "page":
        osv.files["/npm/modified_id.csv"] = b"<html>Sign in to the guest network</html>"
    elif odd == "many":
        monkeypatch.setattr("tidewaiter.core.limits.FEED_CHANGES", 1)
    (result,) = update()
    assert result.whole
    assert "GET /npm/all.zip" in osv.asked
    assert result.entries == len(changed)
    entries = database.advisories("npm", "@scope/package-0")
    assert [item.ranges[0].events[1].version for _, item in entries] == ["3.0.0"]


def test_an_import_by_hand_ends_the_following(database: Database, osv: Mirror, update: Update) -> None:
    """After other data was imported the list says nothing about what is here, so the whole export is fetched."""
    osv.publish("npm", *(npm(number) for number in range(5)))
    update()
    database.replace("npm", (), source="by hand", as_of="2024-05-01T00:00:00Z", force=True)
    assert update()[0].whole
    assert database.coverage()["npm"].entries == 5


def test_entries_of_the_same_moment_are_not_lost(database: Database, osv: Mirror, update: Update) -> None:
    """An entry that the list has with the very time of the last one, but that came later, is fetched."""
    osv.publish("npm", npm(1), npm(2))
    update()
    late = {**npm(3), "modified": npm(2)["modified"]}
    osv.publish("npm", npm(1), npm(2), late)
    (result,) = update()
    assert (result.added, result.whole) == (1, False)
    assert database.advisories("npm", "@scope/package-3")


def test_a_change_from_the_future_hides_no_other(database: Database, osv: Mirror, update: Update) -> None:
    """A time that has not come yet does not become the moment from which on changes count."""
    osv.publish("npm", npm(1), {**npm(2), "modified": "2999-01-01T00:00:00Z"})
    update()
    osv.publish("npm", npm(1, day=3, fixed="9.0.0"), {**npm(2), "modified": "2999-01-01T00:00:00Z"})
    (result,) = update()
    assert (result.changed, result.as_of) == (1, "2024-05-03T00:00:00Z")
    entries = database.advisories("npm", "@scope/package-1")
    assert [item.ranges[0].events[1].version for _, item in entries] == ["9.0.0"]


def test_changes_that_withdraw_half_are_refused(database: Database, osv: Mirror, update: Update) -> None:
    """Entries withdrawn one by one shrink a feed as a cut export does; force takes them."""
    osv.publish("npm", *(npm(number) for number in range(10)))
    update()
    before = database.revision()
    gone = [npm(number, day=2, withdrawn="2024-05-02T00:00:00Z") for number in range(5)]
    osv.publish("npm", *gone, *(npm(number) for number in range(5, 10)))
    with pytest.raises(RefusedError, match="5 entries where 10 are known"):
        update()
    assert database.revision() == before
    assert update(force=True)[0].removed == 5


def test_one_ecosystem_that_fails_does_not_keep_the_others(database: Database, osv: Mirror, update: Update) -> None:
    """What the mirror has is taken, and what it lacks is said and then raised."""
    notes: list[str] = []

    class Notes(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    osv.publish("npm", npm(1))
    with pytest.raises(UndeterminedError, match="Maven"):
        update("Maven", "npm", progress=Notes())
    assert database.coverage()["npm"].entries == 1
    assert len(notes) == 1
    assert notes[0].startswith("Maven: ")


@pytest.mark.parametrize("trouble", ["unreachable", "missing", "cut", "other", "damaged", "huge"])
@pytest.mark.thorough
def test_a_mirror_in_trouble_leaves_the_old_data(
    database: Database, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Whatever the mirror does wrong, the old advisories stay; not reaching it is 'could not find out'."""
    body = zip_bytes(*(simple(number) for number in range(2000)))
    if trouble == "damaged":
        body = body[:5000] + bytes([body[5000] ^ 1]) + body[5001:]
    if trouble == "huge":
        monkeypatch.setattr("tidewaiter.core.limits.FEED_BYTES", len(body) - 1)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if trouble == "missing" or handler.path.endswith(".csv"):
            reply(handler, 404)
        elif trouble == "cut":
            reply(handler, 200, body[: len(body) // 2], length=len(body))
        elif trouble == "other":
            reply(handler, 200, b"<html>Sign in to the guest network</html>")
        else:
            reply(handler, 200, body)

    url = "http://127.0.0.1:9" if trouble == "unreachable" else serve(answer)
    chosen = settings.load({"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_OSV_MIRROR": url})
    before = database.revision(), database.coverage()
    expected: tuple[type[TidewaiterError], ...] = {
        "unreachable": (NetworkError,),
        "missing": (UndeterminedError,),
        "cut": (NetworkError, IntegrityError),
    }.get(trouble, (InputError,))
    with Client() as client, pytest.raises(expected):
        mirror.update(database, client, chosen, ecosystems=["PyPI"])
    assert (database.revision(), database.coverage()) == before
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


def test_the_lists_of_exploited_vulnerabilities_are_fetched(database: Database, tmp_path: Path, serve: Serve) -> None:
    """KEV and EPSS come from where the settings say; an empty setting leaves one out."""
    kev = {
        "catalogVersion": "1",
        "dateReleased": "2024-05-01T00:00:00Z",
        "count": 1,
        "vulnerabilities": [{"cveID": "CVE-2024-0001"}],
    }
    url = serve(lambda handler: reply(handler, 200, json.dumps(kev).encode()))
    variables = {"TIDEWAITER_KEV_FEED": f"{url}/kev.json", "TIDEWAITER_EPSS_FEED": ""}
    chosen = settings.load({"TIDEWAITER_HOME": str(tmp_path), **variables})
    with Client() as client:
        (found,) = mirror.update_exploited(database, client, chosen, ("KEV", "EPSS"))
    assert (found.kind, found.entries, found.source) == ("KEV", 1, f"{url}/kev.json")
    assert database.exploited() == {"KEV": found}
