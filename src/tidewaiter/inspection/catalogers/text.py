"""Text of package metadata: `Field: value` paragraphs, cleaned of what must not reach a terminal or a database."""

from collections.abc import Iterator

_FIELD_CHARACTERS = 2000


def clean(text: str, longest: int = _FIELD_CHARACTERS) -> str:
    """One line of printable text, at most `longest` characters."""
    line = text[: 4 * longest]
    if not line.isprintable():
        line = "".join(character if character.isprintable() else " " for character in line)
    return " ".join(line.split())[:longest]


def paragraphs(data: bytes, *, spaces_separate: bool) -> Iterator[list[tuple[str, str]]]:
    """Paragraphs (RFC 822 style) as lists of (field name in lower case, value); folded lines joined by newlines.

    A line of nothing but spaces ends a paragraph in Debian's files, and is part of a folded value in Python's.
    """
    fields: list[tuple[str, str]] = []
    folded: list[str] = []
    name = ""

    def finish() -> None:
        if name:
            fields.append((name, "\n".join(folded)))

    for line in data.decode("utf-8", "replace").split("\n"):
        if line in {"", "\r"} or (spaces_separate and not line.strip()):
            finish()
            if fields:
                yield fields
            fields, folded, name = [], [], ""
        elif line[0] in " \t":
            folded.append(line.strip())
        else:
            finish()
            key, colon, value = line.partition(":")
            name = key.strip().lower() if colon else ""
            folded = [value.strip()]
    finish()
    if fields:
        yield fields
