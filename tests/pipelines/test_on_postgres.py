"""Whole commands with the catalog on PostgreSQL: taken in, asked, decided, waived, proven, looked after, served."""

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import postgres
from image_builder import Tar, put_image
from tidewaiter.cli import app
from tidewaiter.core import clock
from tidewaiter.core import settings as all_settings
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

pytestmark = pytest.mark.interop
SITE = "usr/lib/python3/dist-packages"
RULE = "advisories.no-fixable-high-critical"


@pytest.fixture
def tidewaiter(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    postgres_server: postgres.Server,
) -> Iterator[Any]:
    """Runs a command in a home of its own; exit code, and what it printed: JSON, decoded, where that was asked for."""
    with postgres.in_use(postgres_server):
        monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("TIDEWAITER_DATABASE_URL", postgres.variables(tmp_path / "home")["TIDEWAITER_DATABASE_URL"])
        monkeypatch.delenv("TIDEWAITER_IDENTITY", raising=False)

        def run(*words: object) -> tuple[int, Any]:
            code = app.run([str(word) for word in words])
            printed = capsys.readouterr()
            assert "Zw" not in printed.out + printed.err  # how the password begins
            return code, json.loads(printed.out) if "json" in words else printed.out + printed.err

        yield run
        postgres.drop_homes()


@pytest.fixture
def image(tmp_path: Path, tidewaiter: Any) -> str:
    """An image of the store with a package that an advisory is about, and its layout, which was synced."""
    metadata = "Metadata-Version: 2.1\nName: leaky\nVersion: 1.4.0\n"
    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    tar.file(f"{SITE}/leaky-1.4.0.dist-info/METADATA", metadata)
    made = put_image(Layout(tmp_path / "it"), [tar.bytes()], name="1", run=RunConfig(user="1000"))
    advisory = {
        "id": "PYSEC-2026-1",
        "aliases": ["CVE-2026-10001"],
        "modified": "2026-01-01T00:00:00Z",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "leaky"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
            }
        ],
    }
    (tmp_path / "advisory.json").write_text(json.dumps(advisory))
    for words in (
        ("advisories", "import", tmp_path / "advisory.json"),
        ("catalog", "sync", f"oci:{tmp_path}/it"),
        ("pull", f"oci:{tmp_path}/it:1", "a/b:1.0.0"),
    ):
        code, said = tidewaiter(*words)
        assert code == 0, said
    return str(made.digest)


def test_an_image_is_taken_in_asked_for_waived_and_proven(image: str, tidewaiter: Any, tmp_path: Path) -> None:
    """Sync, affected, trace, check, waiver, audit: as on SQLite, and no file of SQLite appears."""
    code, found = tidewaiter("affected", "CVE-2026-10001", "--format", "json")
    assert code == 0
    assert {one["digest"] for one in found["images"]} == {image}
    code, found = tidewaiter("trace", "a/b:1.0.0", "--format", "json")
    assert code == 0
    assert image in json.dumps(found)
    check = ("check", "a/b:1.0.0", "--environment", "staging", "--format", "json")
    code, verdict = tidewaiter(*check)
    assert (code, [item["rule"] for item in verdict["violations"]]) == (1, [RULE])
    about = ("--advisory", "CVE-2026-10001", "--environment", "staging", "--reason", "The code is not reached.")
    until = ("--expires", clock.rfc3339(clock.now() + dt.timedelta(days=10)))
    code, asked = tidewaiter("waiver", "request", *about, *until, "--as", "Anna", "--format", "json")
    assert (code, asked["state"]) == (0, "requested")
    code, approved = tidewaiter("waiver", "approve", asked["id"], "--as", "Bert", "--format", "json")
    assert (code, approved["state"]) == (0, "in_force")
    code, verdict = tidewaiter(*check)
    assert (code, [one["waiver"] for one in verdict["waived"]]) == (0, [asked["id"]])
    code, said = tidewaiter("audit", "verify")
    assert code == 0, said
    code, said = tidewaiter("cache", "prune", "--dry-run")
    assert code == 0, said
    assert not list((tmp_path / "home").glob("catalog.db*"))


def test_doctor_looks_at_the_server(image: str, tidewaiter: Any) -> None:
    """It answers, may be migrated, has connections left; fsync is off, which is a warning."""
    _, found = tidewaiter("doctor", "--format", "json")
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["catalog.server"]["status"] == "ok"
    assert checks["catalog.privileges"]["status"] == "ok"
    assert checks["catalog.schema"]["status"] == "ok"
    assert checks["catalog.durability"]["status"] == "warning"
    assert checks["audit.log"]["status"] == "ok"
    assert checks["store.images"]["status"] == "ok"


def test_doctor_says_what_keeps_the_server_away(image: str, tidewaiter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password is a problem with a remedy; everything else is still looked at."""
    address = postgres.address("postgres", password="falsch")
    monkeypatch.setenv("TIDEWAITER_DATABASE_URL", address)
    code, found = tidewaiter("doctor", "--format", "json")
    assert code != 0
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["catalog.server"]["status"] == "problem"
    assert "pg_hba.conf" in checks["catalog.server"]["remedy"]
    assert "falsch" not in json.dumps(found)


def test_a_backup_is_pg_dump_s(image: str, tidewaiter: Any, tmp_path: Path) -> None:
    """A file without the catalog would be no backup: the command that makes one is named, without the password."""
    code, said = tidewaiter("backup", "create", tmp_path / "file")
    assert code == 2
    assert "pg_dump --format=custom" in said
    assert not (tmp_path / "file").exists()


def test_a_server_is_ready_and_measured(image: str, tidewaiter: Any, postgres_server: postgres.Server) -> None:
    """/readyz says yes, /metrics counts; without the database it is not ready, and says why without the password."""
    from tidewaiter.web.app import create

    with TestClient(create(all_settings.load())) as client:
        assert client.get("/readyz").status_code == 200
        assert client.get("/metrics").status_code == 200
        postgres_server.stop("immediate")
        try:
            answer = client.get("/readyz")
        finally:
            postgres_server.start()
        assert answer.status_code == 503
        assert "cannot be reached" in answer.text or "connection was lost" in answer.text
        assert client.get("/readyz").status_code == 200


def test_a_file_from_before_is_left_alone(image: str, tidewaiter: Any, tmp_path: Path) -> None:
    """A `catalog.db` that lies in the home is neither asked nor changed."""
    file = tmp_path / "home" / "catalog.db"
    sqlite3.connect(file).close()
    assert tidewaiter("catalog", "list")[0] == 0
    assert file.read_bytes() == b""
