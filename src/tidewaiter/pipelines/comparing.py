"""Steps: an image to a tree of its files, two images to what changed between them."""

import contextlib

import msgspec

from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.inspection import difference
from tidewaiter.inspection import image as inspection
from tidewaiter.inspection.difference import Difference
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.paths import readable
from tidewaiter.inspection.stack import Stack
from tidewaiter.inspection.tree import Node, tree
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines import looking
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.workshop import Workshop


class Contents(msgspec.Struct, frozen=True):
    """A tree of an image's files. `reference` is how the user named the image, without the transport."""

    reference: str
    digest: Digest
    layers: tuple[str, ...]
    """Diff IDs, base first."""
    entries: tuple[Node, ...]
    """Each folder before what lies in it, the largest first."""


def _places(path: str) -> tuple[str, ...]:
    """`path` as layers may name it: relative to the root, readable; a path with escapes may be such a name already.

    Raises `InputError` when it leads out of the image.
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise InputError(f"{path!r} is not a path in an image", next_step="Give it from the root, without `..`.")
    place = "/".join(parts)
    return tuple(dict.fromkeys((readable(place), place))) if place.isprintable() else (readable(place),)


def tree_at(stack: Stack, path: str, depth: int) -> tuple[Node, ...]:
    """What lies at `path`, as a user wrote it, and below it; raises what `contents` does."""
    places = _places(path)
    for place in places[:-1]:
        with contextlib.suppress(NotFoundError):
            return tree(stack, place, depth)
    return tree(stack, places[-1], depth)


def contents(workshop: Workshop, named: NamedImage, path: str, depth: int) -> Contents:
    """What lies at `path` and up to `depth` levels below it; layers that were seen before are not read again.

    Raises:
        InputError: the path leads out of the image, or a layer is malformed or over the limits.
        NotFoundError: a container sees nothing there.
    """
    _places(path)  # a wrong one need not wait for layers
    stack = looking.layers(workshop, named)
    return Contents(
        reference=named.reference,
        digest=named.image.digest,
        layers=tuple(diff_id for _, diff_id in stack.items),
        entries=tree_at(stack, path, depth),
    )


def _known(workshop: Workshop, named: NamedImage) -> tuple[ImageFacts, Stack]:
    stack = looking.layers(workshop, named)
    return inspection.describe(named.image, stack, reference=named.reference), stack


def diff(workshop: Workshop, before: NamedImage, after: NamedImage) -> Difference:
    """What changed from one image to the other; layers that were seen before are not read again.

    Raises:
        InputError: a layer is malformed or over the limits.
    """
    return difference.compare(_known(workshop, before), _known(workshop, after))
