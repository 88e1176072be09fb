"""Text and trees of it as any database takes them."""

from typing import Any

from tidewaiter.core import limits


def storable(text: str) -> str:
    """`text` as any database takes it: no NUL, no lone surrogates, at most `CATALOG_TEXT_CHARACTERS`."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > limits.CATALOG_TEXT_CHARACTERS:
        text = text[: limits.CATALOG_TEXT_CHARACTERS - 1] + "…"
    return text.replace("\0", "\ufffd")


def storable_tree(value: Any) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """JSON-like `value` with every text, keys included, made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): storable_tree(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable_tree(item) for item in value]
    return value
