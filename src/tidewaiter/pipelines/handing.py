"""Step: an image that was just built, from the store's folder to a registry, as `copy` sends it.

1. Nothing goes to anything but research before a verdict allows it, and nothing that one denies. What counts is the
   strictest environment that the project says of itself, and that settings say of its name and of the destination.
2. The registry is sent what it lacks: layers, config, manifest, and at last the tag.
3. The audit log says that the image has left, as after `push`.

Neither SQLAlchemy nor what signs is loaded for an image of research: a person waits for each of these pushes.
"""

from contextlib import suppress

from tidewaiter.assembly.build import Build
from tidewaiter.catalog import glance
from tidewaiter.catalog.audit import saying
from tidewaiter.core.environments import Environment, strictest
from tidewaiter.core.errors import DeniedError, TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.distribution.copy import copy
from tidewaiter.distribution.layout_place import LayoutPlace
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.pipelines import building
from tidewaiter.pipelines.copying import Copied, Places
from tidewaiter.pipelines.workshop import Workshop


def hand_over(workshop: Workshop, made: Build, destination: RegistryReference) -> Copied:
    """Push the image `made` to `destination`; without a tag there, as the tag that the build has.

    Whatever comes of it, the build stays recorded and in the store.

    Raises:
        DeniedError: it is not for research only, and no verdict allows it there; or the one for research denies it.
        UndeterminedError: the verdict that allowed it is no longer valid.
        NetworkError: the registry could not be reached or refused.
    """
    named = RegistryReference(host=destination.host, repository=destination.repository, tag=destination.tag or made.tag)
    try:
        # 1.
        _require_allowed(workshop, made, named)
        # 2.
        building.beside(building.load_recording)  # while the registry is waited for
        with Places(workshop.settings, workshop.progress, workshop=workshop) as places:
            sent = copy(
                LayoutPlace(workshop.store),
                places.registry(named, opens=True),
                made.image,
                tags=[named.tag or made.tag],
                progress=workshop.progress,
                title=f"pushing to {named.host}/{named.repository}",
            )
    except TidewaiterError:
        workshop.progress.note(f"{made.reference} is built and in the store; it was not pushed")
        raise
    # 3.
    _log(workshop, made, named)
    return Copied(made.reference, str(named), sent)


def _environment_of(settings: Settings, made: Build, destination: RegistryReference) -> Environment:
    """The strictest environment that the project says of itself, or settings of its name or of the destination."""
    own = made.project.file.image.environment
    if not settings.environments and settings.default_environment is None:
        return own
    from tidewaiter.policy import environments  # knows versions of packages as well, which takes its time

    remote = f"{destination.host}/{destination.repository}"
    said = environments.least(environments.said_by(settings), made.name, remote)
    return own if said is None else strictest(own, said)


def _require_allowed(workshop: Workshop, made: Build, named: RegistryReference) -> None:
    least = _environment_of(workshop.settings, made, named)
    if least == "research":
        if _denied(workshop, made):
            raise DeniedError(
                f"the newest research verdict about {made.reference} is a no",
                next_step="`tidewaiter policy explain` says why. Change what it names, commit, and build again.",
            )
        return
    try:
        workshop.catalog.require_cleared(made.name, made.image.digest, made.tag, least=least)
    except DeniedError as error:
        own = made.project.file.image.environment
        stricter = "" if least == own else f' with environment = "{least}" in its tidewaiter.toml'
        raise DeniedError(
            f"{error.message}; what goes to {named.host}/{named.repository} is for {least}",
            next_step=f"Run `tidewaiter ci {made.project.directory}`{stricter}, then `tidewaiter push "
            f"{made.reference} {named}`: only research takes images that no verdict allowed.",
            code=error.code,
        ) from error


def _denied(workshop: Workshop, made: Build) -> bool:
    with suppress(glance.UnansweredError):
        if not glance.was_denied(workshop.settings.catalog, made.image.digest, "research"):
            return False
    return workshop.catalog.denied(made.image.digest, "research") is not None


def _log(workshop: Workshop, made: Build, named: RegistryReference) -> None:
    said = {"to": str(named), "name": made.name, "tag": made.tag}
    try:
        saying.say(workshop.settings.catalog, "push", made.image.digest, said, actor=workshop.settings.identity)
        workshop.wrote = True
    except glance.UnansweredError:
        workshop.catalog.log("push", made.image.digest, said)
