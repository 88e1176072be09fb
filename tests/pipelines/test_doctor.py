"""What the doctor sees, says, and leaves as it was."""

import datetime as dt
import json
import os
import random
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterable
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import prune_worker
import pytest

from servers import Serve
from tidewaiter.advisories.database import Database
from tidewaiter.core import clock, limits, settings
from tidewaiter.core.progress import SILENT
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Manifest
from tidewaiter.pipelines.doctor import contents, home, machine
from tidewaiter.pipelines.doctor.check import Area, Check, Examination, Status
from tidewaiter.pipelines.workshop import opened
from tidewaiter.signing import keyring
from workplace import run


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an image, a key with a password, advisories and an audit log; tests copy it."""
    folder = tmp_path_factory.mktemp("doctor") / "home"
    with opened(settings.load({"TIDEWAITER_HOME": str(folder)}), SILENT) as shop:
        prune_worker.build(shop, [1, 2], "one")
    made = run(folder, "key", "generate", "--builder", "ci", "--days", "300", extra={"COSIGN_PASSWORD": "secret"})
    assert made.code == 0, made.err
    Database(folder / "advisories.db").close()
    return folder


@pytest.fixture
def here(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound home."""
    return shutil.copytree(sound, tmp_path / "home")


def look(area: Area, folder: Path, *, deep: bool = False, **variables: str) -> list[Check]:
    """What the checks of an area say about the home."""
    chosen = settings.load({"TIDEWAITER_HOME": str(folder), **variables})
    return list(area(Examination(settings=chosen, progress=SILENT, deep=deep)))


def status(checks: Iterable[Check], name: str) -> Status:
    """How the one check of that name ended; whatever is not well says what to do."""
    (found,) = [check for check in checks if check.name == name]
    assert bool(found.remedy) == (found.status != "ok")
    return found.status


def tree(folder: Path) -> dict[str, tuple[bytes, float]]:
    """Every file with its bytes and the time of its last change, but for what SQLite shares between readers."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


# As a command


@pytest.mark.thorough
def test_a_sound_home_has_no_problem_but_old_advisories(here: Path) -> None:
    """Every area is looked at, each finding has a remedy, nothing is changed, and the exit code is the answer."""
    before = tree(here)
    done = run(here, "doctor", "--deep", "--format", "json")
    found: dict[str, Any] = done.json
    areas = {check["name"].partition(".")[0] for check in found["checks"]}
    assert areas == {
        *("settings", "tools", "home", "disk", "clock", "catalog", "audit", "advisories", "feeds", "keys", "store"),
        "cache",
    }
    wrong = {check["name"] for check in found["checks"] if check["status"] in {"problem", "unknown"}}
    assert wrong == {"feeds.PyPI"}  # the data that ships is years old
    assert (done.code, found["status"], found["deep"], found["home"]) == (1, "problem", True, str(here))
    assert tree(here) == before


def test_it_prints_each_finding_with_its_remedy(here: Path) -> None:
    """As text every check is a line, what to do stands below it, and the last line counts."""
    (here / "settings.toml").write_text('thread = 3\n"\n')
    done = run(here, "doctor", extra={"TIDEWAITER_HOEM": "x"})
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0].startswith("problem  settings.values: ")
    assert "Mend the line named." in lines[1]
    assert any("TIDEWAITER_HOEM is no setting" in line for line in lines)
    assert lines[-1].startswith(f"{here}: ")


def test_looking_makes_no_home(tmp_path: Path) -> None:
    """A home that is not there is a warning, exits with 0, and is still not there."""
    done = run(tmp_path / "none", "doctor", "--format", "json")
    assert done.code == 0
    assert "home.folder" in {check["name"] for check in done.json["checks"]}
    assert list(tmp_path.iterdir()) == []


# Settings


@pytest.mark.parametrize("text", ["unknown = 1\n", "threads = 0\n", "not toml", 'prune = "perhaps"\n'])
def test_a_wrong_setting_is_the_first_problem(here: Path, text: str) -> None:
    """Whatever is wrong with settings.toml, it is said, and the rest is looked at with defaults."""
    (here / "settings.toml").write_text(text)
    found = run(here, "doctor", "--format", "json").json
    assert (found["checks"][0]["name"], found["checks"][0]["status"]) == ("settings.values", "problem")
    assert any(check["name"] == "store.blobs" and check["status"] == "ok" for check in found["checks"])


def test_files_that_settings_name_must_be_there(here: Path, tmp_path: Path) -> None:
    """A missing policy, key or authority is a problem that names the setting."""
    (tmp_path / "there").touch()
    found = look(home.files, here, TIDEWAITER_POLICY=f"{tmp_path}/gone", TIDEWAITER_CA_FILE=f"{tmp_path}/there")
    assert status(found, "settings.files") == "problem"
    assert "policy names" in found[0].message
    assert status(look(home.policy, here, TIDEWAITER_POLICY=f"{tmp_path}/gone"), "settings.policy") == "problem"
    assert status(look(home.policy, here), "settings.policy") == "ok"


# Tools


def test_tools_that_are_missing(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without programs, what a setting demands is a problem, all else a warning."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = look(machine.tools, here)
    assert [status(found, f"tools.{name}") for name in ("git", "runner", "bwrap", "builder")] == ["warning"] * 4
    found = look(
        machine.tools,
        here,
        TIDEWAITER_RUNNER="podman",
        TIDEWAITER_BUILDER="buildah",
        TIDEWAITER_POLICY_ENGINE="opa",
    )
    assert [status(found, f"tools.{name}") for name in ("runner", "builder", "opa")] == ["problem"] * 3


# Home


def test_who_may_read_the_home(here: Path) -> None:
    """A home that others can write is a problem, one that they can read a warning; a readable private key a problem."""
    for mode, expected in ((0o700, "ok"), (0o750, "warning"), (0o777, "problem")):
        here.chmod(mode)
        assert status(look(home.permissions, here), "home.permissions") == expected
    assert status(look(home.permissions, here), "home.private_files") == "ok"
    (here / "keys/tidewaiter.key").chmod(0o640)
    found = look(home.permissions, here)
    assert status(found, "home.private_files") == "problem"
    assert found[-1].remedy == f"chmod 600 {here}/keys/tidewaiter.key"


def test_whose_the_home_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of another user, or one file of it, is a problem."""
    assert status(look(home.permissions, here), "home.owner") == "ok"
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert status(look(home.permissions, here), "home.owner") == "problem"


def test_a_damaged_catalog(here: Path) -> None:
    """Pages that do not hang together, and a file that is no database, are problems that name the restore."""
    path = here / "catalog.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    for at in range(2, len(data) // page):
        data[at * page : at * page + 12] = b"\xff" * 12
    path.write_bytes(data)
    found = look(home.catalog, here)
    assert status(found, "catalog.integrity") == "problem"
    assert "tidewaiter backup restore" in found[0].remedy
    path.write_bytes(b"nonsense" * 1000)
    assert status(look(home.catalog, here), "catalog.integrity") == "problem"


def test_another_schema(here: Path) -> None:
    """An older schema is a warning, a newer one and a foreign database are problems."""
    for revision, expected in (("0001", "warning"), ("9999", "problem")):
        with sqlite3.connect(here / "catalog.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.close()
        assert status(look(home.catalog, here), "catalog.schema") == expected
        assert look(home.audit, here) == []
    (here / "catalog.db").unlink()
    with sqlite3.connect(here / "catalog.db") as connection:
        connection.execute("CREATE TABLE something (id)")
    connection.close()
    assert status(look(home.catalog, here), "catalog.schema") == "problem"


def test_a_catalog_without_its_log(here: Path) -> None:
    """Another journal than WAL is a warning."""
    with sqlite3.connect(here / "catalog.db") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    assert status(look(home.catalog, here), "catalog.journal") == "warning"


def test_a_missing_catalog(here: Path) -> None:
    """With images in the store it is a problem, in a new home it is not."""
    for path in here.glob("catalog.db*"):
        path.unlink()
    assert status(look(home.catalog, here), "catalog.file") == "problem"
    shutil.rmtree(here / "store")
    assert status(look(home.catalog, here), "catalog.file") == "ok"


def test_the_audit_log(here: Path) -> None:
    """A missing key or checkpoint, another key's checkpoint and an older catalog are problems."""
    assert status(look(home.audit, here), "audit.log") == "ok"
    older = (here / "catalog.db").read_bytes()
    assert not (here / "catalog.db-wal").exists() or (here / "catalog.db-wal").stat().st_size == 0
    assert run(here, "key", "generate", "second").code == 0
    for path in here.glob("catalog.db-*"):
        path.unlink()
    (here / "catalog.db").write_bytes(older)
    (found,) = look(home.audit, here)
    assert (found.status, "older copy" in found.message) == ("problem", True)
    checkpoint = here / "audit/checkpoint"
    checkpoint.write_text("nonsense")
    assert status(look(home.audit, here), "audit.log") == "problem"
    checkpoint.unlink()
    assert status(look(home.audit, here), "audit.log") == "problem"
    (here / "keys/audit.key").unlink()
    (found,) = look(home.audit, here)
    assert "is missing" in found.message


def test_the_bound_of_the_cache(here: Path) -> None:
    """A cache that was measured over its bound is a warning."""
    assert status(look(home.cache, here), "cache.bound") == "ok"
    (here / "cache/measured.json").write_text(json.dumps({"at": 0, "bytes": 900, "added": 200}))
    assert status(look(home.cache, here, TIDEWAITER_CACHE_BYTES="1000"), "cache.bound") == "warning"
    assert status(look(home.cache, here, TIDEWAITER_CACHE_BYTES="1100"), "cache.bound") == "ok"


# Disk and clock


def test_room_on_the_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less free than the server's bound is a problem, less than a build needs a warning; both bounds count."""
    found = os.statvfs(here)
    free = found.f_bavail * found.f_frsize
    monkeypatch.setattr(limits, "FREE_BYTES_TO_BUILD", 1)
    checks = look(machine.disk, here)
    assert [status(checks, f"disk.{name}") for name in ("space", "inodes", "case")] == ["ok"] * 3
    assert status(checks, "disk.durable") in {"ok", "warning"}  # a busy machine may be slow
    monkeypatch.setattr(limits, "FREE_BYTES_TO_BUILD", free * 2)
    assert status(look(machine.disk, here), "disk.space") == "warning"
    monkeypatch.setattr(limits, "READY_FREE_BYTES", free * 2)
    assert status(look(machine.disk, here), "disk.space") == "problem"


def test_a_home_that_cannot_be_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal to write is a problem with the reason."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(machine.tempfile, "TemporaryDirectory", refuse)  # type: ignore[attr-defined]  # the module's own import
    found = look(machine.disk, here)
    assert status(found, "disk.writable") == "problem"
    assert "Read-only" in found[-1].message


def test_a_clock_that_jumped_back(here: Path) -> None:
    """What was written later than now says that the clock is behind; within the bound it says nothing."""
    soon = time.time() + limits.CLOCK_SKEW_SECONDS / 2
    os.utime(here / "catalog.db", (soon, soon))
    assert status(look(machine.time_of_day, here), "clock.past") == "ok"
    later = time.time() + limits.CLOCK_SKEW_SECONDS + 60
    os.utime(here / "audit/checkpoint", (later, later))
    found = look(machine.time_of_day, here)
    assert status(found, "clock.past") == "problem"
    assert "audit/checkpoint" in found[0].message


def test_an_entry_of_the_log_from_the_future(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit log remembers what time it was, also where files were copied."""
    past = clock.now() - dt.timedelta(days=2)
    for path in here.rglob("*"):
        os.utime(path, (past.timestamp(), past.timestamp()))
    monkeypatch.setattr(clock, "now", lambda: past)
    found = look(machine.time_of_day, here)
    assert status(found, "clock.past") == "problem"
    assert "of the audit log" in found[0].message


@pytest.mark.parametrize(("hours", "expected"), [(0, "ok"), (1, "problem"), (-1, "problem"), (None, "unknown")])
def test_the_clock_of_the_registry(here: Path, serve: Serve, hours: int | None, expected: str) -> None:
    """The registry's time is compared with ours; one that does not say it leaves the question open."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response_only(200)
        if hours is not None:
            moment = clock.now() + dt.timedelta(hours=hours)
            request.send_header("Date", format_datetime(moment, usegmt=True))
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"{}")

    host = serve(answer).removeprefix("http://")
    found = look(machine.time_of_day, here, TIDEWAITER_SHARED_LAYERS=f"{host}/layers", TIDEWAITER_PLAIN_HTTP=host)
    assert status(found, "clock.registry") == expected


def test_a_registry_that_is_away(here: Path) -> None:
    """Who cannot be asked is unknown, neither well nor a problem."""
    host = "127.0.0.1:1"
    found = look(machine.time_of_day, here, TIDEWAITER_SHARED_LAYERS=f"{host}/layers", TIDEWAITER_PLAIN_HTTP=host)
    assert status(found, "clock.registry") == "unknown"


# Contents


def test_the_age_of_advisories(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data up to half of the bound of the rules is well, up to the bound a warning, over it a problem."""
    with Database(here / "advisories.db") as database:
        newest = clock.parse_rfc3339(database.coverage()["PyPI"].as_of)
    for days, expected in ((0, "ok"), (3, "ok"), (4, "warning"), (7, "warning"), (8, "problem"), (-2, "warning")):
        monkeypatch.setattr(clock, "now", lambda days=days: newest + dt.timedelta(days=days))
        found = look(contents.feeds, here)
        assert status(found, "feeds.PyPI") == expected, days
        assert status(found, "feeds.missing") == "warning"
        assert status(found, "feeds.exploited") == "warning"
    (here / "advisories.db").unlink()
    assert status(look(contents.feeds, here), "feeds.age") == "warning"
    assert not (here / "advisories.db").exists()


def test_damaged_advisories(here: Path) -> None:
    """A database of advisories whose rows were changed is a problem."""
    assert status(look(home.advisories, here), "advisories.integrity") == "ok"
    with sqlite3.connect(here / "advisories.db") as connection:
        connection.execute("UPDATE feed SET as_of = '2030-01-01T00:00:00Z'")
    connection.close()
    assert status(look(home.advisories, here), "advisories.integrity") == "problem"


def test_the_term_of_keys(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that ends within thirty days is a warning, one that ended a problem."""
    until = keyring.named(keyring.read(here / "keys"), "tidewaiter").marks.valid_until
    assert until is not None
    for days, expected in ((31, "ok"), (29, "warning"), (0, "problem")):
        monkeypatch.setattr(clock, "now", lambda days=days: until - dt.timedelta(days=days))
        assert status(look(contents.trust, here), "keys.tidewaiter") == expected


def test_passwords_and_builders_of_keys(here: Path, tmp_path: Path) -> None:
    """A key without a password is a warning; so are a home without keys, and one whose keys are all `local`."""
    found = look(contents.trust, here)
    assert status(found, "keys.tidewaiter.password") == "ok"
    assert run(tmp_path / "other", "key", "generate").code == 0
    found = look(contents.trust, tmp_path / "other")
    assert status(found, "keys.tidewaiter.password") == "warning"
    assert status(found, "keys.builder") == "warning"
    shutil.rmtree(here / "keys")
    assert status(look(contents.trust, here), "keys.folder") == "warning"


def test_a_folder_of_keys_that_cannot_be_read(here: Path) -> None:
    """A public key without marks, and a private one that is none, are problems."""
    sealed = here / "keys/tidewaiter.key"
    sealed.chmod(stat.S_IWUSR | stat.S_IRUSR)
    sealed.write_text("nonsense")
    assert status(look(contents.trust, here), "keys.tidewaiter.password") == "problem"
    (here / "keys/tidewaiter.json").unlink()
    assert status(look(contents.trust, here), "keys.folder") == "problem"


def test_keys_of_other_builders(here: Path, tmp_path: Path) -> None:
    """A trusted key that is there and in force is well, a file that is none a problem."""
    public = here / "keys/tidewaiter.pub"
    found = look(contents.trust, here, TIDEWAITER_TRUSTED_BUILDERS=str(public))
    assert status(found, "keys.trusted_builders") == "ok"
    (tmp_path / "x.pub").write_text("nonsense")
    found = look(contents.trust, here, TIDEWAITER_TRUSTED_BUILDERS=str(tmp_path / "x.pub"))
    assert status(found, "keys.trusted_builders") == "problem"


def test_damaged_and_missing_blobs(here: Path) -> None:
    """With `deep` each changed blob is named; an image whose manifest is gone is, too; so is a broken index."""
    store = Layout(here / "store")
    blobs = list(store.blobs())
    found = look(contents.store, here, deep=True)
    assert (status(found, "store.blobs"), status(found, "store.images")) == ("ok", "ok")
    wrong = random.Random(1).choice(blobs)
    path = store.blob_path(wrong)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (finding,) = [check for check in look(contents.store, here, deep=True) if check.status == "problem"]
    assert wrong in finding.message
    assert status(look(contents.store, here), "store.blobs") == "problem"  # few enough to be the sample
    path.write_bytes(good)
    (here / "store/index.json").write_text("{")
    assert status(look(contents.store, here), "store.index") == "problem"


def test_an_image_that_is_lost(here: Path) -> None:
    """A layer or a manifest that the catalog wants and the store does not have is a problem that names it."""
    with opened(settings.load({"TIDEWAITER_HOME": str(here)}), SILENT) as shop:
        (manifest,) = shop.catalog.kept_digests().manifests
    store = Layout(here / "store")
    document = documents.decode_manifest(store.read(manifest))
    assert isinstance(document, Manifest)
    for lost in (document.layers[0].digest, manifest):
        store.blob_path(lost).unlink()
        found = look(contents.store, here)
        assert status(found, "store.images") == "problem"
        assert any(lost in check.message for check in found)
