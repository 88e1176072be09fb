import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from osv_feed import simple, zip_bytes, zipped

from inventories import facts, python
from servers import Serve, reply
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.matcher import Matcher
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.records import ScanRecord
from tidewaiter.cli import app
from tidewaiter.core import clock, settings

EPSS = b"#model_version:v1,score_date:2024-09-03T00:00:00Z\ncve,epss,percentile\nCVE-2024-0001,0.5,0.9\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_import_takes_a_file_or_an_address(home: Path, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """A path and a URL of the same export do the same; a password in the address is not shown."""
    path = zipped(home / "all.zip", *(simple(number) for number in range(2000)))
    assert app.run(["advisories", "import", str(path), "--format", "json"]) == 0
    (first,) = said(capsys)["imported"]
    assert (first["entries"], first["source"], first["whole"]) == (2000, "all.zip", True)
    url = serve(lambda handler: reply(handler, 200, path.read_bytes())).replace("//", "//me:secret@")
    assert app.run(["advisories", "import", f"{url}/all.zip", "--format", "json"]) == 0
    (second,) = said(capsys)["imported"]
    assert (second["changed"], second["removed"]) == (0, 0)
    assert "secret" not in second["source"]


def test_import_knows_lists_by_their_content(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """EPSS's scores are imported by the same command, and shown by status with their age."""
    (home / "scores").write_bytes(gzip.compress(EPSS))
    assert app.run(["advisories", "import", str(home / "scores"), "--format", "json"]) == 0
    assert said(capsys)["exploited"] == [
        {"kind": "EPSS", "entries": 1, "as_of": "2024-09-03T00:00:00Z", "source": "scores"}
    ]
    assert app.run(["advisories", "status", "--format", "json"]) == 0
    status = said(capsys)
    assert [item["kind"] for item in status["exploited"]] == ["EPSS"]
    assert status["exploited"][0]["age_days"] > 700
    assert "KEV" in status["missing"]
    assert "EPSS" not in status["missing"]
    assert app.run(["advisories", "status"]) == 0
    page = capsys.readouterr().out
    assert "EPSS: 1 CVEs as of 2024-09-03" in page
    assert "KEV: no data" in page


def test_update_fetches_what_is_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--ecosystem` chooses feeds and lists; one with a release is refused, one that is not there not determined."""
    files = {"/PyPI/all.zip": zip_bytes(*(simple(number) for number in range(2000))), "/epss": gzip.compress(EPSS)}
    url = serve(lambda handler: reply(handler, 200 if handler.path in files else 404, files.get(handler.path, b"")))
    monkeypatch.setenv("TIDEWAITER_OSV_MIRROR", url)
    monkeypatch.setenv("TIDEWAITER_EPSS_FEED", f"{url}/epss")
    assert app.run(["advisories", "update", "--ecosystem", "PyPI", "--ecosystem", "EPSS", "--format", "json"]) == 0
    done = said(capsys)
    assert [item["ecosystems"] for item in done["imported"]] == [["PyPI"]]
    assert [item["kind"] for item in done["exploited"]] == ["EPSS"]
    assert app.run(["advisories", "update", "--ecosystem", "Debian:12"]) == 2
    assert app.run(["advisories", "update", "--ecosystem", "npm"]) == 3


@pytest.mark.parametrize("missing", ["KEV", "npm"])
@pytest.mark.thorough
def test_what_was_fetched_is_matched_though_something_else_was_not(
    home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A list or an ecosystem that cannot be fetched is an error, and the new advisories hold for the catalog."""
    place = settings.load({"TIDEWAITER_HOME": str(home / "home")})
    image = facts("one", python("package-1", "1.0"))
    with Catalog.open(place) as catalog, Database(place.home.advisories) as database:
        catalog.record_facts(image, repository="team/model")
        scan = Matcher(database).match(image.components)
        catalog.record_scan(ScanRecord(digest=image.digest, result=scan, scanned_at=clock.now()))
        assert catalog.image(image.digest).findings == ()
    export = zip_bytes(*(simple(number) for number in range(2000)))
    url = serve(lambda handler: reply(handler, *((200, export) if handler.path == "/PyPI/all.zip" else (404, b""))))
    monkeypatch.setenv("TIDEWAITER_OSV_MIRROR", url)
    monkeypatch.setenv("TIDEWAITER_KEV_FEED", f"{url}/kev")
    assert app.run(["advisories", "update", "--ecosystem", "PyPI", "--ecosystem", missing]) == 3
    with Catalog.open(place) as catalog:
        found = [finding.advisory for finding in catalog.image(image.digest).findings]
    assert found == ["PYSEC-2024-1"]
