"""What becomes of a manifest that is in quarantine: judged, recorded, visible; given up; and what needs no push.

1. What it is decides who answers: an open repository takes everything, its list says which artifacts it takes, and
   images and indexes are judged.
2. What is allowed lies in the registry behind this one, where there is one; then the answer is recorded, and with it
   the manifest and the tags that wait for it are visible, or not.
3. What a server that was killed left unanswered, and what may have become allowed, is judged again.
"""

import contextlib
import datetime as dt
from collections.abc import Collection
from functools import partial

import msgspec

from tidewaiter.catalog.gate import Put
from tidewaiter.catalog.gate_reading import Beside, Cleared, Seen
from tidewaiter.core import clock, leases, limits
from tidewaiter.core.errors import DeniedError, NotFoundError, RefusedError, TidewaiterError, UndeterminedError
from tidewaiter.distribution import attached
from tidewaiter.gate import kinds
from tidewaiter.gate.judging import Allowed, Denied, Judgement, Undetermined
from tidewaiter.gate.kinds import Pushed
from tidewaiter.gate.registry import LOG, Registry
from tidewaiter.gate.terms import OPEN, Terms
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.signing import predicates


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """One manifest that is pushed, in its repository."""

    repository: str
    digest: Digest
    size: int
    tags: tuple[str, ...]
    manifest: Pushed
    terms: Terms
    actor: str

    @property
    def reference(self) -> str:
        """As it is named in what people read."""
        return f"{self.repository}:{self.tags[0]}" if self.tags else f"{self.repository}@{self.digest}"

    @property
    def descriptor(self) -> Descriptor:
        """As the store has it."""
        return Descriptor(media_type=self.manifest.media_type, digest=self.digest, size=self.size)


def keep(registry: Registry, asked: Push, data: bytes) -> None:
    """Put a manifest into quarantine. From here on a crash loses nothing.

    Raises what `GateCatalog.put` raises, and `StorageError`.
    """
    manifest = asked.manifest
    row = Put(
        repository=asked.repository,
        digest=asked.digest,
        media_type=manifest.media_type,
        size=asked.size,
        artifact_type=manifest.artifact_type,
        annotations=manifest.annotations,
        subject=manifest.subject.digest if manifest.subject else None,
        blobs=manifest.blobs,
        manifests=() if asked.terms.environment == OPEN else tuple(child.digest for child in manifest.children),
        members=manifest.members,
        tags=asked.tags,
        pushed_by=asked.actor,
    )
    with leases.hold(registry.home):
        _store(registry.store, data, asked.digest)
        registry.catalog.put(row)


def _store(store: Layout, data: bytes, digest: Digest) -> None:
    if digests.algorithm(digest) == "sha256":
        store.put(data)
        return
    with store.writer() as writer:
        writer.write(data)
        writer.commit(digest)


def judged(registry: Registry, asked: Push) -> Judgement:
    """The answer, which is recorded. Raises what recording it raises."""
    try:
        answer = _answer_of(registry, asked)
    except TidewaiterError as error:
        answer = Undetermined(str(asked.terms.environment), f"{error.message}. {error.next_step}")
    except Exception as error:  # noqa: BLE001  # a judge that breaks has not said yes
        LOG.exception("judging %s", asked.reference)
        answer = Undetermined(str(asked.terms.environment), f"an unexpected error ({type(error).__name__})")
    try:
        _recorded(registry, asked, answer)
    except (DeniedError, UndeterminedError) as error:
        # Somebody decided otherwise, or the verdict ended, meanwhile; or it is allowed and could not be handed over.
        answer = Undetermined(answer.environment, f"{error.message}. {error.next_step}")
        _recorded(registry, asked, answer)
        if registry.upstream is not None:
            registry.nudge(asked.repository, asked.digest)
    return answer


def joined(registry: Registry, asked: Push, answer: Allowed) -> None:
    """Who joined a judgement that was nearly over brought tags that it did not see."""
    if any(registry.catalog.tag_of(asked.repository, tag) != asked.digest for tag in asked.tags):
        _recorded(registry, asked, answer)


def _recorded(registry: Registry, asked: Push, answer: Judgement) -> None:
    """Step 2; what is allowed lies in the registry behind this one, where there is one, before anybody sees it."""
    upstream = registry.upstream
    if upstream is None or not isinstance(answer, Allowed):
        _decided(registry, asked, answer)
        return
    upstream.send(asked.repository, asked.descriptor, refers=asked.manifest.subject is not None)
    with registry.turn(asked.repository):
        tags = registry.catalog.waiting_tags(asked.repository, asked.digest)
        upstream.tag(asked.repository, asked.descriptor, tags)
        _decided(registry, asked, answer, tags)


def _decided(registry: Registry, asked: Push, answer: Judgement, tags: Collection[str] | None = None) -> None:
    registry.catalog.decided(
        asked.repository,
        asked.digest,
        allowed=isinstance(answer, Allowed),
        environment=answer.environment,
        answer=_words(answer),
        by_verdict=asked.manifest.kind == "image" and asked.terms.environment != OPEN,
        actor=asked.actor,
        only=tags,
    )


def _words(answer: Judgement) -> str:
    match answer:
        case Denied():
            return answer.message
        case Undetermined():
            return answer.reason
        case _:
            return ""


def _answer_of(registry: Registry, asked: Push) -> Judgement:
    manifest, environment = asked.manifest, asked.terms.environment
    assert environment is not None  # noqa: S101  # what has none is refused before
    if environment == OPEN:
        return Allowed(OPEN)
    if manifest.kind in {"artifact", "attachment"}:
        return _of_artifact(registry, asked, environment)
    if manifest.kind == "image":
        return registry.judge(asked.repository, _name(asked), asked.descriptor)
    return _of_index(registry, asked, environment)


def _name(asked: Push) -> str:
    return asked.tags[0] if asked.tags else asked.digest


def _of_artifact(registry: Registry, asked: Push, environment: str) -> Judgement:
    manifest = asked.manifest
    if manifest.kind == "artifact" and manifest.artifact_type not in asked.terms.artifact_types:
        return Denied(
            environment,
            (),
            f"{asked.repository} takes no artifacts of the type {manifest.artifact_type[:200]}. "
            "Push it to a repository that does, or ask an administrator to add the type to this one's list.",
        )
    if manifest.kind == "artifact" and _reads_as_image(registry.store, manifest.blobs[0]):
        return Denied(
            environment,
            (),
            f"the config of {asked.reference} reads as that of an image, and some engine might run it. "
            "Push an image as an image, or an artifact whose config is empty.",
        )
    for layer in manifest.attached:
        # What some engine might unpack as a layer is no document, whatever it is called.
        data = registry.store.read(layer.digest, limit=limits.ATTESTATION_BYTES)
        try:
            msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        except (ValueError, RecursionError):
            message = f"the layer {layer.digest} is called {layer.media_type} and is not JSON. Push what it is called."
            return Denied(environment, (), message)
    return Allowed(environment)


def _reads_as_image(store: Layout, config: Digest) -> bool:
    """Whether an engine that does not look at media types may take this config for that of an image.

    Go reads what is not quite JSON, and names in any case; what begins like an object and is not understood counts.
    """
    if store.blob_path(config).stat().st_size > limits.CONFIG_BYTES:
        return True
    data = store.read(config, limit=limits.CONFIG_BYTES)
    try:
        document = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return data.lstrip().startswith(b"{")
    return any(name.casefold() == "rootfs" for name in document)


def _of_index(registry: Registry, asked: Push, environment: str) -> Judgement:
    """An index is allowed when every manifest that it names is visible, or is found to be allowed now."""
    children = {child.digest: child for child in asked.manifest.children}
    states = registry.catalog.states(asked.repository, tuple(children))
    for digest, child in children.items():
        if states.get(digest) == "visible":
            continue
        answer = _of_child(registry, asked, child)
        if not isinstance(answer, Allowed):
            where = _platform(child)
            if isinstance(answer, Denied):
                return Denied(environment, answer.violations, f"{where}: {answer.message}")
            return Undetermined(environment, f"{where}: {answer.reason}")
    return Allowed(environment)


def _platform(child: Descriptor) -> str:
    system = child.platform
    return f"{system.os}/{system.architecture} ({child.digest})" if system else child.digest


def _of_child(registry: Registry, asked: Push, child: Descriptor) -> Judgement:
    data = registry.store.read(child.digest)
    held = registry.catalog.any_manifest(asked.repository, child.digest)
    if held is None:
        return Undetermined(str(asked.terms.environment), "it is not in this repository; push it first")
    inner = msgspec.structs.replace(
        asked, digest=child.digest, size=len(data), tags=(), manifest=kinds.parse(data, held.media_type)
    )
    answer = _answer_of(registry, inner)
    _recorded(registry, inner, answer)
    return answer


def release(registry: Registry, only: Collection[tuple[str, Digest]] | None = None) -> tuple[str, ...]:
    """Judge again what waits in quarantine, or of that what `only` names; names of what is visible now.

    Nobody has to push it again.
    """
    released: list[str] = []
    for one in registry.catalog.waiting(limits.GATE_RELEASES) if only is None or only else ():
        if only is not None and (one.repository, one.digest) not in only:
            continue
        terms = registry.terms_of(one.repository)
        held = registry.catalog.any_manifest(one.repository, one.digest)
        if held is None or terms.environment is None:
            continue
        data = registry.store.read(one.digest)
        asked = Push(
            repository=one.repository,
            digest=one.digest,
            size=len(data),
            tags=one.tags,
            manifest=kinds.parse(data, held.media_type),
            terms=terms,
            actor="gate",
        )
        judge = partial(judged, registry, asked)
        if isinstance(registry.judgements.ask(one.repository, one.digest, judge).result(), Allowed):
            released += [f"{one.repository}:{tag}" for tag in one.tags] or [asked.reference]
    return tuple(released)


def give_up(registry: Registry) -> int:
    """Delete what waited too long, and nothing that waits still names; how many manifests."""
    before = clock.now() - dt.timedelta(seconds=limits.GATE_QUARANTINE_SECONDS)
    gone = 0
    for one in reversed(registry.catalog.waiting(limits.GATE_RELEASES, before=before)):  # an index before its images
        with contextlib.suppress(RefusedError):
            gone += registry.catalog.remove_manifest(one.repository, one.digest, "gate")
    return gone


def take_cleared(registry: Registry) -> tuple[str, ...]:
    """Let images show that were built and cleared in this very home; names of those that do now.

    Nobody pushed them. They are taken on the terms of a push, but for the judgement: the verdict that cleared each has
    to be for the repository's environment, and to hold still. What was not taken stays as it is.
    """
    taken: list[str] = []
    for one in registry.catalog.cleared(limits.GATE_RELEASES):
        terms = registry.terms_of(one.repository)
        if terms.environment != one.environment:
            continue
        try:
            _take(registry, one, terms)
        except TidewaiterError as error:
            LOG.info("%s:%s is not taken: %s", one.repository, one.tag, error.message)
        else:
            taken.append(f"{one.repository}:{one.tag}")
    return tuple(taken)


def _take(registry: Registry, one: Cleared, terms: Terms) -> None:
    asked = _brought(registry, one.repository, one.digest, (one.tag,), terms)
    _recorded(registry, asked, Allowed(one.environment))


def _brought(registry: Registry, repository: str, digest: Digest, tags: tuple[str, ...], terms: Terms) -> Push:
    """A manifest of the store, now with all of its blobs in quarantine."""
    data = registry.store.read(digest)
    document = documents.decode_manifest(data)
    manifest = kinds.parse(data, document.media_type or documents.MANIFEST)
    if not isinstance(document, Manifest):
        raise UndeterminedError("it is no image, and nothing that is attached to one", next_step="Push it.")
    asked = Push(
        repository=repository,
        digest=digest,
        size=len(data),
        tags=tags,
        manifest=manifest,
        terms=terms,
        actor="gate",
    )
    with leases.hold(registry.home):
        for blob in (document.config, *document.layers):
            if blob.digest in manifest.blobs and not registry.store.has(blob.digest, blob.size):
                raise NotFoundError(f"the store has no blob {blob.digest}", next_step="Build or pull the image again.")
            registry.catalog.add_blob(repository, blob.digest, blob.size, at_most=terms.bytes_at_most)
    keep(registry, asked, data)
    return asked


def take_attached(registry: Registry, seen: Seen) -> tuple[tuple[str, ...], Seen]:
    """Let what the store has attached to images show beside them: names of what does now, and how far it was looked.

    Nobody pushed it. It is taken on the terms of a push, but what it is attached to need not show yet.
    """
    found, reached = registry.catalog.beside(seen, limits.GATE_RELEASES)
    # In the tag format a new manifest has all that the one before it had, so only the last one counts.
    wanted = {(one.repository, one.image, _tag_of(one) or one.digest): one for one in found}
    taken: list[str] = []
    for one in wanted.values():
        terms = registry.terms_of(one.repository)
        if terms.environment is None:
            continue
        tag = _tag_of(one)
        shown = f"{one.repository}:{tag}" if tag else f"{one.repository}@{one.digest}"
        try:
            if tag and terms.immutable and registry.catalog.tag_of(one.repository, tag) is not None:
                raise RefusedError("tags of a production repository do not change", next_step="Attach it as a bundle.")
            answer = judged(registry, _brought(registry, one.repository, one.digest, (tag,) if tag else (), terms))
        except TidewaiterError as error:
            LOG.info("%s is not taken: %s", shown, error.message)
            continue
        if isinstance(answer, Allowed):
            taken.append(shown)
            registry.nudge(one.repository, one.image)
    return tuple(taken), reached


def _tag_of(one: Beside) -> str:
    """The tag under which clients look for it; empty for what refers to its image."""
    if one.format != "tag":
        return ""
    return attached.tag(one.image, "sig" if one.predicate_type == predicates.SIGNATURE else "att")
