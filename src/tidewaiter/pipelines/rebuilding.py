"""An image, built again from nothing but its provenance, and compared with what the provenance speaks of.

1. Who says how it was built? A trusted key signed the provenance, in the name of its own builder, about this digest.
2. What does it say? It is read under types and bounds; what cannot be built again at all is said now.
3. Fetch the commit that it names, into an empty folder; with submodules and large files when the build used them.
4. Build it in an empty home: no layer, no wheel and no record of this home is used, only its own recipes. The locks are
   those of the commit. Wheels, packages and bases come from where these say, by their hashes. A Dockerfile's commands
   run again, whatever its builder remembers, and names of images mean what they meant then.
5. Compare. The digest and the list of inputs must be the same. Where they are not, and nothing else was different, the
   answer is no; where another version of tidewaiter built, nobody can tell.
"""

import datetime as dt
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import msgspec

import tidewaiter
from tidewaiter.assembly import provenance
from tidewaiter.assembly.build import Build
from tidewaiter.assembly.foreign import ImageName
from tidewaiter.assembly.options import Options
from tidewaiter.catalog.runs.records import Source
from tidewaiter.core import clock, durable, limits, urls
from tidewaiter.core import project as projects
from tidewaiter.core.errors import (
    InputError,
    NotFoundError,
    NotVerifiedError,
    TidewaiterError,
    UndeterminedError,
)
from tidewaiter.core.files import open_regular
from tidewaiter.core.settings import Home, Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import MANIFEST, Descriptor, Platform
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines import building, comparing, images, trusting
from tidewaiter.pipelines import workshop as workshops
from tidewaiter.pipelines.fetching import Fetcher
from tidewaiter.pipelines.images import NamedImage, StoredReference
from tidewaiter.pipelines.sources import checking_out
from tidewaiter.pipelines.trusting import Place
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import predicates, provenance_claim
from tidewaiter.signing import statement as statements
from tidewaiter.signing.gathered import Found, Gathered
from tidewaiter.signing.keyring import TrustedKey
from tidewaiter.signing.provenance_claim import Claim
from tidewaiter.signing.statement import Statement

NOT_REBUILDABLE = "not_rebuildable"
_SHOWN = 10
"""Differences of each kind that are told."""
_VERSION = re.compile(r"[0-9A-Za-z.+!_-]{1,64}")


class _Parameters(msgspec.Struct, frozen=True):
    """`externalParameters`, as far as a build is told them; the project file comes from the commit."""

    platform: Literal["linux/amd64", "linux/arm64"]
    compression: Literal["gzip", "zstd"]
    created: Annotated[str, msgspec.Meta(max_length=64)]
    source: dict[str, Any] = {}
    bytecode: bool | None = None

    def inside(self) -> str:
        """Where the project lies in its repository; raises `InputError` when that leads out of it."""
        said = self.source.get("folder", ".")
        if not isinstance(said, str) or len(said) > limits.API_NAME_CHARACTERS or not said.isprintable():
            raise _unusable("the folder of the project is no path")
        path = PurePosixPath(said)
        if path.is_absolute() or ".." in path.parts:
            raise _unusable("the folder of the project lies outside its repository")
        return said

    def used(self, what: Literal["submodules", "lfs"]) -> bool:
        """Whether the build used files that come beside the commit."""
        return self.source.get(what) is True

    def moment(self) -> int:
        """When the image says it was created, in Unix seconds; raises `InputError`."""
        try:
            return int(clock.parse_rfc3339(self.created).timestamp())
        except ValueError as error:
            raise _unusable("the moment of creation is none") from error


class _Resource(msgspec.Struct, frozen=True):
    digest: dict[str, str]
    name: str = ""


class _Definition(msgspec.Struct, frozen=True, rename="camel"):
    build_type: str
    external_parameters: _Parameters
    resolved_dependencies: Annotated[tuple[_Resource, ...], msgspec.Meta(max_length=limits.PROVENANCE_DEPENDENCIES)]
    internal_parameters: dict[str, Any] = {}


class _Builder(msgspec.Struct, frozen=True):
    version: dict[str, str] = {}


class _Run(msgspec.Struct, frozen=True):
    builder: _Builder


class _Predicate(msgspec.Struct, frozen=True, rename="camel"):
    build_definition: _Definition
    run_details: _Run


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a provenance says that a build needs."""

    claim: Claim
    vouched: str
    """Name of the key that signed it; empty when nobody vouches."""
    parameters: _Parameters
    folder: str
    """Where the project lies in its repository."""
    epoch: int
    """The moment that the image says it was created at, in Unix seconds."""
    inputs: frozenset[tuple[str, str]]
    """Name and digest of everything that went into the build."""
    version: str
    """Of the tidewaiter that built; empty when it is not said."""
    internal: dict[str, Any]
    dockerfile: bool
    """Whether commands of a Dockerfile ran."""


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    image: Digest
    rebuilt: Digest
    same: bool
    """The same digest, of the same inputs."""
    source: str
    """Where the commit was fetched from."""
    commit: str
    builder: str
    """Who built the image, as its provenance says."""
    vouched: str
    """Name of the key that signed the provenance; empty when nobody vouches for it."""
    version: str
    """Of the tidewaiter that built the image."""
    version_here: str
    layers: tuple[str, ...]
    """Layers that differ, in words."""
    inputs: tuple[str, ...]
    """Inputs that only the provenance, or only the new build has."""
    differences: tuple[str, ...]
    """Facts, packages and files that differ, in words; empty also when the image is not there to compare."""
    dockerfile: bool
    """Whether commands of a Dockerfile ran, which may do something else each time."""


def rebuild(
    workshop: Workshop,
    text: str,
    *,
    file: Path | None = None,
    keys: Sequence[Path] = (),
    insecure: bool = False,
    source: str = "",
) -> Rebuilt:
    """Build the image that `text` names again, and compare.

    Args:
        workshop: where the image, what is attached to it, and the trusted keys are.
        text: an image of the store or of a registry, or a digest that the catalog knows.
        file: holds the provenance, when it is not what is attached to the image.
        keys: public keys that are trusted, in the place of those of the home.
        insecure: whether a provenance that nobody vouches for is good enough.
        source: folder or address of the repository, in the place of the one that is named.

    Raises:
        NotVerifiedError: nobody who is trusted vouches for the provenance.
        UndeterminedError: code `not_rebuildable`: something that it takes is missing, or another version built.
        InputError: the image cannot be named so, or the provenance is malformed.
    """
    text, image = _named(workshop, text)
    statement, vouched = _stated(workshop, text, image, file=file, keys=keys, insecure=insecure)  # 1
    said = _read(statement, vouched)  # 2
    place = _source(said, source)
    with (
        _empty_home(workshop.settings, said, source) as settings,
        workshops.opened(settings, workshop.progress) as shop,
    ):
        made = _built(shop, said, place)  # 3 and 4
        return _compared(workshop, shop, text, image, said=said, made=made, place=place)  # 5


# 1. Who says so


def _named(workshop: Workshop, text: str) -> tuple[str, Digest]:
    """How the image is named from now on, and its digest."""
    if text.startswith("sha256:"):
        digest = digests.parse(text)
        return f"{workshop.catalog.image(digest).summary.name}@{digest}", digest
    given = references.parse(text)
    if isinstance(given, StoreReference | RegistryReference) and given.digest is not None:
        return text, given.digest
    return text, trusting.place(workshop, text).image.digest


def _stated(
    workshop: Workshop, text: str, image: Digest, *, file: Path | None, keys: Sequence[Path], insecure: bool
) -> tuple[Statement, str]:
    """The newest provenance that holds, and the name of the key that vouches for it."""
    if file is None:
        place = trusting.place(workshop, text)
    else:
        data = _content(file)
        if insecure and b'"payloadType"' not in data:
            return _bare(data, image), ""
        found = Found(place="att", blob=digests.of(data), document=data)
        place = Place(
            name=_repository(text),
            image=Descriptor(media_type=MANIFEST, digest=image, size=0),
            gathered=Gathered((found,)),
        )
    held = trusting.verify_attestations(place, trusting.ring(workshop, keys), predicates.PROVENANCE)
    own = [one for one in held if isinstance(one.key, TrustedKey) and _claim(one.statement).is_by(one.key.builder)]
    if not own:
        raise NotVerifiedError(
            f"the provenance of {text} is made in the name of another builder than its key's",
            next_step="Do not believe it; name the builder's own key with --key.",
        )
    newest = max(own, key=lambda one: one.signed_at or dt.datetime.min.replace(tzinfo=dt.UTC))
    return newest.statement, newest.key.name


def _repository(text: str) -> str:
    """What a name is in signatures: the repository, with its host when it has one."""
    given = references.parse(text)
    if isinstance(given, RegistryReference):
        return f"{given.host}/{given.repository}"
    return given.name or "" if isinstance(given, StoreReference) else ""


def _content(file: Path) -> bytes:
    try:
        with open_regular(file) as opened:
            return opened.read(limits.ATTESTATION_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {file}", next_step="Name a file with a provenance.") from error
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}", next_step="Name a file that you may read."
        ) from error


def _bare(data: bytes, image: Digest) -> Statement:
    """A statement that nobody signed, about `image`; raises `InputError`."""
    found = statements.parse(data)
    if found.predicate_type != predicates.PROVENANCE or not any(one.is_(image) for one in found.subjects):
        raise InputError(f"the file has no provenance of {image}", next_step="Name the provenance of this image.")
    return found


def _claim(found: Statement) -> Claim:
    return provenance_claim.parse(found.predicate)


# 2. What it says


def _unusable(reason: str) -> InputError:
    return InputError(f"the provenance cannot be used: {reason}", next_step="Build the image anew, from its source.")


def _cannot(reason: str, next_step: str) -> UndeterminedError:
    return UndeterminedError(f"it cannot be built again: {reason}", next_step=next_step, code=NOT_REBUILDABLE)


def _read(found: Statement, vouched: str) -> Said:
    claim = _claim(found)
    try:
        predicate = msgspec.convert(found.predicate, _Predicate)
    except msgspec.ValidationError as error:
        raise _cannot(
            f"its provenance is not one that tidewaiter wrote: {str(error)[:200]}", "Ask whoever built it for the way."
        ) from error
    definition = predicate.build_definition
    if definition.build_type not in {provenance.ASSEMBLED, provenance.FROM_DOCKERFILE}:
        raise _cannot(f"a build of the type {definition.build_type[:100]!a} is unknown here", "Ask whoever built it.")
    if claim.dirty:
        raise _cannot(
            f"files differed from the commit {claim.commit[:12]}, and nobody has them",
            "Commit everything, build, and let that be the image.",
        )
    version = predicate.run_details.builder.version.get("tidewaiter", "")
    return Said(
        claim=claim,
        vouched=vouched,
        parameters=definition.external_parameters,
        folder=definition.external_parameters.inside(),
        epoch=definition.external_parameters.moment(),
        inputs=frozenset(
            (one.name, f"{algorithm}:{value}")
            for one in definition.resolved_dependencies
            for algorithm, value in one.digest.items()
        ),
        version=version if _VERSION.fullmatch(version) else "",
        internal=definition.internal_parameters,
        dockerfile=definition.build_type == provenance.FROM_DOCKERFILE,
    )


def _source(said: Said, given: str) -> str:
    """The address that the commit is fetched from."""
    if given:
        return given if "://" in given or not Path(given).is_dir() else Path(given).resolve().as_uri()
    if not said.claim.source:
        raise _cannot(
            "its provenance names a commit, and no repository that has it",
            "Name a clone with --source; set [image] source, so that later images say it.",
        )
    return said.claim.source


# 3 and 4. The build


@contextmanager
def _empty_home(settings: Settings, said: Said, given: str) -> Iterator[Settings]:
    """Settings of a home that has nothing but the recipes of this one, and is gone afterwards."""
    work = settings.home.cache / "work"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise durable.storage_error(error, str(work)) from error
    with tempfile.TemporaryDirectory(prefix="rebuild-", dir=work) as folder:
        home = Home(Path(folder, "home"))
        home.path.mkdir(mode=0o700)
        if settings.home.recipes.is_dir():
            home.recipes.symlink_to(settings.home.recipes.resolve())
        local = (Path(given).resolve(),) if given and Path(given).is_dir() else ()
        yield msgspec.structs.replace(
            settings,
            home=home,
            database_url=None,
            shared_layers="",
            server="",
            ci_variables={},
            source_date_epoch=said.epoch,
            local_sources=(*settings.local_sources, *local),
            # Submodules of a clone that lies here come from where those of the repository itself may come from.
            submodule_hosts=settings.submodule_hosts | _host(said.claim.source),
        )


def _host(source: str) -> frozenset[str]:
    """The host of a repository, in a set; an empty one when it has none."""
    host = urls.split(source).netloc.rpartition("@")[2].lower()
    return frozenset({host}) if host else frozenset()


def _built(shop: Workshop, said: Said, place: str) -> Build:
    """The commit, built; whatever stands in the way means that nobody can tell."""
    parameters = said.parameters
    system, _, architecture = parameters.platform.partition("/")
    wanted = Options(
        compression=parameters.compression,
        platform=Platform(os=system, architecture=architecture),
        bytecode=parameters.bytecode,
        fresh=True,
    )
    folder = shop.settings.home.path.parent / "source"
    try:
        source = Source(
            repository=place,
            commit=said.claim.commit,
            submodules=parameters.used("submodules"),
            lfs=parameters.used("lfs"),
        )
        checking_out.checkout(shop.settings, source, folder, shop.progress.note)
        inside = (folder / said.folder).resolve()
        if not inside.is_relative_to(folder.resolve()):
            raise _unusable("the folder of the project is a link out of its repository")
        project = projects.load(inside)
        made = building.build(shop, project, wanted, images=_AsNamed(shop, said))
    except TidewaiterError as error:
        raise _cannot(error.message, error.next_step) from error
    if made.source.dirty:
        raise _cannot(
            f"the commit {said.claim.commit[:12]} does not hold all that the image was made of",
            "Commit the locks and whatever else the build reads.",
        )
    return made


class _AsNamed(Fetcher):
    """Brings images by the digests that their names had when the image was built, as its provenance says."""

    def __init__(self, shop: Workshop, said: Said) -> None:
        super().__init__(shop)
        self._said = said

    def digest(self, name: ImageName) -> Digest:
        """Raises as `Fetcher.digest`; `InputError`: what the provenance says is no digest."""
        meant = [value for named, value in self._said.inputs if named == name.shown]
        return digests.parse(meant[0]) if len(meant) == 1 else super().digest(name)


# 5. The comparison


def _compared(
    workshop: Workshop, shop: Workshop, text: str, image: Digest, *, said: Said, made: Build, place: str
) -> Rebuilt:
    now = frozenset((one.name, f"{one.algorithm}:{one.value}") for one in provenance.dependencies(made))
    inputs = [f"only the provenance has {_shown(one)}" for one in sorted(said.inputs - now)]
    inputs += [f"only the new build has {_shown(one)}" for one in sorted(now - said.inputs)]
    same = made.image.digest == image
    layers: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    if not same:
        layers, differences = _differences(workshop, shop, text, made)
    found = Rebuilt(
        image=image,
        rebuilt=made.image.digest,
        same=same and not inputs,
        source=place,
        commit=said.claim.commit,
        builder=said.claim.builder,
        vouched=said.vouched,
        version=said.version,
        version_here=tidewaiter.__version__,
        layers=layers,
        inputs=tuple(inputs[: 2 * _SHOWN]),
        differences=differences,
        dockerfile=said.dockerfile,
    )
    other = _other_maker(said, made)
    if not same and other:
        raise _cannot(
            f"{made.image.digest} came out in the place of {image}, and {other}",
            "Build it again with what built it.",
        )
    return found


def _shown(one: tuple[str, str]) -> str:
    return f"{one[0][:200]} {one[1][:80]}"


def _other_maker(said: Said, made: Build) -> str:
    """What of the builder was different, on which bytes may depend; empty when nothing was."""
    if said.version != tidewaiter.__version__:
        return f"tidewaiter {said.version or 'of an unknown version'} built it, this is {tidewaiter.__version__}"
    now = provenance.of(made).internal
    for name in sorted({*said.internal, *now}):
        if said.internal.get(name) != now.get(name):
            return f"{name} was {str(said.internal.get(name))[:80]!a}, here it is {str(now.get(name))[:80]!a}"
    return ""


def _differences(workshop: Workshop, shop: Workshop, text: str, made: Build) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Layers, and what is in them, that differ from the image that `text` names; nothing when it is not there."""
    new = images.open_stored(shop, StoredReference(name=made.name, tag=made.tag, digest=made.image.digest))
    try:
        old = images.open_named(workshop, text)
        found = comparing.diff(workshop, old, new)
    except (NotFoundError, UndeterminedError) as error:
        workshop.progress.note(f"the image is not here to compare: {error.message}")
        return (), ()
    told = [f"{one.name}: {str(one.before)[:100]} before, {str(one.after)[:100]} now" for one in found.facts[:_SHOWN]]
    told += [
        f"{one.kind} {one.name}: {', '.join(one.before) or 'none'} before, {', '.join(one.after) or 'none'} now"
        for one in found.packages[:_SHOWN]
    ]
    told += [
        f"/{one.path}: " + ("new" if one.before is None else "gone" if one.after is None else "changed")
        for one in found.files[:_SHOWN]
    ]
    if found.contents_not_compared:
        told.append(f"{found.contents_not_compared} files of equal size and mode, of which some bytes may differ")
    return tuple(_layers(old, new, made)), tuple(told)


def _layers(old: NamedImage, new: NamedImage, made: Build) -> Iterator[str]:
    pairs = zip_longest(old.image.manifest.layers, new.image.manifest.layers)
    for number, (before, after) in enumerate(pairs, 1):
        if before is not None and after is not None and before.digest == after.digest:
            continue
        part = made.parts[number - 1] if number <= len(made.parts) else None
        what = f" ({part.kind}: {', '.join(part.contents[:3])})" if part else ""
        was, now = before.digest if before else "none", after.digest if after else "none"
        yield f"layer {number}{what}: {was} before, {now} now"
