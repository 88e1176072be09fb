"""`backup create` and `backup restore` as they are typed."""

from pathlib import Path

import pytest

from tidewaiter.core import settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines.backup import restoring
from workplace import run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a key."""
    made = run(tmp_path / "home", "key", "generate")
    assert made.code == 0, made.err
    return tmp_path / "home"


@pytest.mark.thorough
def test_create_and_restore_as_json(home: Path, tmp_path: Path) -> None:
    """Both print one document; the restored home verifies its log, and the old one is named."""
    made = run(home, "backup", "create", tmp_path / "b", "--with-keys", "--format", "json")
    assert (made.code, made.json["with_keys"], made.json["secrets_left_out"]) == (0, True, [])
    assert made.json["size"] == (tmp_path / "b").stat().st_size
    again = run(home, "backup", "create", tmp_path / "b", "--format", "json")
    assert (again.code, again.json["error"]["code"]) == (2, "bad_input")
    refused = run(home, "backup", "restore", tmp_path / "b", "--format", "json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "home_not_empty")
    done = run(home, "backup", "restore", tmp_path / "b", "--force", "--format", "json")
    assert (done.code, done.json["home"], done.json["audit"]) == (0, str(home), "")
    assert Path(done.json["replaced"], "keys/tidewaiter.key").exists()
    assert run(home, "audit", "verify").code == 0
    assert run(home, "audit", "list", "--action", "backup.restore", "--format", "json").json["entries"]


def test_create_and_restore_as_text(home: Path, tmp_path: Path) -> None:
    """What is not in the backup is named, and what to do next."""
    made = run(home, "backup", "create", tmp_path / "b")
    assert "without keys/audit.key, keys/tidewaiter.key: keep copies of them elsewhere" in made.out
    done = run(home, "backup", "restore", tmp_path / "b", "--into", tmp_path / "other")
    assert done.code == 0
    assert "the audit log cannot go on yet" in done.out
    assert "next: tidewaiter audit verify" in done.out


def test_settings_that_are_broken_do_not_stand_in_the_way(home: Path, tmp_path: Path) -> None:
    """A home whose settings.toml nobody can read is restored all the same."""
    assert run(home, "backup", "create", tmp_path / "b", "--with-keys").code == 0
    (home / "settings.toml").write_text("nonsense")
    assert run(home, "doctor").code == 1
    assert run(home, "backup", "restore", tmp_path / "b", "--force").code == 0
    assert not (home / "settings.toml").exists()


def test_a_wrong_home_is_not_backed_up(tmp_path: Path) -> None:
    """Where there is no catalog there is no backup, and no home is made."""
    done = run(tmp_path / "none", "backup", "create", tmp_path / "b")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])


def test_places_that_cannot_become_a_home(home: Path, tmp_path: Path) -> None:
    """A file and a mount point are refused before anything is read."""
    assert run(home, "backup", "create", tmp_path / "b").code == 0
    (tmp_path / "file").touch()
    assert run(home, "backup", "restore", tmp_path / "b", "--into", tmp_path / "file").code == 2
    done = run(home, "backup", "restore", tmp_path / "b", "--into", "/proc", "--force")
    assert done.code == 3
    assert "mount point" in done.err


def test_a_home_may_be_a_link(home: Path, tmp_path: Path) -> None:
    """What is exchanged is the folder that a link leads to; the link stays."""
    assert run(home, "backup", "create", tmp_path / "b", "--with-keys").code == 0
    (tmp_path / "link").symlink_to(home)
    chosen = settings.load({"TIDEWAITER_HOME": str(tmp_path / "link")})
    done = restoring.restore(chosen, tmp_path / "b", tmp_path / "link", force=True, progress=SILENT)
    assert (done.home, (tmp_path / "link").is_symlink()) == (str(home), True)
    assert (tmp_path / "link").samefile(home)


def test_an_empty_folder_becomes_a_home(home: Path, tmp_path: Path) -> None:
    """A folder that was made for it needs no force."""
    assert run(home, "backup", "create", tmp_path / "b").code == 0
    (tmp_path / "made").mkdir()
    done = run(home, "backup", "restore", tmp_path / "b", "--into", tmp_path / "made", "--format", "json")
    assert (done.code, done.json["replaced"]) == (0, "")


def test_a_catalog_elsewhere_is_not_restored(home: Path, tmp_path: Path) -> None:
    """With the catalog on PostgreSQL a restored home would ask one of another day; nothing is touched."""
    address = "postgresql://nobody@db.invalid/tidewaiter"
    assert run(home, "backup", "create", tmp_path / "b", "--with-keys").code == 0
    for text, extra in (
        (f'database_url = "{address}"\n', {}),
        ("nonsense", {"TIDEWAITER_DATABASE_URL": address}),
    ):
        (home / "settings.toml").write_text(text)
        refused = run(home, "backup", "restore", tmp_path / "b", "--force", "--format", "json", extra=extra)
        assert (refused.code, refused.json["error"]["code"]) == (2, "catalog_on_server")
        assert (home / "settings.toml").read_text() == text
