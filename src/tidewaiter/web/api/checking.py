"""What the server does itself when it is asked: look at images, take in registries, fetch advisories."""

from typing import Annotated

import msgspec
from fastapi import Response
from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.catalog import jobs
from tidewaiter.catalog.jobs import Job
from tidewaiter.core import clock, limits
from tidewaiter.core.environments import Environment
from tidewaiter.core.errors import RefusedError
from tidewaiter.pipelines import checking, refreshing
from tidewaiter.pipelines.sync import syncing
from tidewaiter.pipelines.sync.syncing import Options
from tidewaiter.web.api import fields
from tidewaiter.web.api.route import JSON, PREFIX, Ask, Routes
from tidewaiter.web.api.uploads import Upload

ROUTES = Routes("checking")


class JobPath(msgspec.Struct, frozen=True):
    """Which job."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]


class NewCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which image is to be judged."""

    reference: Annotated[
        fields.Name, Meta(description="HOST/REPO:TAG in a registry that the server reads, or NAME:TAG of its store.")
    ]
    environment: Annotated[
        Environment | None, Meta(description="Null: the one that the server's settings say of the repository.")
    ] = None
    clear: Annotated[bool, Meta(description="Sign and clear the tag of the store when it is allowed.")] = False


class NewSync(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be taken in."""

    place: Annotated[fields.Name, Meta(description="HOST/REPO, HOST/REPO:TAG or HOST/PREFIX/.")]
    tags: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=20)] = ()
    newest: Annotated[int, Meta(ge=0, le=10_000, description="So many images of each repository; 0: all.")] = 0


def _answer(job: Job, *, done: int) -> Response:
    """The job as an answer: it is done, or where to ask for it."""
    headers = {"Location": f"{PREFIX}/jobs/{job.id}"}
    if job.state == "running":
        headers["Retry-After"] = "5"
    status = 202 if job.state == "running" else done
    return Response(msgspec.json.encode(job), status_code=status, media_type=JSON, headers=headers)


@ROUTES.change(
    "POST", "/checks", permission=Permission.IMAGE_CHECK, in_project=True, status=201, errors=(503,), later=True
)
def check_image(ask: Ask, body: NewCheck) -> Job:
    """Have the server look at an image, judge it, and sign and attach its verdict.

    The server fetches the image itself; nothing that is claimed of it counts. `answer` has the verdict once `state` is
    `done`; of what `failed`, code and message. What takes longer than some 20 seconds is answered with 202, and the
    job is to be asked for at `Location`.
    """
    settings = ask.source.settings
    repository = checking.repository_of(settings, body.reference)
    ask.require(repository)
    environment = checking.environment_of(settings, repository, body.environment)

    def work() -> object:
        with ask.workshop() as shop:
            return checking.check(shop, body.reference, environment, clear=body.clear)

    subject = f"{body.reference} {environment}{' clear' if body.clear else ''}"
    done = ask.request.app.state.jobs.run("check", subject, ask.identity.name, work, seconds=limits.JOB_ANSWER_SECONDS)
    return _answer(done, done=201)  # type: ignore[return-value]  # the same in JSON, with a place to ask at


@ROUTES.change("POST", "/syncs", permission=Permission.CATALOG_RECORD, status=202, errors=(503,))
def sync_catalog(ask: Ask, body: NewSync) -> Job:
    """Have the server take in what lies in a registry: images, what is in them, tags.

    What is known is not fetched again. The job is to be asked for at `Location`.
    """
    place = body.place.removeprefix("docker://")
    named = place.rstrip("/") if place.endswith("/") else checking.repository_of(ask.source.settings, place)
    if not checking.is_allowed(ask.source.settings, named):
        raise RefusedError(
            f"{body.place[:200]} is no place that this server reads",
            next_step="An administrator can name it in the setting registries of the server.",
            code="place_not_allowed",
        )

    def work() -> object:
        with ask.workshop() as shop:
            done = syncing.sync(shop, [f"docker://{place}"], Options(tags=body.tags, newest=body.newest))
        return {"whole": all(one.whole for one in done), "places": done}

    subject = msgspec.json.encode(body).decode()
    done = ask.request.app.state.jobs.run("sync", subject, ask.identity.name, work, seconds=0)
    return _answer(done, done=202)  # type: ignore[return-value]  # as above


class NewUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be fetched."""

    ecosystems: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=100)], ...],
        Meta(max_length=50, description="PyPI, Debian, …; or KEV, EPSS; none: all."),
    ] = ()
    force: Annotated[bool, Meta(description="Accept data that has lost half of its entries or more.")] = False


class ImportQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What the file is."""

    ecosystem: Annotated[
        str, Meta(max_length=100, description="What an export is of, when it does not say so itself.")
    ] = ""
    as_of: Annotated[
        str, Meta(max_length=40, description="Date of the export (RFC 3339); empty: its newest change.")
    ] = ""
    force: Annotated[bool, Meta(description="Accept data that has lost half of its entries or more.")] = False


@ROUTES.change("POST", "/advisories/update", permission=Permission.SERVER_MANAGE, status=202, errors=(503,))
def update_advisories(ask: Ask, body: NewUpdate) -> Job:
    """Have the server fetch current advisories, KEV and EPSS; findings and verdicts follow them.

    What cannot be reached stays as it is. The job is to be asked for at `Location`.
    """
    refreshing.require_exports(body.ecosystems)

    def work() -> object:
        with ask.workshop() as shop:
            return refreshing.update(shop, body.ecosystems, force=body.force)

    subject = msgspec.json.encode(body).decode()
    done = ask.request.app.state.jobs.run("advisories", subject, ask.identity.name, work, seconds=0)
    return _answer(done, done=202)  # type: ignore[return-value]  # as above


@ROUTES.change(
    "POST",
    "/advisories/import",
    permission=Permission.SERVER_MANAGE,
    status=201,
    errors=(503,),
    body_bytes=limits.UPLOAD_BYTES,
    later=True,
)
def import_advisories(ask: Ask, query: ImportQuery, upload: Upload) -> Job:
    """Take advisories from the file that is sent: an OSV export (zip) or entry (JSON), KEV (JSON), EPSS (CSV).

    All of it is taken, or nothing; findings and verdicts follow it. What takes longer than some 20 seconds is answered
    with 202, and the job is to be asked for at `Location`.
    """
    source = f"{ask.identity.name} (sha256:{upload.sha256})"

    def work() -> object:
        try:
            with ask.workshop() as shop:
                return refreshing.take(
                    shop,
                    str(upload.path),
                    ecosystem=query.ecosystem,
                    as_of=query.as_of,
                    force=query.force,
                    source=source,
                )
        finally:
            upload.remove()

    upload.kept = True
    try:
        # Its name is in it: what was sent twice is taken twice, and each removes its own file.
        subject = f"{upload.path.name} sha256:{upload.sha256}"
        done = ask.request.app.state.jobs.run(
            "advisories", subject, ask.identity.name, work, seconds=limits.JOB_ANSWER_SECONDS
        )
    except BaseException:
        upload.remove()
        raise
    return _answer(done, done=201)  # type: ignore[return-value]  # as above


@ROUTES.get("/jobs/{id}", permission=Permission.CATALOG_READ)
def show_job(ask: Ask, path: JobPath) -> Job:
    """How work stands that the server was asked for; whichever server does it.

    `lost` means that the server that did it was stopped or killed: ask for the work again.
    """
    with ask.source.catalog.database.reading() as connection:
        return jobs.job(connection, path.id, clock.now())
