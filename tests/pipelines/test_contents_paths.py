"""`contents`: which paths of an image a user may write."""

from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.inspection import image as inspection
from tidewaiter.inspection.stack import Stack
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines import comparing


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    tar = Tar().file("a/odd\x1bname", b"1").file("a/back\\slash", b"22")
    return inspection.read(put_image(Layout(tmp_path), [tar.bytes()]))


@pytest.mark.parametrize("path", ["/a/odd\x1bname", "a/odd\\x1bname"])
def test_a_name_is_found_as_it_is_and_as_it_was_shown(stack: Stack, path: str) -> None:
    """What `contents` prints of a name with control characters can be given to it again."""
    assert [node.size for node in comparing.tree_at(stack, path, 1)] == [1]


@pytest.mark.parametrize("path", ["a/back\\slash", "a/back\\\\slash"])
def test_a_backslash_is_found_both_ways(stack: Stack, path: str) -> None:
    """A name with a backslash, which is shown doubled, is found by either."""
    assert [node.size for node in comparing.tree_at(stack, path, 1)] == [2]


def test_other_paths_are_refused(stack: Stack) -> None:
    """Nothing lies outside of the image, nor at a name that it does not have."""
    with pytest.raises(InputError, match="not a path in an image"):
        comparing.tree_at(stack, "../a", 1)
    with pytest.raises(NotFoundError, match="nothing at /a/none"):
        comparing.tree_at(stack, "a/none", 1)
