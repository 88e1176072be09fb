"""The pages in a real browser: Debian's Chromium."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_web_server import running

from tidewaiter.core.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Request

pytestmark = pytest.mark.interop

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def chromium() -> str:
    """Path of Chromium; without it the test is skipped, and in CI it fails."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed; Debian's package `chromium` brings it")
    return found


def failed(request: "Request") -> Iterator[str]:
    """What could not be fetched; a page that is left while it still fetches gives up by itself."""
    if request.failure != "net::ERR_ABORTED":
        yield f"{request.url}: {request.failure}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_goes_from_the_list_to_an_image(filled: Settings, chromium: str, scheme: str, tmp_path: Path) -> None:
    """List, link, image page, filter: the facts are there, nothing is logged, nothing is fetched from elsewhere."""
    from playwright.sync_api import expect, sync_playwright

    problems: list[str] = []
    requests: list[str] = []
    with running(filled.home.path) as (_, address), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        try:
            page = browser.new_page(color_scheme="dark" if scheme == "dark" else "light")
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("requestfailed", lambda request: problems.extend(failed(request)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(address)
            assert page.title() == "Images · Tidewaiter"
            page.get_by_role("link", name="vision/mnist").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("vision/mnist")
            expect(page.locator(".big-verdict")).to_contain_text("Allowed")
            layers = page.get_by_role("table", name="Layers, base first")
            assert layers.get_by_role("row").count() == 9
            bars = layers.locator("svg .fill").evaluate_all(
                "bars => bars.map(bar => bar.getBoundingClientRect().width)"
            )
            assert max(bars) == bars[1] > 50 > min(bars) > 0
            page.get_by_label("Filter by name").fill("werkzeug")
            page.get_by_role("button", name="Filter").click()
            packages = page.get_by_role("table", name="Packages in the image")
            expect(packages.get_by_role("row")).to_have_count(2)
            with page.expect_download() as download:
                page.get_by_role("link", name="CycloneDX").click()
            assert download.value.suggested_filename.endswith(".cdx.json")
        finally:
            browser.close()
    assert problems == []
    assert all(url.startswith(address) for url in requests)


def test_a_phone_shows_the_list_without_scrolling_sideways(filled: Settings, chromium: str) -> None:
    """At 420 pixels no page is wider than the window, hostile names included, and the table keeps its roles."""
    from playwright.sync_api import sync_playwright

    with running(filled.home.path) as (_, address), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        try:
            page = browser.new_page(viewport={"width": 420, "height": 900})
            page.goto(address)
            names = [link.inner_text() for link in page.locator("th.name a").all()]
            assert "zz/hostile" in names
            for name in ("", *names):
                page.goto(address)
                if name:
                    page.get_by_role("link", name=name).click()
                    page.wait_for_url("**/images/**")  # and for its stylesheet
                assert page.evaluate("document.documentElement.scrollWidth") <= 420
                assert page.title() != "owned"
                assert page.get_by_role("table").first.get_by_role("row").count() > 1
        finally:
            browser.close()
