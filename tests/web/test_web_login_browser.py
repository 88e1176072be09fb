"""Logging in with a real browser: Debian's Chromium, by keyboard and without scripts."""

import re
from pathlib import Path

import pytest
from test_web_browser import ARGUMENTS, chromium, failed
from test_web_server import running

from tidewaiter.access import users
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings

__all__ = ["chromium"]  # the fixture
pytestmark = pytest.mark.interop


def test_the_first_login(chromium: str, tmp_path: Path) -> None:
    """One-time password, a password of one's own, a token and its end, the logout: no script, no error."""
    from playwright.sync_api import expect, sync_playwright

    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        issued = users.first_admin(catalog)
    assert issued is not None
    problems: list[str] = []
    with running(tmp_path) as (_, address), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        try:
            page = browser.new_context(java_script_enabled=False).new_page()
            page.on("console", lambda message: problems.append(message.text))
            page.on("requestfailed", lambda request: problems.extend(failed(request)))
            page.goto(address)
            page.get_by_role("link", name="Log in").click()
            expect(page.get_by_label("User")).to_be_focused()  # nobody has to look for it
            page.keyboard.type("admin")
            page.keyboard.press("Tab")
            page.keyboard.type(issued.password)
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_have_text("Choose a password")
            page.get_by_label("One-time password").fill(issued.password)
            page.get_by_label("New password", exact=True).fill("a sentence that is long")
            page.get_by_label("New password, again").fill("a sentence that is long")
            page.get_by_role("button", name="Save").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("admin")
            expect(page.get_by_role("table", name="Roles")).to_contain_text("everywhere")
            page.get_by_label("Name").fill("laptop")
            page.get_by_label("catalog.read").check()
            page.get_by_role("button", name="Make the token").click()
            expect(page.locator(".secret")).to_have_text(re.compile(r"^tdw_[\w-]{51}$"))
            page.get_by_role("button", name="Revoke admin/laptop").click()
            expect(page.get_by_role("row", name="admin/laptop")).to_contain_text("revoked")
            page.get_by_role("button", name="Log out").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
            page.goto(f"{address}account")
            expect(page).to_have_url(f"{address}login?next=%2Faccount")
            page.get_by_label("User").fill("admin")
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("alert")).to_contain_text("name or password is wrong")
        finally:
            browser.close()
    assert [text for text in problems if "403" not in text] == []
