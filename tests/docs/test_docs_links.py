"""Links, images and what must not stand in the documentation."""

import re
from pathlib import Path
from urllib.parse import unquote

import documents
import pytest

import tidewaiter

PAGES = documents.pages()


@pytest.mark.parametrize("page", PAGES, ids=documents.name)
def test_relative_links_and_images_resolve(page: Path) -> None:
    """Every relative link names a file of the repository, and every fragment a heading of its page."""
    broken = []
    for link in documents.links(page.read_text()):
        target, _, fragment = unquote(link).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or not path.is_relative_to(documents.ROOT):
            broken.append(f"{link}: there is no such file")
        elif fragment and path.suffix == ".md":
            known = {documents.anchor(title) for _, title in documents.headings(path.read_text())}
            if fragment not in known:
                broken.append(f"{link}: there is no such heading")
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=documents.name)
def test_no_path_of_a_machine(page: Path) -> None:
    """Pages name no folder of the machine that they were written on."""
    assert not re.findall(r"(?<![\w.])/(?:work|root|home/(?!nonroot))\b[^\s`]*", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=documents.name)
def test_page_starts_with_one_title(page: Path) -> None:
    """A page has exactly one heading of the first level, and it comes first."""
    found = documents.headings(page.read_text())
    assert found
    assert found[0][0] == 1
    assert [level for level, _ in found].count(1) == 1


def test_changelog_has_this_release() -> None:
    """The changelog has a dated section for the version of the program."""
    titles = [title for _, title in documents.headings((documents.ROOT / "CHANGELOG.md").read_text())]
    version = tidewaiter.__version__.partition("+")[0]
    assert any(re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", title) for title in titles)


def test_map_names_every_page() -> None:
    """docs/index.md leads to every page below docs/, to those of lint's rules through their own list."""
    index = documents.ROOT / "docs" / "index.md"
    maps = (index, index.parent / "rules" / "index.md")
    linked = {
        (map_.parent / link.partition("#")[0]).resolve() for map_ in maps for link in documents.links(map_.read_text())
    }
    pages = {path for path in PAGES if path.is_relative_to(index.parent)} - {index}
    assert not sorted(documents.name(path) for path in pages - linked)
