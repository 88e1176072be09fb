"""A Dockerfile's result as what an image stands on: built by BuildKit or buildah, then on the same way as every base.

1. Pin every image that it uses by digest, and refuse secrets in its text and arguments (`dockerfile_text`).
2. Put what Git tracks of the context into a folder with fixed attributes (`dockerfile_context`).
3. Let the builder work there, with fixed times, and secrets as mounts only (`dockerfile_tools`).
4. Bring the result into the store, every layer verified, and look whether a secret is in it after all.

Files in layers get the time of all layers that are made here, so that a layer does not change with the commit;
`created` of the image is the commit's. A Dockerfile that declares `ARG SOURCE_DATE_EPOCH` is given the commit's time.
What commands do that the Dockerfile runs is theirs: downloads, random names and times in files differ from run to run.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tidewaiter.assembly import builder_process, dockerfile_context, dockerfile_text, dockerfile_tools, foreign
from tidewaiter.assembly.builder_process import Ended
from tidewaiter.assembly.dockerfile_buildah import Buildah
from tidewaiter.assembly.dockerfile_text import EPOCH, Prepared
from tidewaiter.assembly.dockerfile_tools import Job, Tool
from tidewaiter.assembly.foreign import ImageName, Images
from tidewaiter.assembly.foundation import Foundation
from tidewaiter.assembly.ground import Listings
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.source import Source
from tidewaiter.core import durable, leases
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, NetworkError, ProjectError, RefusedError
from tidewaiter.core.progress import Progress, Task
from tidewaiter.core.project import BuildSection, Project
from tidewaiter.core.settings import Settings
from tidewaiter.distribution.archive_place import ArchiveSource
from tidewaiter.distribution.copy import copy
from tidewaiter.distribution.layout_place import LayoutPlace
from tidewaiter.oci import archive as archives
from tidewaiter.oci import image as images_of
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import MTIME
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.reference import ArchiveReference, RegistryReference
from tidewaiter.oci.verified import VerifiedLayer

_CHUNK = 1 << 20
_SHORTEST_SECRET = 6
"""Characters; a shorter value is found everywhere by chance and is not looked for."""
_NETWORK = re.compile(
    r"pinging container registry|dial tcp|no such host|connection refused|i/o timeout|TLS handshake"
    r"|failed to resolve source metadata|failed to do request",
)
_PROXY_PASSWORD = re.compile(r"//([^/@\s]*:[^/@\s]+)@")


class _Secrets(msgspec.Struct, frozen=True):
    """Values that must be in no layer, by what they are called; those of `variables` are given to the builder."""

    named: Mapping[str, str]
    variables: Mapping[str, str]


def build(
    project: Project,
    source: Source,
    *,
    wanted: Options,
    layers: LayerCache,
    images: Images,
    listings: Listings,
    settings: Settings,
    progress: Progress,
) -> Foundation:
    """The result of the Dockerfile that `[build]` names, in the store.

    Raises:
        InputError: the Dockerfile is wrong, holds a secret, or a command in it failed.
        RefusedError: a secret is in a layer or in the config of the result.
        MissingToolError: no builder works here.
        NetworkError: a registry did not answer.
        DeadlineError: it took longer than the settings allow.
    """
    section = project.file.build
    if section is None:
        raise ProjectError(f"{project.path}: [build] is missing", next_step='Add dockerfile = "Dockerfile".')
    path = project.directory / section.dockerfile
    if path.resolve() != project.directory.resolve() / os.path.normpath(section.dockerfile):
        raise ProjectError(
            f"{path} is or lies behind a link, so that the commit does not say what is in it",
            next_step="Name the file itself in [build] dockerfile.",
        )
    secrets = _secrets(project, section)
    tool = dockerfile_tools.choose(settings)

    def resolve(reference: RegistryReference) -> Digest:
        return images.digest(ImageName(reference, None, str(reference)))

    prepared = dockerfile_text.prepare(
        path,
        dockerfile_text.read(path),
        arguments=section.arguments,
        platform=wanted.platform,
        resolve=resolve,
        frontend=tool.name != "buildah",
    )
    for origin in prepared.origins:
        if not origin.pinned:
            progress.note(f"{section.dockerfile}: {origin.name} is {origin.digest} now; name the digest to keep it")
    with _workplace(settings) as work:
        dockerfile_context.stage(project, section.context, work / "context", clean=not source.dirty)
        (work / "Dockerfile").write_text(prepared.text)
        job = _job(section, source, prepared, work=work, wanted=wanted, settings=settings)
        with progress.task(f"Building {section.dockerfile} with {tool}") as task:
            image = _built(
                tool, job, work=work, layers=layers, wanted=wanted, settings=settings, secrets=secrets, task=task
            )
        _refuse_leaks(image, secrets, progress)
    found = foreign.foundation(image, section.dockerfile, wanted=wanted, listings=listings, progress=progress)
    return msgspec.structs.replace(
        found, images=tuple((origin.name, origin.digest) for origin in prepared.origins), builder=str(tool)
    )


@contextmanager
def _workplace(settings: Settings) -> Iterator[Path]:
    folder = settings.home.cache / "work"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder))
    except OSError as error:
        raise durable.storage_error(error, str(folder)) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _secrets(project: Project, section: BuildSection) -> _Secrets:
    """The secrets that the project asks for; raises `ProjectError` when one is not set."""
    named, variables = {}, {}
    for name, variable in section.secrets.items():
        value = all_settings.build_secret(variable)
        if not value:
            raise ProjectError(
                f"{project.path}: [build] secrets: {name} is to come from {variable}, which is not set",
                next_step=f"Set {variable} in the environment, or take the secret out of [build].",
            )
        named[f"the secret {name}"] = variables[variable] = value
    for variable, value in all_settings.proxy_variables().items():
        password = _PROXY_PASSWORD.search(value)
        if password is not None:
            named[f"the password in {variable}"] = password[1]
    return _Secrets({name: value for name, value in named.items() if len(value) >= _SHORTEST_SECRET}, variables)


def _job(
    section: BuildSection, source: Source, prepared: Prepared, *, work: Path, wanted: Options, settings: Settings
) -> Job:
    arguments = dict(section.arguments)
    if prepared.wants_epoch:
        epoch = settings.source_date_epoch
        arguments[EPOCH] = str(source.committed if epoch is None else epoch)
    return Job(
        dockerfile=work / "Dockerfile",
        context=work / "context",
        platform=wanted.platform,
        times=MTIME,
        target=section.target,
        arguments=arguments,
        secrets=section.secrets,
        cache_from="" if wanted.fresh else settings.cache_from,
        cache_to="" if wanted.fresh else settings.cache_to,
        fresh=wanted.fresh,
        compression=wanted.compression,
    )


# Step 3


def _built(
    tool: Tool,
    job: Job,
    *,
    work: Path,
    layers: LayerCache,
    wanted: Options,
    settings: Settings,
    secrets: _Secrets,
    task: Task,
) -> Image:
    hide = tuple(secrets.named.values())
    if tool.name == "buildah":
        leases.claim(settings.home.cache / "buildah")
        # One build of a home at a time: what another one left half done is cleared away first.
        storage = settings.home.cache / "buildah"
        leases.claim(storage)
        with durable.exclusive(storage / "lock", seconds=settings.builder_seconds):
            buildah = Buildah(tool, settings, work, task, hide)
            buildah.tidy()
            made = buildah.build(job, secrets.variables)
            if isinstance(made, Ended):
                raise _failed(tool, made)
            return buildah.bring(made, layers, wanted)
    archive = work / "image.tar"
    line = dockerfile_tools.buildctl_line if tool.name == "buildctl" else dockerfile_tools.docker_line
    ended = builder_process.follow(
        line(job, archive),
        environment={**all_settings.engine_environment(), **secrets.variables},
        seconds=settings.builder_seconds,
        tell=task.describe,
        hide=hide,
    )
    if ended.code:
        raise _failed(tool, ended)
    return _from_archive(archive, layers.store, wanted)


def _failed(tool: Tool, ended: Ended) -> InputError | NetworkError:
    said = "\n".join(ended.lines)
    message = f"{tool.name} could not build the Dockerfile (exit code {ended.code}):\n{said}"
    if _NETWORK.search("\n".join(ended.lines[-3:])):
        return NetworkError(message, next_step="Check the network, the proxy and the registry, then build again.")
    return InputError(
        message,
        next_step="Mend the step that failed. Only files that Git tracks are in the context.",
        code="dockerfile_failed",
    )


def _from_archive(path: Path, store: Layout, wanted: Options) -> Image:
    """The image in an OCI archive, once its blobs lie in the store, each verified."""
    opened = archives.open_archive(ArchiveReference(path=path, kind="oci-archive"))
    image = images_of.load(opened, opened.descriptor, architecture=wanted.platform.architecture)
    copy(ArchiveSource(opened), LayoutPlace(store), image.descriptor)
    return images_of.load(store, image.descriptor)


# Step 4


def _refuse_leaks(image: Image, secrets: _Secrets, progress: Progress) -> None:
    """Raise `RefusedError` when a secret's value is in the image's config or in a file of a layer."""
    if not secrets.named:
        return
    config = image.source.read(image.manifest.config.digest)
    for name, value in secrets.named.items():
        if value.encode() in config:
            raise _leak(name, "the image's config")
    with progress.task("Looking for secrets in the layers", total=len(image.layers)) as task:
        for descriptor, diff_id in image.layers:
            for entry, file in VerifiedLayer(image.source, descriptor, diff_id):
                before = b""
                while file is not None and (data := file.read(_CHUNK)):
                    for name, value in secrets.named.items():
                        if value.encode() in before + data:
                            raise _leak(name, f"/{entry.path} of a layer")
                    before = data[-max(map(len, secrets.named.values())) * 4 :]
            task.advance()


def _leak(name: str, where: str) -> RefusedError:
    return RefusedError(
        f"{name} is in {where}",
        next_step="Use it with `RUN --mount=type=secret` and write it nowhere. Replace it by a new one: the builder's "
        "cache holds it too.",
        code="secret_in_build",
    )
