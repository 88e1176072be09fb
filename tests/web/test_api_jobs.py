"""What a server does itself: what takes long, what is lost, the same image under two names, and files sent to it."""

import datetime as dt
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import msgspec
import pytest
from starlette.testclient import TestClient

import api_sample
from api_sample import Sample
from tidewaiter.catalog import jobs
from tidewaiter.catalog.audit import sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.gate import GateCatalog, Put
from tidewaiter.cli import app
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines import looking
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.web.api import routes, uploads
from tidewaiter.web.app import create

OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A home of these tests' own, which change it."""
    return api_sample.fill(tmp_path_factory.mktemp("jobs"))


@pytest.fixture
def client(home: Sample) -> Iterator[TestClient]:
    """Whom everything may, at a server in this process."""
    with home.client("admin") as made:
        yield made


def job(client: TestClient, address: str, *, state: str) -> dict[str, Any]:
    """The job, once it is in that state."""
    deadline = time.monotonic() + 60
    while (found := client.get(address).json())["state"] != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    answer: dict[str, Any] = found
    return answer


class Slow:
    """Inspection that waits until it may go on, and is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.read: list[str] = []
        inspect, layers = looking.inspect, looking.layers

        def slow(workshop: Workshop, named: NamedImage) -> ImageFacts:
            self.go.wait(60)
            return inspect(workshop, named)

        def counted(workshop: Workshop, named: NamedImage, **options: Any) -> Any:
            self.read.append(named.image.digest)
            return layers(workshop, named, **options)

        monkeypatch.setattr(looking, "inspect", slow)
        monkeypatch.setattr(looking, "layers", counted)


def test_what_takes_long_is_answered_later(home: Sample, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """202 with the place to ask at; who asks for the same meanwhile gets the same job; then it is done there."""
    monkeypatch.setattr(limits, "JOB_ANSWER_SECONDS", 0.3)
    slow = Slow(monkeypatch)
    body = {"reference": "vision/leaky:1.0.0", "environment": "research"}
    first = client.post("/api/v1/checks", json=body)
    again = client.post("/api/v1/checks", json=body)
    assert (first.status_code, first.json()["state"], first.headers["retry-after"]) == (202, "running", "5")
    assert again.json()["id"] == first.json()["id"]
    address = first.headers["location"]
    assert client.get(address).json()["state"] == "running"
    slow.go.set()
    done = job(client, address, state="done")
    assert done["answer"]["digest"] == home.leaky
    assert done["ended_at"] >= done["created_at"]


def test_work_of_a_killed_server_is_lost(home: Sample, client: TestClient) -> None:
    """Whoever does work says so again and again; when nobody has for too long, every server says that it is lost."""
    now = clock.now()
    silent = now - dt.timedelta(seconds=limits.JOB_ALIVE_SECONDS + 2)
    with Catalog.open(home.settings) as catalog, catalog.database.writing() as connection:
        killed, alive = (jobs.begin(connection, "check", f"x {at}", "anna", at) for at in (silent, now))
    assert client.get(f"/api/v1/jobs/{alive}").json()["state"] == "running"
    assert client.get(f"/api/v1/jobs/{killed}").json()["state"] == "lost"


def test_one_image_under_two_names_is_read_once(
    home: Sample, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks of the same bytes that begin together: one reads them, the others take what it found."""
    shutil.rmtree(home.settings.home.cache / "layer-facts", ignore_errors=True)
    with Catalog.open(home.settings) as catalog:
        for number in range(3):
            catalog.set_tag("vision/leaky", f"same-{number}", digests.parse(home.leaky))
    slow = Slow(monkeypatch)
    slow.go.set()

    def check(number: int) -> dict[str, Any]:
        body = {"reference": f"vision/leaky:same-{number}", "environment": "research"}
        answer: dict[str, Any] = client.post("/api/v1/checks", json=body).json()
        return answer

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(check, range(3)))
    assert [one["state"] for one in found] == ["done"] * 3, found
    assert len({one["id"] for one in found}) == 3
    assert slow.read == [home.leaky]


def test_a_check_clears_by_api(home: Sample) -> None:
    """With `clear` what is allowed is signed and cleared, by its tag; the tag is withdrawn again by API."""
    with mock.patch.dict(os.environ, {"TIDEWAITER_HOME": str(home.settings.home.path), "COSIGN_PASSWORD": ""}):
        said = ("--predicate", "vsa", "--predicate", "vuln", "--predicate", "openvex")
        assert app.run(["key", "generate", "verdict", "--builder", "server", *said]) == 0
        assert app.run(["key", "generate", "tidewaiter"]) == 0
        headers = {"Authorization": f"Bearer {home.secrets['admin']}"}
        with TestClient(create(all_settings.load()), headers=headers) as client:
            body = {"reference": "speech/clean:1.0.0", "environment": "research", "clear": True}
            answer = client.post("/api/v1/checks", json=body)
            assert answer.status_code == 201, answer.text
            assert answer.json()["answer"]["verdict"]["verdict"] == "allow"
            assert answer.json()["answer"]["cleared"] is True, answer.text
            assert client.get("/api/v1/tags?repository=speech/clean").json()["items"][0]["visibility"] == "cleared"
            bare = client.post("/api/v1/checks", json={**body, "reference": f"speech/clean@{home.clean}"})
            assert (bare.status_code, bare.json()["code"]) == (400, "bad_input")
            named = {"name": "speech/clean:1.0.0"}
            assert client.post("/api/v1/tags/withdraw", json=named).json()["cleared"] is False


def test_advisories_are_sent(home: Sample, client: TestClient) -> None:
    """An entry, exploited vulnerabilities and a damaged export: taken whole or not at all; no file stays behind."""
    entry = {**api_sample.ADVISORY, "id": "PYSEC-2026-9", "aliases": ["CVE-2026-10009"]}
    before = client.get("/api/v1/advisories").json()["revision"]
    answer = client.post("/api/v1/advisories/import", content=json.dumps(entry), headers=OCTETS)
    assert (answer.status_code, answer.json()["state"]) == (201, "done"), answer.text
    done = answer.json()["answer"]
    assert (done["imported"][0]["added"], done["matched"]["added"]) == (1, 1)
    assert done["imported"][0]["source"].startswith("its-admin (sha256:")
    assert client.get("/api/v1/advisories").json()["revision"] != before
    revision = client.get("/api/v1/advisories").json()["revision"]
    for content, status in (
        (b"PK\x03\x04 cut", 400),
        (b"", 400),
        (b"\0" * 1000, 400),
        (b"x" * (limits.UPLOAD_BYTES // 2**18), 400),
    ):
        refused = client.post("/api/v1/advisories/import", content=content, headers=OCTETS)
        assert refused.status_code == status, (content[:10], refused.text)
    assert client.post("/api/v1/advisories/import", json=entry).status_code == 415
    assert client.get("/api/v1/advisories").json()["revision"] == revision
    assert list((home.settings.home.cache / "work").glob("upload-*")) == []
    told = home.client("maintainer").post("/api/v1/advisories/import", content=b"{}", headers=OCTETS)
    assert told.status_code == 403


def test_a_file_that_is_too_long_is_refused(home: Sample, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """413 as soon as it is known, whether its length is said or not; nothing of it stays."""
    (route,) = (one for one in routes.every() if one.operation == "import_advisories")
    assert route.body_bytes == limits.UPLOAD_BYTES
    receiving = uploads.received
    monkeypatch.setattr(uploads, "received", lambda scope, receive, place, _: receiving(scope, receive, place, 1000))
    for content in (b"x" * 2000, iter([b"x" * 600] * 3)):
        answer = client.post("/api/v1/advisories/import", content=content, headers=OCTETS)
        assert (answer.status_code, answer.json()["code"]) == (413, "over_limit")
    assert list((home.settings.home.cache / "work").glob("upload-*")) == []


def test_advisories_that_cannot_be_fetched_fail_as_a_job(home: Sample) -> None:
    """The job says why in the end; a name that is none is refused at once."""
    settings = msgspec.structs.replace(home.settings, osv_mirror="http://127.0.0.1:9/")
    headers = {"Authorization": f"Bearer {home.secrets['admin']}"}
    with TestClient(create(settings), headers=headers, raise_server_exceptions=False) as client:
        assert client.post("/api/v1/advisories/update", json={"ecosystems": ["Debian:12"]}).status_code == 400
        answer = client.post("/api/v1/advisories/update", json={"ecosystems": ["PyPI"]})
        assert answer.status_code == 202
        failed = job(client, answer.headers["location"], state="failed")
        assert failed["answer"]["code"] == "network"


def test_what_is_kept_is_not_deleted(home: Sample, client: TestClient) -> None:
    """Tags of production and of the store stay, what runs stays; the rest goes, and the log says so."""
    with Catalog.open(home.settings) as catalog:
        gate = GateCatalog(catalog.database)
        for digest, tags in ((home.leaky, ("1",)), ("sha256:" + "7" * 64, ("2", "3"))):
            gate.put(
                Put(
                    repository="play/toy",
                    digest=digests.parse(digest),
                    media_type="application/vnd.oci.image.manifest.v1+json",
                    size=2,
                    artifact_type="",
                    annotations={},
                    subject=None,
                    blobs=(),
                    manifests=(),
                    members=(),
                    tags=tags,
                    pushed_by="anna",
                )
            )
    unneeded = {"repository": "play/toy", "digest": "sha256:" + "7" * 64}
    for path, body, status, code in (
        ("tags", {"name": "play/toy:2"}, 200, ""),
        ("tags", {"name": "play/toy:2"}, 404, "not_found"),
        ("tags", {"name": "vision/leaky:1.0.0"}, 403, "image_kept"),
        ("tags", {"name": "play/toy"}, 400, "bad_input"),
        ("manifests", {"repository": "play/toy", "digest": home.leaky}, 403, "image_kept"),
        ("manifests", unneeded, 204, ""),
        ("manifests", unneeded, 404, "not_found"),
    ):
        answer = client.post(f"/api/v1/{path}/delete", json=body)
        assert answer.status_code == status, (path, body, answer.text)
        assert not code or answer.json()["code"] == code
    assert sequencer.settle(home.settings) == ""
    told = client.get("/api/v1/audit/entries?action=gate.&limit=10").json()["items"]
    assert [(one["actor"], one["action"]) for one in told][:2] == [
        ("its-admin", "gate.delete"),
        ("its-admin", "gate.untag"),
    ]
    of_production = msgspec.structs.replace(home.settings, default_environment="production")
    headers = {"Authorization": f"Bearer {home.secrets['admin']}"}
    strict = TestClient(create(of_production), headers=headers, raise_server_exceptions=False)
    refused = strict.post("/api/v1/tags/delete", json={"name": "play/toy:1"})
    assert (refused.status_code, refused.json()["code"]) == (403, "image_kept")
    assert client.post("/api/v1/tags/delete", json={"name": "play/toy:1"}).status_code == 200
