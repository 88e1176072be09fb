"""Text and trees of it as any database takes them."""

from typing import Any

import msgspec

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
    return value if _is_storable(value) else _made_storable(value)


def _is_storable(value: object) -> bool:
    """Whether nothing in it has to be changed; False when that is not seen at a glance."""
    try:
        data = msgspec.json.encode(value)
    except (TypeError, ValueError):  # other types, or a lone surrogate
        return False
    return is_storable(data)


def is_storable(data: bytes) -> bool:
    """Whether nothing in the tree whose JSON this is has to be changed; False when that is not seen at a glance."""
    return len(data) <= limits.CATALOG_TEXT_CHARACTERS and b"\\u0000" not in data


def _made_storable(value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): storable_tree(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        # Of many items most have nothing to be changed, which is seen sooner than made.
        return [storable_tree(item) for item in value]
    return value
