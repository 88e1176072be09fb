"""What a build was made of and how, as SLSA Provenance v1 wants it told, inside an in-toto Statement v1.

Nothing is signed here. `dependencies` is the one list of what the image's bytes depend on; the catalog's materials
are the same list. Names of fields are those of https://slsa.dev/spec/v1.1/provenance and of in-toto's
ResourceDescriptor.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

import tidewaiter
from tidewaiter.assembly.build import Build
from tidewaiter.assembly.locking import Locks
from tidewaiter.assembly.python_lock import LockedWheel, PythonLock
from tidewaiter.core.clock import rfc3339
from tidewaiter.core.errors import InputError
from tidewaiter.oci import compression, layer
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import RegistryReference

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
ASSEMBLED = "urn:tidewaiter:build:assembled:v1"
"""Type of a build from a recipe or an image that exists, wheels, files and models."""
FROM_DOCKERFILE = "urn:tidewaiter:build:dockerfile:v1"
"""Type of a build from a Dockerfile."""
LOCAL_BUILDER = "local"
"""A developer's machine: nobody vouches for what it says."""


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a build (ResourceDescriptor)."""

    name: str
    """As a reader knows it."""
    algorithm: str
    """`sha256`, or `gitCommit`."""
    value: str
    """Hexadecimal."""
    uri: str = ""
    annotations: Mapping[str, Any] = {}

    @property
    def descriptor(self) -> dict[str, Any]:
        """As a statement says it."""
        found: dict[str, Any] = {"name": self.name, "digest": {self.algorithm: self.value}}
        if self.uri:
            found["uri"] = self.uri
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a SLSA provenance says of one build."""

    build_type: str
    external: Mapping[str, Any]
    """What whoever asked for the build decided."""
    internal: Mapping[str, Any]
    """What the builder decided."""
    dependencies: tuple[Dependency, ...]
    builder: str
    version: str
    """Of tidewaiter."""
    invocation: str
    started: dt.datetime
    finished: dt.datetime
    ci: Mapping[str, str] = {}
    """What the CI says of the job; none of it decides bytes."""

    @property
    def predicate(self) -> dict[str, Any]:
        """The predicate alone."""
        return {
            "buildDefinition": {
                "buildType": self.build_type,
                "externalParameters": dict(self.external),
                "internalParameters": dict(self.internal),
                "resolvedDependencies": [one.descriptor for one in self.dependencies],
            },
            "runDetails": {
                "builder": {"id": builder_id(self.builder), "version": {"tidewaiter": self.version}},
                "metadata": {
                    "invocationId": self.invocation,
                    "startedOn": rfc3339(self.started),
                    "finishedOn": rfc3339(self.finished),
                    # A field of our own, as SLSA wants such named: after who defines it.
                    **({"tidewaiter_ci": dict(self.ci)} if self.ci else {}),
                },
            },
        }

    def statement(self, subject: str, digest: Digest) -> dict[str, Any]:
        """The in-toto statement about the image `digest`, which is called `subject`; not signed."""
        return {
            "_type": STATEMENT,
            "subject": [{"name": subject, "digest": {digests.algorithm(digest): digests.hexadecimal(digest)}}],
            "predicateType": PREDICATE,
            "predicate": self.predicate,
        }


def builder_id(name: str) -> str:
    """How provenance names the builder `name`."""
    return f"urn:tidewaiter:builder:{name}"


def of(build: Build, *, builder: str = LOCAL_BUILDER, pipeline_run: str = "") -> Provenance:
    """The provenance of a finished build.

    Args:
        build: what was built.
        builder: who built it.
        pipeline_run: address or name of the run of CI that it was a part of; empty without one.
    """
    file = build.project.file
    source = _git(build).descriptor
    moment = f"{build.image.digest} {build.source.commit} {build.started.isoformat()}"
    return Provenance(
        build_type=FROM_DOCKERFILE if file.build is not None else ASSEMBLED,
        external={
            "source": {key: source[key] for key in ("uri", "digest") if key in source}
            | {"folder": build.source.folder}
            | ({"submodules": True} if build.source.submodules else {})
            | ({"lfs": True} if build.source.lfs else {}),
            "project": msgspec.to_builtins(file),
            "platform": f"{build.foundation.platform.os}/{build.foundation.platform.architecture}",
            "compression": build.wanted.compression,
            **({} if build.wanted.bytecode is None else {"bytecode": build.wanted.bytecode}),
            "created": rfc3339(build.created),
        },
        internal={
            "compressor": compression.identity(build.wanted.compression),
            "layerFormat": layer.FORMAT_VERSION,
            **({"dockerfileBuilder": build.foundation.builder} if build.foundation.builder else {}),
        },
        dependencies=dependencies(build),
        builder=builder,
        version=tidewaiter.__version__,
        invocation=pipeline_run or hashlib.sha256(moment.encode()).hexdigest()[:32],
        started=build.started,
        finished=build.finished,
        ci=build.source.run,
    )


def dependencies(build: Build) -> tuple[Dependency, ...]:
    """Every input that the image's bytes depend on, by digest, each once; the source comes first."""
    found = [_git(build), *_locked(build.locks)]
    found += [_image(name, digest) for name, digest in build.foundation.images]
    found += [_by_digest(f"model {model.name} {model.version}", model.digest) for model in build.models]
    return tuple({(one.name, one.value): one for one in found}.values())


def _by_digest(name: str, digest: Digest, *, uri: str = "") -> Dependency:
    return Dependency(name=name, algorithm=digests.algorithm(digest), value=digests.hexadecimal(digest), uri=uri)


def _git(build: Build) -> Dependency:
    remote = build.project.file.image.source or build.source.remote
    return Dependency(
        name="git",
        algorithm="gitCommit",
        value=build.source.commit,
        uri=f"git+{remote}@{build.source.commit}" if "://" in remote else "",
        # Inputs that differ from the commit are in no way named by it, and whoever reads this must know.
        annotations={"dirty": True} if build.source.dirty else {},
    )


def _locked(locks: Locks) -> Iterator[Dependency]:
    if locks.recipe is not None:
        yield _by_digest(f"recipe {locks.recipe.name}", locks.recipe.digest)
    if locks.base is not None:
        yield _by_digest("base.lock", locks.base.digest)
        for package in locks.base.packages:
            purl = f"pkg:deb/debian/{package.name}@{package.version}?arch={package.architecture}"
            yield Dependency(name=purl, algorithm="sha256", value=package.sha256, uri=purl)
    if locks.python is not None and locks.python_digest is not None:
        yield _by_digest(locks.python.path.name, locks.python_digest)
        yield from _wheels(locks.python)


def _wheels(lock: PythonLock) -> Iterator[Dependency]:
    """Wheels, and what those that were built from source were built from."""
    for wheel in lock.wheels:
        yield _wheel(wheel)
        if wheel.built is not None:
            yield _wheel(wheel.built.sdist)
            yield from map(_wheel, wheel.built.requires)
    yield from map(_wheel, lock.package_requires)


def _purl(kind: str, name: str, version: str, **qualifiers: str) -> str:
    """A package URL; written here, since a build without news must not load a library for it."""
    tail = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in sorted(qualifiers.items()))
    return f"pkg:{kind}/{quote(name, safe='')}@{quote(version, safe=':')}{f'?{tail}' if tail else ''}"


def _wheel(wheel: LockedWheel) -> Dependency:
    uri = _purl("pypi", wheel.name, wheel.version, file_name=wheel.filename)
    return Dependency(name=wheel.filename, algorithm="sha256", value=wheel.sha256, uri=uri)


def _image(name: str, digest: Digest) -> Dependency:
    try:
        given = references.parse(name)
    except InputError:
        return _by_digest(name, digest)  # a layout, by its path
    if not isinstance(given, RegistryReference):
        return _by_digest(name, digest)
    qualifiers = {"repository_url": f"{given.host}/{given.repository}"} | ({"tag": given.tag} if given.tag else {})
    return _by_digest(name, digest, uri=_purl("oci", given.repository.rpartition("/")[2], digest, **qualifiers))
