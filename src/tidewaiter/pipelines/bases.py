"""Bases: locked, and built into the store as images of their own."""

import time
from pathlib import Path

import msgspec

from tidewaiter.assembly import base, base_lock, locking, provenance, recipe
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.recipe import Recipe
from tidewaiter.catalog.records import BuildRecord, BuiltLayer, Material
from tidewaiter.core import clock
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, StaleLockError
from tidewaiter.core.project import FILE_NAME, Project
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines import images
from tidewaiter.pipelines.building import VISIBILITY
from tidewaiter.pipelines.workshop import Workshop

REPOSITORY = "base/"
"""Bases lie in the store as `base/RECIPE`."""


class Target(msgspec.Struct, frozen=True):
    """What a base is built or locked for: a recipe by itself, or a project that uses one."""

    recipe: Recipe
    project: Project | None
    lock: Path
    """Where its lock lies: beside the project's file, or with the recipes of this home."""
    update: str
    """The command that renews the lock."""

    @property
    def system(self) -> tuple[str, ...]:
        """Packages that the project adds."""
        return () if self.project is None else self.project.system_packages


def target(workshop: Workshop, text: str, architecture: str) -> Target:
    """What `text` names: a recipe, else the folder of a project.

    Raises:
        NotFoundError: it is neither.
        ProjectError: the project's file is wrong.
    """
    own = workshop.settings.home.recipes
    option = "" if architecture == "amd64" else f" --platform linux/{architecture}"
    update = f"tidewaiter base update {text}{option}"
    if not (Path(text) / FILE_NAME).is_file():
        name = f"{text}.lock" if architecture == "amd64" else f"{text}.{architecture}.lock"
        return Target(recipe=recipe.load(text, own=own), project=None, lock=own / name, update=update)
    project = projects.load(Path(text))
    if project.base.is_image:
        raise InputError(
            f"{project.path}: [base] use is an image, which has no recipe and no lock",
            next_step="Name a recipe: `tidewaiter base list` shows them.",
        )
    chosen = locking.recipe_of(project, workshop.settings)
    return Target(recipe=chosen, project=project, lock=project.base_lock_for(architecture), update=update)


def lock(workshop: Workshop, wanted: Target, architecture: str) -> BaseLock:
    """Resolve the packages anew and write the lock; raises what `base_lock.resolve` raises."""
    found = base_lock.resolve(
        wanted.recipe,
        workshop.client,
        workshop.settings,
        workshop.progress,
        architecture=architecture,
        system=wanted.system,
    )
    base_lock.write(wanted.lock, found)
    return found


def _locked(workshop: Workshop, wanted: Target, architecture: str) -> BaseLock:
    if not wanted.lock.exists():
        return lock(workshop, wanted, architecture)
    found = base_lock.read(wanted.lock)
    try:
        base_lock.require_fresh(found, wanted.recipe, wanted.system, architecture)
    except StaleLockError as error:
        raise StaleLockError(
            f"{wanted.lock}: {error.message}", next_step=f"Run `{wanted.update}`, which writes it anew."
        ) from error
    return found


# Building


class BuiltBase(msgspec.Struct, frozen=True, kw_only=True):
    """A base that lies in the store as an image."""

    name: str
    """Of the recipe."""
    reference: str
    image: Descriptor
    parts: tuple[Part, ...]
    lock: BaseLock
    path: Path
    """Of its lock."""
    production: bool
    seconds: float


def _layer(part: Part) -> BuiltLayer:
    return BuiltLayer(
        digest=part.info.digest,
        diff_id=part.info.diff_id,
        size=part.info.size,
        unpacked_size=part.info.tar_size,
        kind="base",
        title=part.title,
        contents=part.contents,
    )


def publish(workshop: Workshop, record: BuildRecord, tag: str) -> str:
    """Record a build, let its tag mean it, and list it in the store; its reference."""
    workshop.catalog.record_build(record)
    workshop.catalog.set_tag(record.repository, tag, record.digest)
    known = workshop.catalog.image(f"{record.repository}@{record.digest}").summary.tags
    visibility = next((one.visibility for one in known if one.name == tag), "built")
    descriptor = images.stored_descriptor(workshop.store, record.digest)
    reference = f"{record.repository}:{tag}"
    workshop.store.tag(reference, msgspec.structs.replace(descriptor, annotations={VISIBILITY: visibility}))
    return reference


def build(workshop: Workshop, wanted: Target, architecture: str, *, bytecode: bool = True) -> BuiltBase:
    """Build a base, without what a project adds to it, as an image of the store.

    Its tag is the beginning of its lock's digest. A missing lock is written, a stale one is an error.

    Raises:
        TidewaiterError: as `assembly.base.build` and `base_lock.resolve`; nothing is recorded or tagged then.
    """
    started, clock_start = clock.now(), time.monotonic()
    locked = _locked(workshop, wanted, architecture).alone
    made = base.build(
        wanted.recipe,
        locked,
        layers=workshop.layers,
        settings=workshop.settings,
        connect=workshop.connect,
        progress=workshop.progress,
        bytecode=bytecode,
    )
    written = base.write_image(made, wanted.recipe, locked, workshop.store)
    finished = clock.now()
    record = BuildRecord(
        repository=f"{REPOSITORY}{wanted.recipe.name}",
        digest=written.manifest.digest,
        media_type=written.manifest.media_type,
        layers=tuple(map(_layer, made.parts)),
        environment="production" if wanted.recipe.production else "research",
        purpose="base",
        source=f"recipe {wanted.recipe.name}",
        commit="",
        dirty=False,
        builder=provenance.LOCAL_BUILDER,
        started=started,
        finished=finished,
        seconds=time.monotonic() - clock_start,
        created=max(clock.parse_rfc3339(suite.date) for suite in locked.suites),
        base_name=wanted.recipe.name,
        base_lock=locked.digest,
        base_digest=written.manifest.digest,
        base_layers=len(made.parts),
        materials=(
            Material(f"recipe {wanted.recipe.name}", wanted.recipe.digest),
            *(Material(package.purl, f"sha256:{package.sha256}") for package in locked.packages),
        ),
        reused_layers=sum(part.reused for part in made.parts),
        built_layers=sum(not part.reused for part in made.parts),
    )
    reference = publish(workshop, record, digests.hexadecimal(locked.digest)[:12])
    return BuiltBase(
        name=wanted.recipe.name,
        reference=reference,
        image=written.manifest,
        parts=made.parts,
        lock=locked,
        path=wanted.lock,
        production=wanted.recipe.production,
        seconds=time.monotonic() - clock_start,
    )


def digest_of(workshop: Workshop, text: str) -> Digest:
    """The manifest digest that `text` is or names; raises what `images.open_named` raises."""
    if text.startswith(("sha256:", "sha512:")):
        return digests.parse(text)
    return images.open_named(workshop, text).image.digest
