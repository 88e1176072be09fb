"""Images that were fetched from elsewhere: what their tags say, and catalogs written before there were any."""

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from catalog_sample import build, digest, home
from sqlalchemy import text

from tidewaiter.catalog import glance, migrate
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.records import BuiltLayer, PullRecord


def pulled(name: str = "team/other", tag: str = "1.0") -> PullRecord:
    return PullRecord(
        repository=name,
        tag=tag,
        digest=digest("other"),
        media_type="application/vnd.docker.distribution.manifest.v2+json",
        layers=(BuiltLayer(digest=digest("l"), diff_id=digest("d"), size=7, kind="", title="COPY a b"),),
        source="registry.example.com/team/other:1.0",
    )


def test_a_pulled_image_says_so_and_a_build_of_it_says_otherwise(tmp_path: Path) -> None:
    """A tag without a build behind it is `pulled`; the same record twice changes nothing."""
    with Catalog.open(home(tmp_path)) as catalog:
        catalog.record_pull(pulled())
        catalog.record_pull(pulled())
        record = catalog.image("team/other:1.0")
        assert [(tag.name, tag.visibility) for tag in record.summary.tags] == [("1.0", "pulled")]
        assert (record.summary.size, [layer.title for layer in record.layers]) == (7, ["COPY a b"])
        with catalog.database.reading() as connection:
            history = connection.execute(text("SELECT count(*) FROM tag_history")).scalar()
        assert history == 1
        made = build("mine")
        catalog.record_build(made)
        catalog.set_tag(made.repository, "t", made.digest)
        visible = {tag.name: tag.visibility for tag in catalog.image(f"{made.repository}:t").summary.tags}
        assert visible == {"t": "built"}


def test_a_catalog_of_the_first_release_is_brought_along(tmp_path: Path) -> None:
    """Tags and their history keep what they said, and images can be pulled afterwards."""
    settings = home(tmp_path)
    database = Database(settings.home.catalog)
    database.prepare()
    with database.writing() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "0001")
    database.close()
    with sqlite3.connect(settings.home.catalog) as old:
        old.execute("INSERT INTO repository (id, name) VALUES (1, 'team/old')")
        old.execute(
            "INSERT INTO artifact (id, digest, media_type, size, recorded_at) "
            "VALUES (1, ?, 'm', 1, '2026-01-01 00:00:00')",
            (digest("old"),),
        )
        old.execute("INSERT INTO repository_artifact VALUES (1, 1, '2026-01-01 00:00:00')")
        for table, columns in (("tag", ""), ("tag_history", "id, ")):
            first = "1, " if columns else ""
            old.execute(
                f"INSERT INTO {table} ({columns}repository_id, name, artifact_id, visibility, set_at) "
                f"VALUES ({first}1, 'v1', 1, 'built', '2026-01-01 00:00:00')"
            )
    old.close()
    with Catalog.open(settings) as catalog:
        with catalog.database.reading() as connection:
            assert migrate.revision(connection) == glance.REVISION
            assert connection.execute(text("SELECT count(*) FROM tag_history")).scalar() == 1
        assert [tag.visibility for tag in catalog.image("team/old:v1").summary.tags] == ["built"]
        catalog.record_pull(pulled())
        assert catalog.resolve_tag("team/other", "1.0") == digest("other")
