"""Step: an image that was fetched becomes one of the catalog, not cleared."""

import datetime as dt

import msgspec

from tidewaiter.catalog.records import BuiltLayer, PullRecord
from tidewaiter.core import clock
from tidewaiter.inspection.environment import masked_text
from tidewaiter.oci.image import Image
from tidewaiter.oci.reference import StoreReference
from tidewaiter.pipelines.building import VISIBILITY
from tidewaiter.pipelines.workshop import Workshop


def record(workshop: Workshop, image: Image, name: StoreReference, source: str) -> None:
    """Record the image of the store under `name`, and list it in `index.json` with what the catalog says of it."""
    tag = name.tag or "latest"
    titles = [masked_text(entry.created_by or "") for entry in image.config.history if not entry.empty_layer]
    titles += [""] * (len(image.layers) - len(titles))
    workshop.catalog.record_pull(
        PullRecord(
            repository=name.name,
            tag=tag,
            digest=image.digest,
            media_type=image.media_type,
            layers=tuple(
                BuiltLayer(digest=layer.digest, diff_id=diff_id, size=layer.size, kind="", title=title)
                for (layer, diff_id), title in zip(image.layers, titles, strict=False)
            ),
            source=source,
            created=_moment(image.config.created),
        )
    )
    found = workshop.catalog.image(f"{name.name}@{image.digest}").summary.tags
    visibility = next((one.visibility for one in found if one.name == tag), "pulled")
    entry = msgspec.structs.replace(image.descriptor, annotations={VISIBILITY: visibility})
    workshop.store.tag(f"{name.name}:{tag}", entry)


def _moment(text: str | None) -> dt.datetime | None:
    """The time that the config states, or None: it is someone's claim, and an odd one is no reason to stop."""
    try:
        return clock.parse_rfc3339(text) if text else None
    except (ValueError, OverflowError):
        return None
