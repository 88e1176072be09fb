"""Whether the catalog changed: told as soon as it did, and not where it cannot be told."""

from contextlib import closing
from pathlib import Path

import psycopg
import pytest

import postgres
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.versions import Versions
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import StorageError
from tidewaiter.core.settings import DatabaseUrl


def test_every_commit_is_seen(tmp_path: Path) -> None:
    """What another connection commits changes the number; what it reads, or takes back, does not."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with Catalog.open(settings) as catalog:
        versions = Versions(settings.home.catalog)
        seen = versions.now()
        assert seen is not None
        catalog.waivers()
        assert versions.now() == seen
        for number in range(3):
            catalog.log("test", f"{number}", {})
            assert versions.now() != seen
            seen = versions.now()
        with pytest.raises(StorageError), catalog.database.plainly(writing=True) as connection:
            connection.executemany("INSERT INTO repository (name) VALUES (?)", [("a",), ("a",)])
        assert versions.now() == seen
        versions.close()
        assert versions.now() is None


def test_where_it_cannot_be_told(tmp_path: Path) -> None:
    """Without a file, or a server, nobody says that all is as it was; no file is made."""
    assert Versions(tmp_path / "catalog.db").now() is None
    assert not (tmp_path / "catalog.db").exists()
    assert Versions(DatabaseUrl("postgresql://nobody@127.0.0.1:1/none")).now() is None


@pytest.mark.interop
@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_every_commit_is_seen_on_a_server(tmp_path: Path) -> None:
    """Every commit of another session changes it, also of one that began before others; a lost session is made anew."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path), **postgres.variables(tmp_path)})
    with Catalog.open(settings) as catalog, closing(Versions(settings.catalog)) as versions:
        assert not versions.immediate

        def unchanged() -> bool:
            before = versions.now()
            catalog.waivers()
            return versions.now() == before is not None

        assert any(unchanged() for _ in range(20))  # the server itself writes now and then
        assert settings.database_url is not None
        place = settings.database_url.secret
        with psycopg.connect(place) as early, psycopg.connect(place) as late:
            early.execute("INSERT INTO repository (name) VALUES ('a')")
            late.execute("INSERT INTO repository (name) VALUES ('b')")
            seen = [versions.now()]
            for session in (late, early):
                session.commit()
                seen.append(versions.now())
            assert len(set(seen)) == 3
        with postgres.session() as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database() OR datname LIKE 'home_%'"
            )
        assert versions.now() is None
        assert versions.now() is not None
