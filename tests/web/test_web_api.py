"""The JSON under /api/v1."""

import msgspec
import web_sample
from starlette.testclient import TestClient

from tidewaiter.catalog.answers import ImageRecord, ImageSummary, Use
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layout import Layout
from tidewaiter.web.api.route import Page

MNIST = web_sample.digest("mnist")


def test_the_list_is_the_catalog_s_own_value(client: TestClient) -> None:
    """The answer decodes into the catalog's type; the search works as on the page."""
    answer = client.get("/api/v1/images")
    assert answer.headers["content-type"] == "application/json"
    found = msgspec.json.decode(answer.content, type=Page[ImageSummary])
    assert (len(found.items), found.items[0].name, found.next) == (5, "vision/mnist", None)
    found = msgspec.json.decode(client.get("/api/v1/images?search=bert").content, type=Page[ImageSummary])
    assert [item.name for item in found.items] == ["nlp/bert-serving"]


def test_an_image_has_everything(client: TestClient) -> None:
    """One image decodes into the catalog's type with layers, packages, findings, verdicts, builds and signatures."""
    record = msgspec.json.decode(client.get(f"/api/v1/images/{MNIST}").content, type=ImageRecord)
    assert (len(record.layers), len(record.components), len(record.findings), len(record.not_checked)) == (8, 18, 4, 6)
    assert [one.environment for one in record.verdicts] == ["staging", "production"]
    assert [one.severity for one in record.findings] == ["high", "medium", "medium", "unknown"]
    assert record.builds[0].commit == web_sample.COMMIT
    assert record.signatures[0].builder == "local"


def test_an_sbom_is_served_byte_for_byte(client: TestClient, filled: Settings) -> None:
    """The document is the blob of the store, offered under a plain file name; an image without one answers 404."""
    record = msgspec.json.decode(client.get(f"/api/v1/images/{MNIST}").content, type=ImageRecord)
    for attachment in record.attachments:
        answer = client.get(f"/api/v1/images/{MNIST}/sbom/{attachment.kind}")
        assert answer.content == Layout(filled.home.store).read(digests.parse(attachment.blob_digest))
        assert answer.headers["content-disposition"].startswith('attachment; filename="vision-mnist-')
    missing = client.get(f"/api/v1/images/{web_sample.digest('hostile')}/sbom/spdx")
    assert missing.status_code == 404
    assert client.get(f"/api/v1/images/{MNIST}/sbom/exe").status_code == 422


def test_a_damaged_sbom_is_not_served(client: TestClient, filled: Settings) -> None:
    """Bytes that no longer have the recorded digest are an error, not a download."""
    record = msgspec.json.decode(client.get(f"/api/v1/images/{MNIST}").content, type=ImageRecord)
    attachment = record.attachments[0]
    path = Layout(filled.home.store).blob_path(digests.parse(attachment.blob_digest))
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"!")
    try:
        answer = client.get(f"/api/v1/images/{MNIST}/sbom/{attachment.kind}")
        assert answer.status_code == 500
        assert answer.json()["code"] == "integrity"
    finally:
        path.write_bytes(good)


def test_where_used(client: TestClient) -> None:
    """An advisory's alias gives the images that contain what it touches."""
    uses = msgspec.json.decode(client.get("/api/v1/uses?of=CVE-2024-34069").content, type=Page[Use]).items
    assert [use.name for use in uses] == ["nlp/bert-serving", "speech/whisper-finetune", "vision/mnist"]
    assert {use.purl for use in uses} == {"pkg:pypi/werkzeug@3.0.1"}


def test_errors_are_problems(client: TestClient) -> None:
    """Unknown, malformed and out of range are `problem+json` with status, detail, code and what to do next."""
    for path, status, code in (
        (f"/api/v1/images/{web_sample.digest('nosuch')}", 404, "image_unknown"),
        ("/api/v1/images/sha256:short", 422, "bad_input"),
        ("/api/v1/images?limit=-1", 422, "bad_input"),
        ("/api/v1/uses", 422, "bad_input"),
        ("/api/v1/nothing", 404, "http"),
    ):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
        assert problem["detail"]
        assert problem["next"]
