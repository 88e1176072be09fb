import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from osv_feed import simple, zip_bytes, zipped

from servers import Serve, reply
from tidewaiter.cli import app

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
