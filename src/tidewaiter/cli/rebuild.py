"""`rebuild`: an image, built again from its provenance alone, and compared."""

from pathlib import Path
from typing import Annotated

from tidewaiter.cli.console import Format, emit, emit_json, tell
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.pipelines import rebuilding
from tidewaiter.pipelines.rebuilding import Rebuilt


def rebuild(
    image: str,
    /,
    *,
    provenance: Path | None = None,
    key: tuple[Path, ...] = (),
    insecure: Annotated[bool, Parameter(negative="")] = False,
    source: str = "",
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Build an image again from what its provenance says, and compare the digests.

    The build happens in an empty home, which is removed afterwards: nothing that was made before is used. Exits with 1
    when the digest is another, with 3 when it cannot be built again.

    Args:
        image: a store name (NAME:TAG, NAME@DIGEST), HOST/REPO:TAG, or a digest that the catalog knows.
        provenance: file with the provenance, in the place of what is attached to the image.
        key: public key file that is trusted to have signed it, in the place of the keys of this home. Repeatable.
        insecure: build also from a provenance in a file that nobody vouches for.
        source: folder of a clone, or address, in the place of the repository that the provenance names.
        output: text or json.
    """
    with workshop() as shop:
        found = rebuilding.rebuild(shop, image, file=provenance, keys=key, insecure=insecure, source=source)
    if output == "json":
        emit_json(found)
    else:
        _show(found)
    return 0 if found.same else 1


def _show(found: Rebuilt) -> None:
    emit(f"image     {found.image}")
    emit(f"rebuilt   {found.rebuilt}")
    emit(f"source    {found.source}@{found.commit}")
    emit(f"builder   {found.builder}, signed by {found.vouched or 'nobody'}")
    emit(f"version   {found.version or 'unknown'}, here {found.version_here}")
    for line in (*found.layers, *found.inputs, *found.differences):
        emit(f"  {line}")
    if not found.vouched:
        tell("warning: nobody vouches for this provenance")
    if found.same:
        emit("the same: the provenance tells how this image was made")
    elif found.rebuilt == found.image:
        emit("not the same: the digest is equal, but the provenance names other inputs than the build has")
    else:
        why = ": commands of a Dockerfile may do something else each time" if found.dockerfile else ""
        emit(f"not the same{why}")
