"""Predicate types by name and by URI."""

import pytest

from tidewaiter.core.errors import InputError
from tidewaiter.signing import predicates


@pytest.mark.parametrize(("name", "uri"), predicates.NAMES.items())
def test_a_name_means_its_uri(name: str, uri: str) -> None:
    """Every name gives its URI, the URI itself, and a name for people that means the same."""
    assert predicates.named(name) == predicates.named(uri) == uri
    assert predicates.named(predicates.short(uri)) == uri


def test_other_types_are_their_own_names() -> None:
    """A type that has no name stays as it is."""
    uri = "https://example.org/own/v1"
    assert predicates.named(uri) == predicates.short(uri) == uri


@pytest.mark.parametrize(
    "text", ["", "SPDX", "spdx ", "example.org/v1", "://x", "https://", "https://a b", "https://a\n"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    """A typing error in a name does not become a type of its own."""
    with pytest.raises(InputError, match="predicate type"):
        predicates.named(text)
