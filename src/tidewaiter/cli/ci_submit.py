"""`ci` with a server: built here, judged there."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tidewaiter.assembly.options import Options
from tidewaiter.catalog.answers import ImageRecord
from tidewaiter.catalog.inventory import ListedBuild
from tidewaiter.cli import build as building
from tidewaiter.cli import check, console
from tidewaiter.cli.check import ServerVerdict
from tidewaiter.cli.ci_reports import counted, ended, write
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.remote import Server, part
from tidewaiter.cli.trust import asking
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.core.project import Project
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.pipelines import bounding, images, looking, submitting, trusting
from tidewaiter.pipelines import building as pipeline
from tidewaiter.pipelines.clear import refuse
from tidewaiter.pipelines.continuous import surroundings, target
from tidewaiter.pipelines.continuous.comparison import Comparison, compare
from tidewaiter.pipelines.continuous.reports import Wanted
from tidewaiter.pipelines.continuous.surroundings import Surroundings
from tidewaiter.pipelines.continuous.way import Way, analyse
from tidewaiter.pipelines.copying import Places
from tidewaiter.pipelines.images import StoredReference
from tidewaiter.pipelines.submitting import Submitted
from tidewaiter.pipelines.trusting import Signers
from tidewaiter.signing import predicates


class _Anything(msgspec.Struct, frozen=True):
    """An answer of which nothing is read."""


def submitted(
    server: Server,
    project: Project,
    key: str,
    wanted: Options,
    *,
    push: str,
    provenance: Path | None,
    asked: Sequence[Wanted],
    against: str,
    output: Format,
) -> int:
    """Build and push the project, let the server judge it, and print what it says; 0, 1 or 3 as `check`.

    The reports that are asked for are written whatever comes of it.

    Raises what `submitting.submit` and the server's client raise.
    """
    destination = references.parse_registry(push or f"{urlsplit(server.address).netloc}/{project.file.image.name}")
    way = Way(project=project)
    with Places(settings.load(), console.progress()) as places:
        shop = places.workshop
        around = surroundings.of_settings(shop.settings)
        signers = trusting.signers(shop, key, asking(shop, key))
        try:
            done = _built(places, way, signers, destination, wanted=wanted, provenance=provenance)
            said = _judged(server, way, done)
        except TidewaiterError as error:
            way.error = error
            _heard(server, way)
            write(shop.progress, asked, way, around, lambda: _since(places, server, way, around, against))
            raise ended(shop.progress, way, error) from error
        if not said.verdict.allowed:
            way.error = refuse(said.verdict, done.build.reference)
        write(shop.progress, asked, way, around, lambda: _since(places, server, way, around, against))
    if output == "json":
        emit_json(
            {
                **building.document(done.build),
                "sources": counted(way),
                "pushed": str(done.place),
                "attested": [*done.attested, *said.attested],
                "server": server.address,
                "verdict": said.verdict,
            }
        )
        return check.exit_code(said.verdict)
    for line in building.summary(done.build):
        emit(line)
    emit(f"  pushed  {done.place}")
    emit(f"  attested  {', '.join(map(predicates.short, done.attested))}")
    for line in check.server_lines(said):
        emit(line)
    return check.exit_code(said.verdict)


def _built(
    places: Places,
    way: Way,
    signers: Signers,
    destination: RegistryReference,
    *,
    wanted: Options,
    provenance: Path | None,
) -> Submitted:
    """The project analysed, built and pushed; what it is made of, where somebody wants it."""
    shop = places.workshop
    analyse(shop, way)
    # What a denial at the push leaves to report; `submit` makes none of it again.
    made = way.build = pipeline.build(shop, way.project, wanted, builder=signers.builder.trusted.builder)
    stored = StoredReference(name=made.name, tag=made.tag, digest=made.image.digest)
    way.facts = looking.inspect(shop, images.open_stored(shop, stored))
    done = submitting.submit(places, way.project, signers, destination, wanted)
    bounding.keep(shop.settings, done.build, shop.progress)
    if provenance is not None:
        builder, run = signers.builder.trusted.builder, shop.settings.pipeline_run
        pipeline.write_provenance(done.build, provenance, builder=builder, pipeline_run=run)
    return done


def _judged(server: Server, way: Way, done: Submitted) -> ServerVerdict:
    """What the server says, with its findings."""
    server.change("POST", "/images", {"build": done.record, "tag": ""}, _Anything)
    digest = str(done.build.image.digest)
    own = urlsplit(server.address).netloc == done.place.host
    name = _in_store(done.place, digest) if own else done.pinned
    said = check.ask_server(server, name, way.project.file.image.environment, digest=digest)
    way.verdict = said.verdict
    if way.facts is not None:
        way.scan = target.scanned(_record(server, digest), said.verdict.advisories_revision)
    return said


def _heard(server: Server, way: Way) -> None:
    """The findings of an image that the server's registry refused, when it tells them."""
    if way.facts is None or way.scan is not None:
        return
    with contextlib.suppress(TidewaiterError):  # the reports then say that they have none
        record = _record(server, way.facts.digest)
        if record.inspected and record.verdicts:
            way.scan = target.scanned(record, record.verdicts[0].advisories_revision)


def _since(places: Places, server: Server, way: Way, around: Surroundings | None, against: str) -> Comparison | str:
    """What changed since the newest image of the target branch that the server knows, or why that is not known."""
    branch = around.compared_with if around is not None else ""
    if against or not branch or way.build is None or way.scan is None:
        return target.since(places.workshop, way, around, against=against)
    made = way.build
    try:
        found = server.listing("/builds", ListedBuild, {"repository": made.name}, rows=limits.TARGET_BUILDS * 4)
        theirs = [
            one
            for one in found.items
            if (one.repository, one.branch) == (made.name, branch) and one.commit != made.source.commit
        ]
        if not theirs:
            return f"The server knows no image of the target branch {branch}."
        newest = theirs[0]
        before, after = (_record(server, digest) for digest in (newest.digest, str(made.image.digest)))
    except TidewaiterError as error:
        return f"{error.message}. {error.next_step}"
    return compare(
        branch,
        target.recorded(before, f"{made.name}@{newest.digest}", commit=newest.commit),
        target.recorded(after, made.reference, commit=made.source.commit),
    )


def _record(server: Server, digest: str) -> ImageRecord:
    return server.get(f"/images/{part(digest)}", ImageRecord)


def _in_store(place: RegistryReference, digest: str) -> str:
    """As the server calls what was pushed to its own registry."""
    return f"{place.repository}@{digest}"
