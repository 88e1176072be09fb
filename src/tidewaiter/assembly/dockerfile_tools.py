"""What can build a Dockerfile here, and what each is told: BuildKit by `buildctl` or `docker buildx`, and buildah.

Every tool is told the same: the pinned Dockerfile, the staged context, fixed times, secrets as mounts only, one
platform, the caches. The result leaves it as files, never through a daemon's store of images.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tidewaiter.core import limits, settings
from tidewaiter.core.errors import MissingToolError
from tidewaiter.core.settings import Settings
from tidewaiter.oci.manifest import Platform

Name = Literal["buildctl", "buildah", "docker"]
Driver = Literal["overlay", "vfs"]
ORDER: tuple[Name, ...] = ("buildctl", "buildah", "docker")
"""Which is taken first when nobody chose: buildah needs no daemon, and buildx often has one that cannot export."""
_INSTALL = "Install buildah (Debian: apt-get install buildah), or start BuildKit and set BUILDKIT_HOST."


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to build, in the words of no tool."""

    dockerfile: Path
    context: Path
    platform: Platform
    times: int
    """Unix time that files in layers get."""
    target: str | None = None
    arguments: Mapping[str, str] = {}
    secrets: Mapping[str, str] = {}
    """Environment variable by the ID of the mount."""
    cache_from: str = ""
    cache_to: str = ""
    fresh: bool = False
    """Whether every step runs, whatever the builder remembers."""
    compression: str = "gzip"

    @property
    def platform_name(self) -> str:
        """As the tools write it, for example `linux/amd64`."""
        return f"{self.platform.os}/{self.platform.architecture}"


class Tool(msgspec.Struct, frozen=True):
    """A builder that works here."""

    name: Name
    version: str
    driver: Driver | None = None
    """How buildah stores layers; their bytes differ between drivers."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}{f' ({self.driver})' if self.driver else ''}"


def buildctl_line(job: Job, archive: Path) -> list[str]:
    """The command line that writes an OCI archive with buildctl."""
    line = ["buildctl", "build", "--progress", "plain", "--frontend", "dockerfile.v0"]
    line += ["--local", f"context={job.context}", "--local", f"dockerfile={job.dockerfile.parent}"]
    line += ["--opt", f"filename={job.dockerfile.name}", "--opt", f"platform={job.platform_name}"]
    if job.target:
        line += ["--opt", f"target={job.target}"]
    for name, value in {"SOURCE_DATE_EPOCH": str(job.times), **job.arguments}.items():
        line += ["--opt", f"build-arg:{name}={value}"]
    for name, variable in job.secrets.items():
        line += ["--secret", f"id={name},env={variable}"]
    if job.fresh:
        line.append("--no-cache")
    if job.cache_from:
        line += ["--import-cache", f"type=registry,ref={job.cache_from}"]
    if job.cache_to:
        line += ["--export-cache", f"type=registry,ref={job.cache_to},mode=max"]
    return [*line, "--output", _buildkit_output(job, archive)]


def docker_line(job: Job, archive: Path) -> list[str]:
    """The command line that writes an OCI archive with Docker's buildx."""
    line = ["docker", "buildx", "build", "--progress", "plain", "--provenance=false", "--sbom=false"]
    line += ["--file", str(job.dockerfile), "--platform", job.platform_name]
    if job.target:
        line += ["--target", job.target]
    for name, value in {"SOURCE_DATE_EPOCH": str(job.times), **job.arguments}.items():
        line += ["--build-arg", f"{name}={value}"]
    for name, variable in job.secrets.items():
        line += ["--secret", f"id={name},env={variable}"]
    if job.fresh:
        line.append("--no-cache")
    if job.cache_from:
        line += ["--cache-from", f"type=registry,ref={job.cache_from}"]
    if job.cache_to:
        line += ["--cache-to", f"type=registry,ref={job.cache_to},mode=max"]
    return [*line, "--output", _buildkit_output(job, archive), str(job.context)]


def _buildkit_output(job: Job, archive: Path) -> str:
    return f"type=oci,dest={archive},rewrite-timestamp=true,compression={job.compression}"


def buildah_line(job: Job, storage: list[str], image_id: Path, *, more: list[str]) -> list[str]:
    """The command line that builds in buildah's `storage` and writes the image's ID to the file `image_id`."""
    line = ["buildah", *storage, "build", "--format", "oci", "--layers", "--identity-label=false", *more]
    line += ["--timestamp", str(job.times), "--file", str(job.dockerfile), "--platform", job.platform_name]
    if job.target:
        line += ["--target", job.target]
    for name, value in job.arguments.items():
        line += ["--build-arg", f"{name}={value}"]
    for name, variable in job.secrets.items():
        line += ["--secret", f"id={name},env={variable}"]
    if job.fresh:
        line.append("--no-cache")
    if job.cache_from:
        line += ["--cache-from", job.cache_from]
    if job.cache_to:
        line += ["--cache-to", job.cache_to]
    return [*line, "--iidfile", str(image_id), str(job.context)]


# Which of them


def storage_of(home_cache: Path, driver: Driver) -> list[str]:
    """Options that keep buildah out of the user's own storage."""
    folder = home_cache / "buildah" / driver
    return ["--storage-driver", driver, "--root", str(folder / "root"), "--runroot", str(folder / "run")]


def asked(*line: str) -> tuple[bool, str]:
    """Whether the command succeeds within `limits.BUILDER_PROBE_SECONDS`, and its output or why not."""
    if shutil.which(line[0]) is None:
        return False, "is not installed"
    try:
        done = subprocess.run(
            line,
            env=settings.engine_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limits.BUILDER_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"does not answer: {error}"
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        return False, said[-1][: limits.BUILDER_LINE_BYTES]
    return True, done.stdout.decode(errors="replace").strip()


def _version(text: str) -> str:
    """The first word of `text` that begins with a digit, as tools print their versions."""
    words = (word.lstrip("v").rstrip(",") for word in text.split())
    return next((word for word in words if word[:1].isdigit()), "unknown")


def _buildctl(_cache: Path) -> Tool | str:
    works, said = asked("buildctl", "debug", "workers")
    if not works:
        return said
    return Tool("buildctl", _version(asked("buildctl", "--version")[1]))


def _buildah(cache: Path) -> Tool | str:
    works, said = asked("buildah", "--version")
    if not works:
        return said
    version = _version(said)
    drivers: tuple[Driver, ...] = ("overlay", "vfs")
    for driver in drivers:
        works, said = asked("buildah", *storage_of(cache, driver), "info")
        if works:
            return Tool("buildah", version, driver)
    return said


def _docker(_cache: Path) -> Tool | str:
    works, said = asked("docker", "buildx", "inspect", "--bootstrap")
    if not works:
        return said
    drivers = [line.split()[-1] for line in said.splitlines() if line.startswith("Driver:")]
    if drivers == ["docker"] and not _containerd_store():
        return "its builder has the driver `docker`, which cannot export (`docker buildx create --use` makes another)"
    return Tool("docker", _version(asked("docker", "buildx", "version")[1]))


def _containerd_store() -> bool:
    """Whether Docker keeps images in containerd's store; only then its own builder can write OCI archives."""
    works, said = asked("docker", "info", "--format", "{{json .DriverStatus}}")
    try:
        return works and "io.containerd.snapshotter.v1" in str(json.loads(said))
    except ValueError:
        return False


_PROBES: dict[Name, Callable[[Path], Tool | str]] = {"buildctl": _buildctl, "buildah": _buildah, "docker": _docker}


def choose(wanted: Settings) -> Tool:
    """The builder that the settings name, else the first of `ORDER` that works.

    Raises:
        MissingToolError: it does not work here, or none does; the message has each one's reason.
    """
    names = [name for name in ORDER if wanted.builder in {"auto", name}]
    reasons = []
    for name in names:
        found = _PROBES[name](wanted.home.cache)
        if isinstance(found, Tool):
            return found
        reasons.append(f"{name}: {found}")
    raise MissingToolError(f"no builder for Dockerfiles works here ({'; '.join(reasons)})", next_step=_INSTALL)
