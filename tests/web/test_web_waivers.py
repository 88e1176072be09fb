"""The page of an image whose verdict used waivers and refused others."""

import datetime as dt
from pathlib import Path

from fastapi.testclient import TestClient
from web_sample import fill_mnist, verdict

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core import settings as all_settings
from tidewaiter.web.app import create

USED = {
    "waiver": "W-77cad2bdb45dab8a",
    "owner": "Anna",
    "reviewer": "Bert",
    "reason": "<b>No pictures</b> of strangers.\u202e",
    "expires_at": "2027-01-31T00:00:00Z",
    "violation": {
        "rule": "image.no-shell",
        "severity": "medium",
        "message": "The image contains a shell.",
        "evidence": ["/bin/sh"],
        "remedy": "Leave it out.",
    },
}
REFUSED = {"waiver": "W-0000", "subject": "CVE-2024-1", "reason": "expired", "message": "it ended at 2026-01-01"}


def test_the_page_shows_waivers_and_those_who_stand_behind_them(tmp_path: Path) -> None:
    """Rule, waiver, end, reason, owner and reviewer of what is waived; what does not count, and why. Text is text."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with Catalog.open(settings) as catalog:
        image = fill_mnist(catalog, settings, clock.now())
        now = clock.now() + dt.timedelta(seconds=1)
        catalog.record_verdict(verdict(image, "staging", "allow", now, waived=[USED], refused_waivers=[REFUSED]))
    with TestClient(create(settings)) as client:
        page = client.get(f"/images/vision/mnist@{image}").text
    for part in (
        "image.no-shell",
        "W-77cad2bdb45dab8a",
        "until 2027-01-31T00:00:00Z",
        "(Anna, reviewed by Bert)",
        "/bin/sh",
        "Waivers that do not count",
        "it ended at 2026-01-01",
    ):
        assert part in page
    assert "<b>No pictures" not in page
    assert "\u202e" not in page
    assert "Every rule passed" not in page
