"""Bases in the catalog: approved, expired, retired, and what rests on them."""

import datetime as dt
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from catalog_sample import build, digest

from tidewaiter.catalog import bases, glance, migrate, narrowing
from tidewaiter.catalog.answers import BaseUse
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.records import BuiltLayer, PullRecord
from tidewaiter.core import clock
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.manifest import MANIFEST

BASE = digest("the base alone")
LATER = dt.timedelta(days=30)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")})) as opened:
        yield opened


def _layer(word: str) -> BuiltLayer:
    return BuiltLayer(digest=digest(f"blob {word}"), diff_id=digest(f"diff {word}"), size=100, kind="base")


def _pull(image: str, *layers: str) -> PullRecord:
    found = tuple(map(_layer, layers))
    return PullRecord(
        repository="other/model", tag="1", digest=digest(image), media_type=MANIFEST, layers=found, source="elsewhere"
    )


def test_a_base_is_known_by_name_and_digest(catalog: Catalog) -> None:
    """A build makes its base known; approval says who answers for it and until when."""
    catalog.record_build(build("one", base_digest=BASE, base_layers=1))
    (known,) = catalog.bases()
    assert (known.name, known.digest, known.state, known.images) == ("debian12", BASE, "known", 1)
    until = clock.now() + LATER
    catalog.approve_base("debian12", BASE, owner="platform", expires=until)
    (approved,) = catalog.bases()
    assert (approved.state, approved.owner, approved.expires_at) == ("approved", "platform", until)


def test_an_approval_ends(catalog: Catalog) -> None:
    """Past its end a base counts as expired; approving it anew replaces owner and end."""
    catalog.approve_base("debian12", BASE, owner="platform", expires=clock.now() - LATER)
    assert catalog.bases()[0].state == "expired"
    catalog.approve_base("debian12", BASE, owner="others", expires=None)
    (again,) = catalog.bases()
    assert (again.state, again.owner, again.expires_at) == ("approved", "others", None)


def test_a_retired_base_keeps_its_history(catalog: Catalog) -> None:
    """Retiring says why, keeps the owner, and is taken back by approving again."""
    catalog.approve_base("debian12", BASE, owner="platform", expires=None)
    assert catalog.retire_base("debian12", BASE, reason="OpenSSL") == (BASE,)
    (retired,) = catalog.bases()
    assert (retired.state, retired.owner, retired.reason) == ("retired", "platform", "OpenSSL")
    catalog.approve_base("debian12", BASE, owner="platform", expires=None)
    assert (catalog.bases()[0].state, catalog.bases()[0].reason) == ("approved", "")


def test_all_bases_of_a_name_are_retired_at_once(catalog: Catalog) -> None:
    """Without a digest every base of the name is retired, one time; other names stay, and none is an error."""
    for word in ("first", "second"):
        catalog.approve_base("debian12", digest(word), owner="platform", expires=None)
    catalog.approve_base("debian13", digest("third"), owner="platform", expires=None)
    assert set(catalog.retire_base("debian12", None, reason="")) == {digest("first"), digest("second")}
    assert [one.state for one in catalog.bases()] == ["retired", "retired", "approved"]
    with pytest.raises(NotFoundError, match="no base debian12 is known"):
        catalog.retire_base("debian12", None, reason="")


def test_images_that_rest_on_a_base_are_found_by_their_layers(catalog: Catalog) -> None:
    """Built or pulled, an image rests on a base when its first layers are all of the base's, in order."""
    catalog.record_build(build("one", base_digest=BASE, base_layers=1))
    catalog.record_pull(_pull("two", "base", "more"))
    catalog.record_pull(_pull("three", "more", "base"))
    uses = catalog.images_on([BASE])
    assert {(one.name, one.digest) for one in uses} == {
        ("other/model", digest("two")),
        ("team/model", digest("one")),
    }
    assert next(one.tags for one in uses if one.digest == digest("two")) == ()
    assert catalog.images_on([digest("nothing")]) == ()


@pytest.mark.parametrize("few", [0, narrowing.FEW])
@pytest.mark.parametrize("height", [1, 2])
def test_images_on_a_base_come_part_by_part(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, few: int, height: int
) -> None:
    """By name and digest, one at a time or all at once: those whose layers begin so, whether many or few do."""
    monkeypatch.setattr(narrowing, "FEW", few)
    chance, under = random.Random(height), ("a", "b")[:height]
    stacks = {f"image {number}": chance.choices("ab", k=chance.randrange(1, 4)) for number in range(12)}
    catalog.record_pull(_pull("ground", *under))
    for name, stack in stacks.items():
        pull = _pull(name, *stack)
        catalog.record_pull(
            msgspec.structs.replace(pull, repository=f"other/{chance.choice('xyz')}", tag=name.split()[1])
        )
    expected = sorted(digest(name) for name, stack in stacks.items() if tuple(stack[:height]) == under)
    found: list[BaseUse] = []
    after: tuple[str, str] | None = None
    with catalog.database.reading() as connection:
        whole = bases.images_on_part(connection, digest("ground"), after=None, rows=100)
        for _ in range(len(expected)):
            part = bases.images_on_part(connection, digest("ground"), after=after, rows=1)
            found += part.items
            after = part.next  # type: ignore[assignment]  # of this list two texts
    assert len(expected) > 1
    assert sorted(one.digest for one in found) == expected
    assert after is None
    assert found == sorted(whole.items, key=lambda one: (one.name, one.digest))
    assert tuple(found) == whole.items == catalog.images_on([digest("ground")])
    assert all(one.tags for one in found)


def test_the_base_under_an_image_is_the_longest_that_fits(catalog: Catalog) -> None:
    """Of several bases whose layers come first the one with the most counts; none is None."""
    layers = (_layer("base"), _layer("debug"), _layer("app"))
    catalog.record_build(build("one", layers=layers, base_digest=BASE, base_layers=1))
    twin = digest("the twin alone")
    catalog.record_build(
        build("two", layers=layers, base_name="twin", base_lock=digest("twin.lock"), base_digest=twin, base_layers=2)
    )
    stack = [layer.diff_id for layer in layers]
    assert catalog.base_under(stack) == ("twin", twin, 2)
    assert catalog.base_under(stack[:1]) == ("debian12", BASE, 1)
    assert catalog.base_under(stack[1:]) is None


def test_an_approved_base_is_kept_and_a_retired_one_is_not(catalog: Catalog) -> None:
    """Garbage collection leaves the manifest of an approved base in the store."""
    catalog.approve_base("debian12", BASE, owner="platform", expires=None)
    assert BASE in catalog.kept_digests().manifests
    catalog.retire_base("debian12", BASE, reason="")
    assert BASE not in catalog.kept_digests().manifests


def test_a_base_that_came_as_an_image_has_one_row(catalog: Catalog) -> None:
    """Builds on the same image of another place, and one that was rebased onto it, share its row."""
    for image in ("one", "two"):
        catalog.record_build(build(image, base_name="docker.io/x", base_lock=None, base_digest=BASE, base_layers=1))
    (known,) = catalog.bases()
    assert (known.name, known.digest, known.images) == ("docker.io/x", BASE, 2)


def test_a_catalog_from_before_bases_is_brought_along(tmp_path: Path) -> None:
    """A catalog of schema 0002 with builds on a base keeps them, and can be told of bases."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with Catalog.open(settings) as catalog:
        catalog.record_build(build("one"))
    file = tmp_path / "second.db"
    second = Database(file)
    second.prepare()
    with second.writing() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "0002")
    second.close()
    query = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    with sqlite3.connect(file) as rows:
        then = {name: (kind, sql) for kind, name, sql in rows.execute(query)}
    rows.close()
    with sqlite3.connect(settings.home.catalog) as older:
        now = {name: kind for kind, name, _ in older.execute(query)}
        older.executescript("".join(f"DROP TABLE {name};" for name in now if now[name] == "table" and name not in then))
        for column in ("committed", "ci"):
            older.execute(f"ALTER TABLE build DROP COLUMN {column}")
        older.execute("ALTER TABLE repository_artifact DROP COLUMN since")
        older.executescript(
            "".join(f"DROP INDEX IF EXISTS {name};" for name in now if now[name] == "index" and name not in then)
        )
        for name in sorted(then.keys() - now.keys(), key=lambda name: then[name][0] == "index"):
            older.execute(then[name][1])
        older.execute("UPDATE alembic_version SET version_num = '0002'")
    older.close()
    with Catalog.open(settings) as catalog:
        assert catalog.image(digest("one")).builds[0].base_name == "debian12"
        catalog.approve_base("debian12", BASE, owner="platform", expires=None)
        assert catalog.bases()[0].state == "approved"


def test_what_was_said_last_of_a_base_is_known_by_its_digest(catalog: Catalog, tmp_path: Path) -> None:
    """Under any name: a retirement counts before an approval, an approval before one that ended; glance agrees."""
    path = tmp_path / "home" / "catalog.db"

    def word(text: str = BASE) -> tuple[str, str, str] | None:
        found = catalog.base_word(digests.parse(text))
        assert found == glance.base_word(path, digests.parse(text), clock.now())
        return None if found is None else (found.state, found.owner, found.reason)

    assert word() is None
    catalog.approve_base("debian12", BASE, owner="old", expires=clock.now() - LATER)
    assert word() == ("expired", "old", "")
    catalog.approve_base("python", BASE, owner="platform", expires=clock.now() + LATER)
    assert word() == ("approved", "platform", "")
    catalog.retire_base("debian12", BASE, reason="OpenSSL")
    assert word() == ("retired", "old", "OpenSSL")


def test_later_approvals_make_a_base_old(catalog: Catalog) -> None:
    """Those of the same name that still hold are named, the latest first; retired and expired ones are not."""
    order = [digest(f"base {number}") for number in range(4)]
    with catalog.database.writing() as connection:
        for day, one in enumerate((BASE, *order)):
            at = clock.now() - LATER + dt.timedelta(days=day)
            bases.approve(connection, "debian12", one, owner="platform", expires=None, at=at)
    catalog.approve_base("other", digest("other"), owner="platform", expires=None)
    catalog.retire_base("debian12", order[1], reason="")
    catalog.approve_base("debian12", order[2], owner="platform", expires=clock.now() - LATER)
    found = catalog.base_word(BASE)
    assert found is not None
    assert found.newer == (order[3], order[0])
    last = catalog.base_word(order[3])
    assert last is not None
    assert last.newer == ()
