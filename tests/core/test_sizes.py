"""Sizes as people write them."""

import pytest

from tidewaiter.core import sizes
from tidewaiter.core.errors import InputError


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("512", 512), ("20GB", 20 * 10**9), ("1.5GiB", 3 << 29), ("10 mb", 10**7), ("7B", 7), ("2K", 2000)],
)
def test_sizes(text: str, count: int) -> None:
    """Plain bytes, powers of ten, powers of two."""
    assert sizes.parse(text, what="--keep") == count


@pytest.mark.parametrize("text", ["", "-1", "GB", "1XB", "1iB", "1e9", "12 apples", "9" * 30, "1.5.2GB"])
def test_what_is_no_size(text: str) -> None:
    """Anything else is an error that names the option."""
    with pytest.raises(InputError, match="--keep"):
        sizes.parse(text, what="--keep")
