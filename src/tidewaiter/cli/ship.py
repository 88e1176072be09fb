"""`push`: a cleared image to a registry."""

from typing import Annotated

from cyclopts import Parameter

from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.workshop import workshop
from tidewaiter.distribution.push import PushResult
from tidewaiter.pipelines import shipping


def _counts(result: PushResult) -> dict[str, int]:
    return {
        "sent_bytes": result.sent_bytes,
        "mounted_bytes": result.mounted_bytes,
        "skipped_bytes": result.skipped_bytes,
    }


def push(image: str, destination: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Push a cleared image of the store, and its signature, to a registry.

    An image that no verdict allows is denied. Only blobs that the registry lacks are sent.

    Args:
        image: a store name, NAME:TAG.
        destination: HOST/REPO[:TAG]; without a tag, the image's own.
        output: text or json.
    """
    with workshop() as shop:
        shipped = shipping.ship(shop, image, destination)
    if output == "json":
        emit_json(
            {
                "reference": shipped.reference,
                "digest": shipped.digest,
                **_counts(shipped.image),
                "signature": shipped.signature.digest if shipped.signature else None,
            }
        )
        return 0
    emit(f"pushed {shipped.reference}@{shipped.digest}")
    result = shipped.image
    emit(
        f"  {size(result.sent_bytes)} sent, {size(result.mounted_bytes)} mounted, "
        f"{size(result.skipped_bytes)} there already"
    )
    emit(f"  signature  {shipped.signature.digest if shipped.signature else 'none'}")
    return 0
