"""Markdown as the tests of the documentation read it."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Every Markdown file that a reader meets: at the root, in docs/ and in benchmarks/."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    return sorted(found)


def name(path: Path) -> str:
    """The page's path below the repository, for a test's title."""
    return path.relative_to(ROOT).as_posix()


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    return [(match[1], match[2]) for match in FENCE.finditer(text)]


def prose(text: str) -> str:
    """The text without fenced blocks and inline code, in which nothing is a link or a heading."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def headings(text: str) -> list[tuple[int, str]]:
    """Level and title of every heading; titles keep their inline code."""
    found = re.finditer(r"^(#{1,6}) +(.+?)\s*$", FENCE.sub("", text), re.MULTILINE)
    return [(len(match[1]), match[2]) for match in found]


def links(text: str) -> Iterator[str]:
    """Targets of links and images, in order."""
    for match in re.finditer(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", prose(text)):
        yield match[1]


def images(text: str) -> list[str]:
    """Targets of images, in order."""
    return re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", prose(text))


def anchor(title: str) -> str:
    """The fragment under which a heading is found, as code hosts make it."""
    kept = re.sub(r"[^\w\- ]", "", title.replace("`", "").strip().lower())
    return kept.replace(" ", "-")


def section(text: str, title: str) -> str:
    """What stands under the heading `title`, up to the next heading of its level or above."""
    found = [
        (match.start(), match.end(), len(match[1]), match[2])
        for match in re.finditer(r"^(#{1,6}) +(.+?)\s*$", text, re.MULTILINE)
    ]
    for index, (_, end, level, this) in enumerate(found):
        if this == title:
            stop = next((start for start, _, other, _ in found[index + 1 :] if other <= level), len(text))
            return text[end:stop]
    raise AssertionError(f"there is no heading {title!r}")


def table(text: str) -> list[list[str]]:
    """Rows of the first table in `text`, without header and rule; cells without their backticks."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]
