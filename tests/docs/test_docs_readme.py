"""Both READMEs say the same."""

import re

import documents

ENGLISH = (documents.ROOT / "README.md").read_text()
CHINESE = (documents.ROOT / "README.zh-CN.md").read_text()


def test_same_headings() -> None:
    """Both READMEs have the same number of headings, on the same levels, in the same order."""
    levels = [level for level, _ in documents.headings(ENGLISH)]
    assert [level for level, _ in documents.headings(CHINESE)] == levels


def test_same_code_blocks() -> None:
    """Commands and outputs are the same in both languages."""
    assert documents.code_blocks(CHINESE) == documents.code_blocks(ENGLISH)


def test_same_images_and_links() -> None:
    """Both READMEs show the same pictures and lead to the same pages, apart from each other."""
    assert documents.images(CHINESE) == documents.images(ENGLISH)

    def others(text: str) -> set[str]:
        return {link for link in documents.links(text) if not link.startswith("README")}

    assert others(CHINESE) == others(ENGLISH)
    assert "README.zh-CN.md" in documents.links(ENGLISH)
    assert "README.md" in documents.links(CHINESE)


def test_same_lists_and_tables() -> None:
    """Neither README has a list item or a table row more than the other."""

    def shape(text: str) -> list[str]:
        lines = documents.FENCE.sub("", text).splitlines()
        return [match[0] for line in lines if (match := re.match(r"- |\d+\. |\|", line))]

    assert shape(CHINESE) == shape(ENGLISH)
