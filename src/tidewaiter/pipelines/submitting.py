"""The way of a project whose verdict a server gives: build, say what it is made of, push. Nothing is decided here.

1. The builder's key may sign what is said of the image.
2. The image is built and inspected; the catalog of this home learns it, and clears nothing.
3. Signature, provenance and bills of materials are signed with the builder's key, and only with that: verdicts are the
   server's.
4. The image is pushed with them, not cleared: where it is pushed to, nobody may take it before the server said yes.
"""

import msgspec

from tidewaiter.assembly import options
from tidewaiter.assembly.build import Build
from tidewaiter.assembly.options import Options
from tidewaiter.catalog.records import BuildRecord
from tidewaiter.core.project import Project
from tidewaiter.distribution.copy import copy
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines import building, images, looking, trusting
from tidewaiter.pipelines.attachments import attaching, attesting, sending, stating
from tidewaiter.pipelines.copying import Places
from tidewaiter.pipelines.images import StoredReference
from tidewaiter.pipelines.trusting import Signers


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """What was built and pushed."""

    build: Build
    record: BuildRecord
    """How it was built, for the server's catalog."""
    place: RegistryReference
    """With the tag that it got."""
    attested: tuple[str, ...]
    """Predicate types of what is attached to it."""

    @property
    def pinned(self) -> str:
        """`HOST/REPO@DIGEST`."""
        return f"{self.place.host}/{self.place.repository}@{self.build.image.digest}"


def submit(
    places: Places,
    project: Project,
    signers: Signers,
    destination: RegistryReference,
    wanted: Options = options.DEFAULT,
) -> Submitted:
    """Build `project` and push it to `destination`, under its own tag unless that has one.

    Raises:
        InputError: the project or a lock is wrong.
        RefusedError: the key may not sign this; or the registry refuses.
        NetworkError: the registry could not be reached.
    """
    workshop, section = places.workshop, project.file.image
    note = workshop.progress.note
    # 1.
    builder = Signers(signers.builder, None)
    attesting.require(builder, section.name, section.environment)
    # 2.
    note("1/4 build")
    name, run = builder.builder.trusted.builder, workshop.settings.pipeline_run
    made = building.build(workshop, project, wanted, builder=name)
    note("2/4 inspect")
    stored = StoredReference(name=made.name, tag=made.tag, digest=made.image.digest)
    facts = looking.inspect(workshop, images.open_stored(workshop, stored))
    workshop.catalog.record_facts(facts, repository=made.name)
    documents = looking.attach_sboms(workshop, facts)
    # 3.
    note("3/4 sign")
    there = attaching.gather_stored(workshop, made.image.digest)
    said = [*stating.contents(made.name, facts.digest, documents), stating.built(made, builder=name, pipeline_run=run)]
    signed = trusting.signatures(
        made.name, facts.digest, builder.builder, there=there, wanted=trusting.formats(workshop)
    )
    attesting.attest(workshop, made.image, [(one, builder.builder) for one in said], signed=signed, there=there)
    # 4.
    note("4/4 push")
    target = msgspec.structs.replace(destination, tag=destination.tag or made.tag)
    place = places.registry(target, opens=True)
    origin = places.origin(StoreReference(name=made.name, tag=made.tag, digest=made.image.digest))
    ahead = sending.send_ahead(workshop, place.repository, made.image.digest)
    copy(
        origin.place,
        place,
        origin.root,
        tags=[target.tag or made.tag],
        progress=workshop.progress,
        title=f"pushing to {place.repository}",
    )
    workshop.catalog.log("push", made.image.digest, {"to": str(target), "name": made.name, "tag": made.tag})
    if ahead is None:
        sending.send(workshop, place.repository, made.image.digest)
    return Submitted(
        build=made,
        record=building.record_of(made, builder=name, pipeline_run=run),
        place=target,
        attested=tuple(one.predicate_type for one in said),
    )
