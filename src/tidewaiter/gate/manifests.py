"""Manifests: pushed into quarantine, judged, then visible; asked for; deleted.

1. The body is bounded, has the digest under which it is pushed, and is a manifest that all readers take alike.
2. Its bytes are in the store, and its row says `quarantined`; tags wait for it. From here on a crash loses nothing.
3. It is judged (`deciding`); who joined a judgement that runs gets its answer.
4. The answer is recorded before it is given. Allowed: manifest and tags are visible, 201. Denied: 403 with the reasons.
   Unknown: 503, and the same request asks again later.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterator
from functools import partial

from tidewaiter.access.roles import Permission, project_of
from tidewaiter.catalog.gate_reading import Shown
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.gate import deciding, kinds, pushes, refusals
from tidewaiter.gate.deciding import Push
from tidewaiter.gate.judging import Allowed, Denied, Judgement, Undetermined
from tidewaiter.gate.recent import Pulled
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.registry import LOG, Registry
from tidewaiter.gate.request import Request, Target
from tidewaiter.gate.terms import OPEN, Terms
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest

_COSIGN = re.compile(r"sha256-([0-9a-f]{64})\.(?:sig|att)")


async def fetch(registry: Registry, request: Request, target: Target) -> None:
    """GET and HEAD: a visible manifest, byte for byte."""
    found = registry.recent.get(target.repository, target.last, request.version)
    if found is None:
        found = await _found(registry, request, target)
    held, data = found
    etag = f'"{held.digest}"'
    headers = {"Docker-Content-Digest": held.digest, "ETag": etag, "Content-Type": held.media_type}
    if request.headers.get("if-none-match") == etag:
        await request.start(304, headers)
        await request.piece(b"", more=False)
        return
    await request.start(200, headers | {"Content-Length": str(held.size)})
    await request.piece(data if request.method == "GET" else b"", more=False)


async def _found(registry: Registry, request: Request, target: Target) -> Pulled:
    """The manifest, with its bytes when they are asked for; raises `RefusalError` when there is none."""
    wanted = request.method == "GET"

    def find() -> tuple[Shown | None, bytes | None]:
        held = registry.catalog.manifest(target.repository, target.last)
        if held is None or not wanted:
            return held, b""
        if registry.upstream is not None and not registry.store.has(held.digest):
            return held, None
        data = registry.store.read(held.digest)
        registry.recent.put(target.repository, target.last, request.version, Pulled(held, data))
        return held, data

    held, data = await registry.run(find)
    if held is None:
        raise await registry.run(_unknown, registry, request, target)
    if data is None and registry.upstream is not None:
        data = await registry.far(registry.upstream.manifest, target.repository, held.digest, held.size)
    return Pulled(held, data or b"")


def _unknown(registry: Registry, request: Request, target: Target) -> RefusalError:
    """Why there is nothing to see; that something waits is said to those who may push."""
    if not registry.catalog.has_repository(target.repository):
        return RefusalError("NAME_UNKNOWN", f"there is no repository {target.repository}")
    message = f"{target.repository} has no manifest {target.last}"
    if ":" in target.last and request.identity.may(Permission.IMAGE_PUSH, project_of(target.repository)):
        held = registry.catalog.any_manifest(target.repository, Digest(target.last))
        if held is not None:
            message += f" that may be seen; it waits in quarantine. {held.answer}"
    return RefusalError("MANIFEST_UNKNOWN", message)


async def push(registry: Registry, request: Request, target: Target) -> None:
    """PUT: take a manifest, and say whether it is allowed."""
    terms = pushes.terms(registry, target.repository)
    data = await request.read(limits.MANIFEST_BYTES, code="MANIFEST_INVALID")
    asked = _parsed(request, target, data, terms)  # step 1
    immutable = await registry.run(_taken_tag, registry, asked)
    if immutable:
        raise RefusalError(
            "DENIED",
            f"{asked.repository}:{immutable} means another image already, and tags of a production repository do not "
            "change. Push under a new tag.",
        )
    await registry.run(deciding.keep, registry, asked, data)  # step 2
    judge = partial(deciding.judged, registry, asked)
    if asked.manifest.kind in {"image", "index"} and terms.environment != OPEN:
        coming = asyncio.wrap_future(registry.judgements.ask(asked.repository, asked.digest, judge))
    else:
        coming = registry.far(judge)
    try:
        answer = await asyncio.wait_for(asyncio.shield(coming), limits.GATE_JUDGE_SECONDS)
    except TimeoutError as error:
        raise refusals.come_again(f"{asked.reference} is still being inspected; push again for the answer") from error
    if isinstance(answer, Allowed):
        await registry.far(deciding.joined, registry, asked, answer)
        for subject in _subjects(asked):
            registry.nudge(asked.repository, subject)
    await _answer(request, asked, answer)


def _parsed(request: Request, target: Target, data: bytes, terms: Terms) -> Push:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    by_digest = ":" in target.last
    digest = digests.of(data)
    if by_digest:
        digest = _named(target.last, data)
    tags = [*request.query.get("tag", ())] if by_digest else [target.last]
    if len(tags) > limits.GATE_TAGS_AT_ONCE:
        raise RefusalError("UNSUPPORTED", f"over {limits.GATE_TAGS_AT_ONCE} tags", status=414)
    try:
        for tag in tags:
            references.check_tag(tag)
        manifest = kinds.parse(data, media_type)
    except InputError as error:
        raise refusals.of(error, code="MANIFEST_INVALID") from error
    return Push(
        repository=target.repository,
        digest=digest,
        size=len(data),
        tags=tuple(dict.fromkeys(tags)),
        manifest=manifest,
        terms=terms,
        actor=request.identity.name,
    )


def _named(text: str, data: bytes) -> Digest:
    digest = Digest(text)
    algorithm = digests.algorithm(digest)
    actual = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    if actual != digest:
        raise RefusalError("DIGEST_INVALID", f"the manifest's digest is {actual}, not {digest}")
    return digest


def _taken_tag(registry: Registry, asked: Push) -> str:
    """A tag that means something else for good; empty when there is none."""
    if not asked.terms.immutable:
        return ""
    meanings = ((tag, registry.catalog.tag_of(asked.repository, tag)) for tag in asked.tags)
    return next((tag for tag, digest in meanings if digest not in {None, asked.digest}), "")


async def _answer(request: Request, asked: Push, answer: Judgement) -> None:
    if isinstance(answer, Denied):
        # crane would print a detail behind it, in Go's words; a header tells our own client that this is an answer.
        raise RefusalError("DENIED", answer.message, headers={"Tidewaiter-Verdict": "deny"})
    if isinstance(answer, Undetermined):
        raise refusals.come_again(f"{asked.reference} could not be judged, so it waits: {answer.reason}")
    headers = {
        "Location": f"/v2/{asked.repository}/manifests/{asked.digest}",
        "Docker-Content-Digest": asked.digest,
        "Content-Length": "0",
    }
    if asked.manifest.subject is not None:
        headers["OCI-Subject"] = asked.manifest.subject.digest
    await request.start(201, headers, (("OCI-Tag", tag) for tag in request.query.get("tag", ())))
    await request.piece(b"", more=False)


async def remove(registry: Registry, request: Request, target: Target) -> None:
    """DELETE: a tag, or a manifest with its tags."""
    repository, actor = target.repository, request.identity.name
    if ":" not in target.last and registry.terms_of(repository).immutable:
        raise RefusalError("DENIED", f"tags of the production repository {repository} do not change")
    if not await registry.far(_removed, registry, target, actor):
        raise RefusalError("MANIFEST_UNKNOWN", f"{repository} has no manifest {target.last}")
    await request.answer(202)


def _removed(registry: Registry, target: Target, actor: str) -> bool:
    """It is gone here, whatever the registry behind this one says to that."""
    repository = target.repository
    with registry.turn(repository):
        if ":" in target.last:
            gone = registry.catalog.remove_manifest(repository, Digest(target.last), actor)
        else:
            gone = registry.catalog.remove_tag(repository, target.last, actor)
            if gone:
                registry.store.untag(f"{repository}:{target.last}")
        if gone and registry.upstream is not None:
            try:
                registry.upstream.remove(repository, target.last)
            except UndeterminedError as error:
                LOG.warning("%s@%s is deleted here only: %s", repository, target.last, error.message)
    return gone


def _subjects(asked: Push) -> Iterator[Digest]:
    """Images that this says something about: as a referrer, or under a tag of cosign's."""
    if asked.manifest.subject is not None:
        yield asked.manifest.subject.digest
    for tag in asked.tags:
        found = _COSIGN.fullmatch(tag)
        if found is not None:
            yield Digest(f"sha256:{found[1]}")
