"""What tells a supervisor that the server lives, and that it can work."""

import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tidewaiter.core import limits, settings
from tidewaiter.web.app import create


def test_a_served_home_is_ready(client: TestClient) -> None:
    """With catalog, store and disk in order both answer 200, and say so in JSON that nobody keeps."""
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert [(part["name"], part["status"]) for part in ready.json()["checks"]] == [
        ("database", "ok"),
        ("store", "ok"),
        ("disk", "ok"),
    ]
    assert ready.headers["cache-control"] == "no-store"


def test_a_damaged_catalog_is_no_reason_to_restart(tmp_path: Path) -> None:
    """The process is alive with a damaged catalog, and not ready: a problem document says why, and what to do."""
    (tmp_path / "catalog.db").write_bytes(b"not a database" * 1000)
    with TestClient(create(settings.load({"TIDEWAITER_HOME": str(tmp_path)}))) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["code"], problem["status"]) == ("not_ready", 503)
        assert "database: the catalog" in problem["detail"]
        assert "backup" in problem["next"]


def test_a_damaged_index_of_the_store_is_said(tmp_path: Path) -> None:
    """A store whose index.json cannot be read makes the server not ready."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/index.json").write_text("{")
    with TestClient(create(settings.load({"TIDEWAITER_HOME": str(tmp_path)}))) as client:
        problem = client.get("/readyz").json()
        assert [part["name"] for part in problem["checks"] if part["status"] == "problem"] == ["store"]


def test_a_disk_that_is_nearly_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less free than the bound the server is not ready; with exactly the bound it is."""
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    with TestClient(create(settings.load({"TIDEWAITER_HOME": str(tmp_path)}))) as client:
        monkeypatch.setattr(limits, "READY_FREE_BYTES", free * 2)
        problem = client.get("/readyz").json()
        assert [part["name"] for part in problem["checks"] if part["status"] == "problem"] == ["disk"]
        assert "tidewaiter cache prune" in problem["next"]
        monkeypatch.setattr(limits, "READY_FREE_BYTES", 1)
        assert client.get("/readyz").status_code == 200


def test_a_disk_that_turned_read_only_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux leaves one that had errors: there is room on it, and nothing can be recorded."""
    with TestClient(create(settings.load({"TIDEWAITER_HOME": str(tmp_path)}))) as client:
        found = list(os.statvfs(tmp_path))
        found[8] |= os.ST_RDONLY
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(found))
        problem = client.get("/readyz").json()
        assert [part["name"] for part in problem["checks"] if part["status"] == "problem"] == ["disk"]
        assert "read-only" in problem["detail"]
