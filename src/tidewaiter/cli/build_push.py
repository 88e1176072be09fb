"""`build --push`: what its option names, what it loads while the image is made, and what is said of it.

What needs the network's libraries is imported in the functions: a build without --push has no use for them.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import Settings
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import RegistryReference

if TYPE_CHECKING:
    from tidewaiter.assembly.build import Build
    from tidewaiter.pipelines.copying import Copied
    from tidewaiter.pipelines.workshop import Workshop

_NEXT = "Write --push HOST/REPO:TAG."


def destination(text: str) -> RegistryReference:
    """The registry, repository and tag in `text`; raises `InputError` for anything else."""
    named = references.parse(text)
    if not isinstance(named, RegistryReference):
        raise InputError(f"{text[:140]} names no registry to push to", next_step=_NEXT)
    if named.digest is not None:
        raise InputError(f"{named} names a digest, which only what is built can decide", next_step=_NEXT)
    return named


def require_own_settings(settings: Settings, named: RegistryReference) -> None:
    """Raise `InputError` when a server says which environment a repository belongs to, and not these settings."""
    if settings.server:
        raise InputError(
            f"{settings.server} says what may go to {named}, and `build` does not ask it",
            next_step=f"Run `tidewaiter ci PROJECT --push {named}`, which has the server judge the image; or unset "
            "TIDEWAITER_SERVER to go by the settings of this machine.",
            code="not_through_server",
        )


def load(settings: Settings, named: RegistryReference) -> None:
    """Load what pushes an image there and tells of it."""
    with suppress(ImportError):  # said when it is needed
        _load(settings, named)


def _load(settings: Settings, named: RegistryReference) -> None:
    import tidewaiter.cli.ship
    import tidewaiter.distribution.upload
    import tidewaiter.distribution.vouching
    import tidewaiter.pipelines.handing

    if named.host.lower() not in settings.plain_http:
        import ssl  # noqa: F401
    if settings.environments or settings.default_environment:
        import tidewaiter.policy.environments  # noqa: F401


def push(workshop: "Workshop", made: "Build", named: RegistryReference) -> "Copied":
    """As `handing.hand_over`."""
    from tidewaiter.pipelines import handing

    return handing.hand_over(workshop, made, named)


def document(done: "Copied") -> dict[str, object]:
    """The JSON shape of a push."""
    from tidewaiter.cli import ship

    return {"reference": done.destination, "digest": done.result.digest, **ship.counts(done.result)}


def show(done: "Copied") -> None:
    """Tell a person of it."""
    from tidewaiter.cli import ship

    ship.show("pushed", done)
