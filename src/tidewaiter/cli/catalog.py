"""`catalog`: what this home knows of images, wherever they lie."""

import datetime as dt
from typing import Annotated

import msgspec

from tidewaiter.catalog.answers import ImageRecord, ImageSummary
from tidewaiter.catalog.browsing import Filter, ImagePage, TagMove, Whereabouts
from tidewaiter.catalog.listed_at import ListedAt, PageAt
from tidewaiter.catalog.resemblance import Resemblances
from tidewaiter.cli import console, histories, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, limits, moments
from tidewaiter.core.errors import InputError
from tidewaiter.distribution.copy import parse_platform
from tidewaiter.pipelines import tracing
from tidewaiter.pipelines.sync import syncing
from tidewaiter.pipelines.sync.syncing import Options, SyncedPlace

_SHOWN = 20


def sync(
    *place: str,
    tags: tuple[str, ...] = (),
    platform: tuple[str, ...] = (),
    newest: int = 0,
    jobs: int = 4,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Take in what lies in registries, layouts and archives: images, what is in them, tags.

    What is known is not fetched again, so that it may run as often as one likes. Nothing is cleared, and no tag of the
    store is moved. Exits with 3 when something could not be taken in; what was is kept, and the same command goes on.

    Args:
        place: docker://HOST (all that it lists), HOST/PREFIX/, HOST/REPO[:TAG], oci:PATH, oci-archive:FILE,
            docker-archive:FILE, or store: for the images of this home.
        tags: only tags like this pattern (3.*); may be given several times.
        platform: of an index, inspect only images for this OS/ARCHITECTURE; may be given several times.
        newest: inspect only so many images of each repository, those made last; the others are listed.
        jobs: requests to a registry, and images that are read, at the same time.
        output: text or json.
    """
    if not place:
        raise InputError(
            "no place is named", next_step="Name one: docker://HOST, HOST/REPO, oci:PATH or store:.", code="usage"
        )
    options = Options(tags=tags, platforms=tuple(map(parse_platform, platform)), newest=newest, jobs=jobs)
    with workshop() as shop:
        done = syncing.sync(shop, place, options)
    whole = all(one.whole for one in done)
    if output == "json":
        emit_json({"whole": whole, "places": msgspec.to_builtins(done)})
        return 0 if whole else 3
    for one in done:
        _tell(one)
    return 0 if whole else 3


def _tell(one: SyncedPlace) -> None:
    emit(
        f"{one.place}: {one.repositories} repositories, {one.tags} tags; {one.images} new images, "
        f"{one.inspected} inspected, {one.artifacts} other artifacts"
    )
    for moved in one.moved[:_SHOWN]:
        emit(f"  moved: {moved.name} from {moved.before} to {moved.digest or 'nothing: it is gone'}")
    if one.moved_total > _SHOWN:
        emit(f"  and {one.moved_total - _SHOWN} more moved; `tidewaiter catalog list --moved` shows them")
    for problem in one.problems[:_SHOWN]:
        console.tell(f"  not taken in: {problem.name}: {problem.message}")
    if one.problems_total > _SHOWN:
        console.tell(f"  and {one.problems_total - _SHOWN} more; `--format json` lists them")
    if one.stopped:
        console.tell(f"  stopped: {one.stopped}\n  next: {one.next_step}")


def list_images(
    *,
    repository: str = "",
    tag: str = "",
    since: str = "",
    finding: str = "",
    environment: str = "",
    snowflakes: Annotated[bool, Parameter(negative="")] = False,
    duplicates: Annotated[bool, Parameter(negative="")] = False,
    moved: Annotated[bool, Parameter(negative="")] = False,
    unbuilt: Annotated[bool, Parameter(negative="")] = False,
    similarity: float = 0.9,
    as_of: str = "",
    cursor: str = "",
    rows: int = limits.PAGE_ROWS,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """List images by repository, tag, finding or environment; or what is odd about them.

    The latest change comes first. A tag that was taken in by `catalog sync` is `synced`: it says where the image lies,
    and nothing else.

    Args:
        repository: only this repository and those below it; or a pattern (*/serving).
        tag: only images with a tag like this pattern (3.*).
        since: only what came, or was tagged, from this day (2027-06-30) or moment on.
        finding: only images with this advisory (CVE-…, GHSA-…), or with a finding of this severity or a worse one.
        environment: only images that were built or decided for this environment.
        snowflakes: only images whose packages, as a whole, no other image has.
        duplicates: groups of package sets that are nearly the same, in the place of images; with `--rows` only.
        moved: tags that came to mean another image, in the place of images; with `--repository` and `--rows` only.
        unbuilt: only images of which no build is recorded.
        similarity: for `--duplicates`, packages that two sets share, of all that either has: from 0.5 to 1.
        as_of: in the place of images, what each tag meant at the end of this day (2027-06-30) or at a moment, with the
            findings that were known and the verdicts that stood; with --repository, --tag, --cursor and --rows only.
        cursor: go on after the page that ended with this.
        rows: at most so many.
        output: text or json.
    """
    _require_bounds(rows, similarity)
    wanted = Filter(
        repository=repository,
        tag=tag,
        since=moments.begin(since) if since else None,
        finding=finding,
        environment=environment,
        unbuilt=unbuilt,
        snowflakes=snowflakes,
    )
    _require_fitting(wanted, cursor, duplicates=duplicates, moved=moved, as_of=as_of)
    with remote.opened() as server:
        if server is not None:
            return _by_server(
                server,
                wanted,
                (cursor, rows),
                duplicates=similarity if duplicates else None,
                moved=moved,
                as_of=as_of,
                output=output,
            )
    with workshop(looking=True) as shop:
        if as_of:
            page, at, unknown_then = tracing.list_images(
                shop.catalog, as_of, repository=repository, tag=tag, cursor=cursor, rows=rows
            )
            return _on_a_day(page, at, unknown_then, output)
        if duplicates:
            return _duplicates(shop.catalog.resemblances(threshold=similarity, rows=rows), output)
        if moved:
            return _moves(shop.catalog.moved_tags(repository=repository, rows=rows), output)
        unknown = shop.catalog.not_inspected() if wanted.finding or wanted.snowflakes else 0
        return _images(shop.catalog.browse(wanted, cursor=cursor, rows=rows), unknown, output)


def _require_bounds(rows: int, similarity: float) -> None:
    if not 1 <= rows <= limits.LISTED_ROWS:
        raise InputError(f"{rows} rows", next_step=f"Take from 1 to {limits.LISTED_ROWS}.", code="usage")
    if not 0.5 <= similarity <= 1:
        raise InputError(f"a similarity of {similarity}", next_step="Take from 0.5 to 1.", code="usage")


def _require_fitting(wanted: Filter, cursor: str, *, duplicates: bool, moved: bool, as_of: str) -> None:
    repository, tag = wanted.repository, wanted.tag
    if (duplicates or moved) and (wanted != Filter(repository=repository if moved else "") or cursor):
        raise InputError(
            "--duplicates and --moved list something else than images, which the other filters are about",
            next_step="Give --moved with --repository and --rows only, --duplicates with --similarity and --rows only.",
            code="usage",
        )
    if as_of and (wanted != Filter(repository=repository, tag=tag) or duplicates or moved):
        raise InputError(
            "--as-of lists tags of a day, which this filter is not about",
            next_step="Give --as-of with --repository, --tag, --cursor and --rows only.",
            code="usage",
        )


def _by_server(
    server: remote.Server,
    wanted: Filter,
    part: tuple[str, int],
    *,
    duplicates: float | None,
    moved: bool,
    as_of: str,
    output: Format,
) -> int:
    """As the server lists it; `duplicates` is their least similarity, None when images are wanted."""
    cursor, rows = part
    if as_of:
        day: remote.Query = {"as_of": as_of, "repository": wanted.repository, "tag": wanted.tag, "after": cursor}
        then = server.get("/images/then", _Then, {**day, "limit": min(rows, limits.API_PAGE_ITEMS)})
        return _on_a_day(PageAt(then.items, then.next or ""), then.as_of, then.unknown, output)
    if duplicates is not None:
        query: remote.Query = {"similarity": duplicates, "limit": min(rows, limits.API_PAGE_ITEMS)}
        return _duplicates(server.get("/duplicates", Resemblances, query), output)
    if moved:
        moves = server.listing("/tags/moves", TagMove, {"repository": wanted.repository}, rows=rows)
        return _moves(moves.items, output)
    return _images(*_page(server, wanted, cursor, rows), output)


def _page(server: remote.Server, wanted: Filter, cursor: str, rows: int) -> tuple[ImagePage, int | None]:
    """Images as the server lists them, and how many it did not inspect; None when it does not say."""
    query: remote.Query = {
        "repository": wanted.repository,
        "tag": wanted.tag,
        "since": clock.rfc3339(wanted.since) if wanted.since else "",
        "finding": wanted.finding,
        "environment": wanted.environment,
        "snowflake": wanted.snowflakes,
        "unbuilt": wanted.unbuilt,
    }
    found = server.listing("/images", ImageSummary, query, rows=rows, after=cursor)
    page = ImagePage(items=found.items, next=found.next)
    return page, found.not_inspected if wanted.finding or wanted.snowflakes else 0


def _images(page: ImagePage, unknown: int | None, output: Format) -> int:
    if output == "json":
        emit_json({"items": msgspec.to_builtins(page.items), "next": page.next, "not_inspected": unknown})
        return 0
    console.table(("image", "digest", "tags", "size", "findings", "verdict"), [_row(one) for one in page.items])
    if unknown is None:
        console.tell("the server does not say how many images were not inspected, so are not known")
    elif unknown:
        console.tell(f"not inspected, so not known: {unknown} images of the catalog")
    if page.next:
        console.tell(f"more: add --cursor {page.next}")
    return 0


class _Then(msgspec.Struct, frozen=True):
    """Tags of a day, as the server lists them."""

    items: tuple[ListedAt, ...]
    next: str | None
    as_of: dt.datetime
    unknown: tuple[str, ...]


def _on_a_day(page: PageAt, at: dt.datetime, unknown: tuple[str, ...], output: Format) -> int:
    if output == "json":
        emit_json({"items": msgspec.to_builtins(page.items), "next": page.next, "as_of": at, "unknown": unknown})
        return 0
    console.table(
        ("image", "digest", "tag", "since", "findings", "verdicts"),
        [
            (
                one.name,
                one.digest.partition(":")[2][:12],
                f"{one.tag} ({one.visibility})",
                clock.rfc3339(one.since),
                _counted(one.findings),
                ", ".join(
                    f"{said.environment}: {said.verdict}{'' if said.valid else ' (expired)'}" for said in one.verdicts
                ),
            )
            for one in page.items
        ],
    )
    histories.emit_unknown(unknown)
    if page.next:
        console.tell(f"more: add --cursor {page.next}")
    return 0


def _counted(findings: dict[str, int] | None) -> str:
    if findings is None:
        return "not known"
    return ", ".join(f"{number} {level}" for level, number in findings.items()) or "none known"


def _tags(one: ImageSummary) -> list[str]:
    stored = [f"{tag.name} ({tag.visibility})" for tag in one.tags]
    return stored + [f"{tag.name} ({tag.visibility})" for tag in one.synced]


def _findings(one: ImageSummary) -> str:
    if one.scan is None:
        return "not scanned"
    counted = [f"{number} {level}" for level, number in one.scan.counts.items()] or ["none known"]
    return ", ".join([*counted, *([f"{one.scan.not_checked} not checked"] if one.scan.not_checked else [])])


def _row(one: ImageSummary) -> tuple[str, ...]:
    tags = _tags(one)
    more = f" and {len(tags) - 4} more" if len(tags) > 4 else ""
    verdict = f"{one.verdict.verdict} ({one.environment})" if one.verdict else ""
    digest = one.digest.partition(":")[2][:12]
    return one.name, digest, ", ".join(tags[:4]) + more, console.size(one.size), _findings(one), verdict


def _moves(moves: tuple[TagMove, ...], output: Format) -> int:
    if output == "json":
        emit_json({"moved": msgspec.to_builtins(moves)})
        return 0
    rows = [
        (f"{one.name}:{one.tag}", one.before, one.digest or "gone", f"{one.at:%Y-%m-%d %H:%M:%S}Z") for one in moves
    ]
    console.table(("tag", "before", "after", "seen"), rows)
    return 0


def _duplicates(found: Resemblances, output: Format) -> int:
    if output == "json":
        emit_json(msgspec.to_builtins(found))
        return 0
    for group in found.groups:
        emit(f"{group.images} images with {len(group.members)} nearly equal sets of packages")
        console.table(
            ("  like", "added", "removed", "images", "for example"),
            [
                (
                    f"  {one.similarity:.1%}",
                    f"+{one.added}",
                    f"-{one.removed}",
                    str(one.images),
                    f"{one.name}@{one.digest}",
                )
                for one in group.members
            ],
        )
    if not found.complete:
        console.tell("not all sets of packages were compared: there are too many; take a higher --similarity")
    return 0


def show(image: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show what is known of an image, and where it lies.

    Its tags and what they meant before, its packages, findings, verdicts and builds. Nothing is fetched.

    Args:
        image: a digest, NAME:TAG of the store, HOST/REPO:TAG, or NAME@DIGEST.
        output: text or json.
    """
    record, where = _found(image.removeprefix("docker://"))
    if output == "json":
        emit_json({**msgspec.to_builtins(record), **msgspec.to_builtins(where)})
        return 0
    _show(record, where)
    return 0


def _found(image: str) -> tuple[ImageRecord, Whereabouts]:
    with remote.opened() as server:
        if server is not None:
            path = f"/images/{remote.part(server.digest_of(image))}"
            return server.get(path, ImageRecord), server.get(f"{path}/places", Whereabouts)
    with workshop(looking=True) as shop:
        return shop.catalog.image(image), shop.catalog.whereabouts(image)


def _show(record: ImageRecord, where: Whereabouts) -> None:
    one = record.summary
    emit(f"{one.name}@{one.digest}")
    emit(f"  {record.config.os}/{record.config.architecture}, {console.size(one.size)}, {len(record.layers)} layers")
    if record.inspected:
        emit(f"  {len(record.components)} packages; findings: {_findings(one)}")
    else:
        emit("  not inspected: what is in it is not known")
    for verdict in record.verdicts:
        emit(f"  {verdict.environment}: {verdict.verdict}, until {verdict.valid_until:%Y-%m-%d %H:%M}Z")
    built = record.builds[0] if record.builds else None
    emit(f"  built by {built.builder} from {built.source} at {built.commit}" if built else "  no build is recorded")
    for place in where.places:
        emit(f"  in {place.name}: {', '.join(_tags(place)) or 'no tag'}")
    for referrer in where.referrers:
        emit(f"  referred to by {referrer.digest}: {referrer.artifact_type or referrer.media_type}")
    for move in where.history:
        emit(f"  {move.at:%Y-%m-%d %H:%M:%S}Z {move.tag}: {move.digest or 'gone'}")
