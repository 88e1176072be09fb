"""Images whose bytes are asked for."""

from tidewaiter.access.roles import Permission, project_of
from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines import images
from tidewaiter.pipelines.images import NamedImage, StoredReference
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.web.api.route import Ask


def image(ask: Ask, shop: Workshop, digest: str) -> NamedImage:
    """The image in the store, whose bytes may be read in one of the projects where it lies.

    Raises:
        RefusedError: they may not.
        NotFoundError: it is not known, or not in the store.
    """
    places = ask.source.catalog.whereabouts(digest).places
    names = [place.name for place in places] or [ask.source.catalog.image(digest).summary.name]
    allowed = [name for name in names if ask.identity.may(Permission.IMAGE_PULL, project_of(name))]
    if not allowed:
        ask.require(names[0])
    wanted = digests.parse(digest)
    if not shop.store.has(wanted):
        raise NotFoundError(
            f"the bytes of the image {digest} are not in the store of this server",
            next_step="Ask for an image that was built, pulled or pushed here.",
            code="image_not_stored",
        )
    return images.open_stored(shop, StoredReference(name=allowed[0], tag="", digest=wanted))
