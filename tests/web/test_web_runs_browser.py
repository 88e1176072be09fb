"""A run in a real browser: its page goes on by itself until the run has ended."""

from pathlib import Path

import pytest
from test_web_browser import ARGUMENTS, chromium
from test_web_runs import asked, claimed, do
from test_web_server import running

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import ending
from tidewaiter.core import clock
from tidewaiter.core import settings as all_settings

pytestmark = pytest.mark.interop

__all__ = ["chromium"]


def test_a_page_goes_on_with_its_run(chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines appear as they are said, steps change, and at the end the page says so and asks no more."""
    from playwright.sync_api import expect, sync_playwright

    monkeypatch.setenv("TIDEWAITER_PIPELINE_IN_SERVER", "no")
    problems: list[str] = []
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")})
    with (
        Catalog.open(settings) as catalog,
        running(settings.home.path) as (_, address),
        sync_playwright() as playwright,
    ):
        name = asked(catalog)
        claim = claimed(catalog)
        do(catalog, claim, "fetch", "said before")
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        try:
            page = browser.new_page()
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(f"{address}pipelines/{name}")
            expect(page.locator("#log li")).to_have_count(1)
            do(catalog, claim, "analyse", "<b>said later</b>", state="running")
            expect(page.locator("#log li").nth(1)).to_contain_text("<b>said later</b>", timeout=15_000)
            expect(page.locator(".steps > li.running .step-name")).to_have_text("analyse", timeout=15_000)
            do(catalog, claim, "analyse")
            with catalog.database.writing() as connection:
                ending.end(connection, claim.row, "done", at=clock.now(), result={"verdict": "allow"})
            expect(page.locator(".big-verdict")).to_contain_text("Done", timeout=15_000)
            expect(page.locator("#log-state")).to_have_text("", timeout=15_000)
            assert page.locator("#log b").count() == 0
        finally:
            browser.close()
    assert problems == []
