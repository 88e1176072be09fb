"""`push`, `pull`, `copy`, `export`: images from one place to another."""

from typing import Annotated, Any, Literal

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.parameters import Parameter
from tidewaiter.core import settings
from tidewaiter.distribution.copy import CopyResult, parse_platform
from tidewaiter.pipelines import copying
from tidewaiter.pipelines.copying import Copied, Places

With = Literal["referrers"]


def _places() -> Places:
    return Places(settings.load(), console.progress())


def counts(result: CopyResult) -> dict[str, int]:
    """The JSON shape of what a copy moved."""
    return {
        "sent_bytes": result.sent.bytes,
        "mounted_bytes": result.mounted.bytes,
        "skipped_bytes": result.skipped.bytes,
        "sent_blobs": result.sent.blobs,
        "mounted_blobs": result.mounted.blobs,
        "skipped_blobs": result.skipped.blobs,
    }


def _document(done: Copied) -> dict[str, Any]:
    result = done.result
    return {
        "source": done.source,
        "reference": done.destination,
        "digest": result.digest,
        "media_type": result.media_type,
        "manifests": result.manifests,
        **counts(result),
        "left_blobs": result.left.blobs,
        "referrers": list(result.referrers),
    }


def _show_counts(result: CopyResult) -> None:
    emit(
        f"  {size(result.sent.bytes)} sent, {size(result.mounted.bytes)} mounted, "
        f"{size(result.skipped.bytes)} there already"
    )
    if result.left.blobs:
        emit(f"  {result.left.blobs} foreign layers stay where they are")
    if result.referrers:
        emit(f"  {len(result.referrers)} manifests that refer to it came along")


def show(verb: str, done: Copied) -> None:
    """What a person wants to know of a copy."""
    name = done.destination if "@" in done.destination else f"{done.destination}@{done.result.digest}"
    emit(f"{verb} {name}")
    if done.result.manifests > 1:
        emit(f"  {done.result.manifests} manifests")
    _show_counts(done.result)


def push(
    image: str,
    destination: str,
    /,
    *,
    along: Annotated[With | None, Parameter(name="--with")] = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Push a cleared image of the store, with its signatures and attestations, to a registry.

    An image that no verdict allows is denied. Only blobs that the registry lacks are sent.

    Args:
        image: a store name, NAME:TAG.
        destination: HOST/REPO[:TAG]; without a tag, the image's own.
        along: `referrers` sends everything along that refers to the image, not only what vouches for it.
        output: text or json.
    """
    from tidewaiter.pipelines import shipping

    with _places() as places:
        shipped = shipping.ship(places, image, destination, referrers=along is not None)
    if output == "json":
        emit_json(
            {
                "reference": shipped.reference,
                "digest": shipped.digest,
                **counts(shipped.image),
                "signature": shipped.signature,
                "attached": {
                    "signatures": shipped.along.signatures,
                    "attestations": shipped.along.attestations,
                    "referrers": shipped.along.referrers,
                },
                "shared_layers": shipped.shared_layers,
                "referrers": list(shipped.image.referrers),
            }
        )
        return 0
    emit(f"pushed {shipped.reference}@{shipped.digest}")
    _show_counts(shipped.image)
    emit(f"  signature  {shipped.signature or 'none'}")
    sent = shipped.along
    emit(f"  sent along {sent.signatures} signatures, {sent.attestations} attestations, {len(sent.referrers)} bundles")
    if shipped.shared_layers is not None:
        emit(f"  shared     {shipped.shared_layers} layers that were not shared before")
    return 0


def pull(
    image: str,
    name: str | None = None,
    /,
    *,
    platform: str | None = None,
    along: Annotated[With | None, Parameter(name="--with")] = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Put an image of a registry, a layout or an archive into the store.

    It is recorded as pulled and not cleared. A pull that was stopped goes on where it stopped.

    Args:
        image: HOST/REPO:TAG, oci:PATH[:TAG] or an archive.
        name: name in the store, NAME:TAG; by default the repository without its host, and the tag.
        platform: OS/ARCHITECTURE[/VARIANT] to take out of an index; linux/amd64 when not given.
        along: `referrers` brings signatures and everything else along that refers to the image.
        output: text or json.
    """
    from tidewaiter.oci.reference import parse_store

    wanted = parse_store(name) if name is not None else None
    chosen = parse_platform(platform) if platform else None
    with _places() as places:
        done = copying.pull(places, image, wanted, platform=chosen, referrers=along is not None)
    if output == "json":
        emit_json(_document(done))
    else:
        show("pulled", done)
    return 0


def copy(
    source: str,
    destination: str,
    /,
    *,
    platform: str | None = None,
    all_platforms: Annotated[bool, Parameter(negative="")] = False,
    along: Annotated[With | None, Parameter(name="--with")] = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Copy an image between registries, layouts, archives and the store, byte for byte.

    Of an index everything is copied; into the store and into a docker-archive goes one platform. From the store into
    a registry only cleared images are copied.

    Args:
        source: HOST/REPO:TAG, NAME:TAG of the store, oci:PATH[:TAG], oci-archive:FILE or docker-archive:FILE.
        destination: as the source.
        platform: OS/ARCHITECTURE[/VARIANT] to take out of an index.
        all_platforms: copy the whole index; an error where that is not possible.
        along: `referrers` brings signatures and everything else along that refers to the image.
        output: text or json.
    """
    chosen = _one_choice(platform, all_platforms=all_platforms)
    with _places() as places:
        done = copying.copy_image(
            places,
            source,
            destination,
            platform=parse_platform(chosen) if chosen else None,
            all_platforms=all_platforms,
            referrers=along is not None,
        )
    if output == "json":
        emit_json(_document(done))
    else:
        show("copied", done)
    return 0


def _one_choice(platform: str | None, *, all_platforms: bool) -> str | None:
    from tidewaiter.core.errors import InputError

    if platform and all_platforms:
        raise InputError(
            "--platform and --all-platforms exclude each other", next_step="Give one of them.", code="usage"
        )
    return platform


def export(
    image: str,
    file: str,
    /,
    *,
    platform: str | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Write an image into a file that `docker load`, `ctr images import`, podman and skopeo read.

    The same image gives the same bytes.

    Args:
        image: NAME:TAG of the store, HOST/REPO:TAG, oci:PATH[:TAG] or an archive.
        file: the file to write; it appears when it is complete.
        platform: OS/ARCHITECTURE[/VARIANT] to take out of an index; linux/amd64 when not given.
        output: text or json.
    """
    with _places() as places:
        done = copying.export(places, image, file, platform=parse_platform(platform) if platform else None)
    if output == "json":
        emit_json(_document(done))
    else:
        show("exported", done)
    return 0
