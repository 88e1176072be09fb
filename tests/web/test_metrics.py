"""What Prometheus is told, in its own format."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import web_sample
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from servers import Tool
from tidewaiter.advisories.database import Database
from tidewaiter.core import settings
from tidewaiter.web.app import create

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(client: TestClient) -> Samples:
    """Every sample, by name and labels, read by prometheus-client's own parser."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def requests(found: Samples) -> dict[tuple[str, str, str], float]:
    """How many requests, by method, route and status."""
    return {
        tuple(dict(labels)[key] for key in ("method", "route", "status")): value  # type: ignore[misc]  # three of them
        for (name, labels), value in found.items()
        if name == "tidewaiter_http_requests_total"
    }


@pytest.fixture
def watched(tmp_path: Path) -> TestClient:
    """A client of a server on an empty home."""
    return TestClient(create(settings.load({"TIDEWAITER_HOME": str(tmp_path)})))


def test_requests_are_counted_by_route(watched: TestClient) -> None:
    """A thousand addresses make no series of their own; a method that nobody knows counts as `other`."""
    with watched as client:
        for number in range(20):
            client.get(f"/api/v1/images/sha256:{number:064}")
            client.get(f"/nothing/{number}")
            client.get(f"/static/{number}")
        client.request("BREW", "/")
        found = samples(client)
    assert requests(found) == {
        ("GET", "/api/v1/images/{digest}", "404"): 20,
        ("GET", "(none)", "404"): 20,
        ("GET", "/static/{path}", "404"): 20,
        ("other", "/", "405"): 1,
    }
    labels = (("method", "GET"), ("route", "/api/v1/images/{digest}"))
    assert found["tidewaiter_http_request_seconds_count", labels] == 20
    assert found["tidewaiter_http_requests_in_progress", ()] == 1  # the one that asks


def test_the_catalog_is_counted(client: TestClient) -> None:
    """Nouns, tags, verdicts and the audit log have the numbers that the sample was filled with."""
    found = samples(client)
    assert found["tidewaiter_catalog_rows", (("noun", "images"),)] == 5
    assert found["tidewaiter_cleared_tags", (("environment", "staging"),)] == 1
    assert found["tidewaiter_verdicts", (("environment", "production"), ("verdict", "deny"))] == 2
    # Other tests serve the same home, and a server gives waiting entries their positions.
    assert found["tidewaiter_audit_pending", ()] + found["tidewaiter_audit_entries", ()] > 0
    assert found["tidewaiter_source_up", (("source", "catalog"),)] == 1


def test_the_age_of_advisories_is_told(watched: TestClient, tmp_path: Path) -> None:
    """Where there is advisory data each ecosystem has an age in seconds; looking makes no database."""
    with watched as client:
        assert not any(name == "tidewaiter_advisories_age_seconds" for name, _ in samples(client))
        assert not (tmp_path / "advisories.db").exists()
    Database(tmp_path / "advisories.db").close()
    with TestClient(create(settings.load({"TIDEWAITER_HOME": str(tmp_path)}))) as client:
        found = samples(client)
    assert found["tidewaiter_advisories_age_seconds", (("ecosystem", "PyPI"),)] > 0
    assert found["tidewaiter_advisories", (("ecosystem", "PyPI"),)] > 0


def test_what_cannot_be_read_has_no_numbers(tmp_path: Path) -> None:
    """With a damaged catalog the metrics still answer, say that it is down, and give no zero for what is unknown."""
    (tmp_path / "catalog.db").write_bytes(b"not a database" * 1000)
    with TestClient(create(settings.load({"TIDEWAITER_HOME": str(tmp_path)}))) as client:
        found = samples(client)
    assert found["tidewaiter_source_up", (("source", "catalog"),)] == 0
    assert found["tidewaiter_source_up", (("source", "disk"),)] == 1
    assert not any(name == "tidewaiter_catalog_rows" for name, _ in found)


def test_hostile_contents_make_no_label(tmp_path: Path) -> None:
    """Names of images, packages and branches that are out to harm appear in no label."""
    chosen = settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    web_sample.fill(chosen)
    with TestClient(create(chosen)) as client:
        client.get("/images/" + "<script>")
        text = client.get("/metrics").text
    values = set(re.findall(r'="([^"]*)"', text))
    assert not any("script" in value or "hostile" in value or "mnist" in value for value in values)


def test_the_guide_lists_every_metric(tmp_path: Path) -> None:
    """The table of the guide names each metric of ours that there is, and no other."""
    chosen = settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    web_sample.fill(chosen)
    Database(chosen.home.advisories).close()
    chosen.home.cache.mkdir(exist_ok=True)
    (chosen.home.cache / "measured.json").write_text('{"at":0,"bytes":1}')
    with TestClient(create(chosen)) as client:
        client.get("/")
        found = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in samples(client)}
    guide = (Path(__file__).parents[2] / "docs/guide/operate.md").read_text()
    listed = {name for row in re.findall(r"^\| (`tidewaiter_.*?) \|", guide, re.MULTILINE) for name in row.split("`")}
    assert {name for name in found if name.startswith("tidewaiter_")} == {n for n in listed if n.startswith("tidew")}


@pytest.mark.interop
def test_promtool_reads_it(client: TestClient, tool: Tool, tmp_path: Path) -> None:
    """Prometheus' own checker finds neither an error nor a habit to complain of."""
    promtool = tool("promtool")
    assert shutil.which(promtool)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=client.get("/metrics").content, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
