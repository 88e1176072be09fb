"""Which builder is taken, and what each is told. Programs of one's own stand in for the tools here; what the tools
then do is `test_dockerfile.py`'s business."""

from pathlib import Path

import pytest

from tidewaiter.assembly import dockerfile_tools
from tidewaiter.assembly.dockerfile_tools import Job, Tool
from tidewaiter.assembly.options import AMD64
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import MissingToolError

JOB = Job(
    dockerfile=Path("/w/Dockerfile"),
    context=Path("/w/context"),
    platform=AMD64,
    times=315_532_800,
    target="final",
    arguments={"A": "1"},
    secrets={"tok": "TOKEN"},
    cache_from="r.example.com/in",
    cache_to="r.example.com/out",
)
LITTLE = Job(dockerfile=Path("/w/Dockerfile"), context=Path("/w/context"), platform=AMD64, times=5)


def _words(line: str) -> list[str]:
    return line.split(" ")


def test_buildctl_is_told_everything() -> None:
    """Frontend, context, target, arguments, secrets as mounts, caches, fixed times, result as a file."""
    assert dockerfile_tools.buildctl_line(JOB, Path("/w/image.tar")) == _words(
        "buildctl build --progress plain --frontend dockerfile.v0 --local context=/w/context --local dockerfile=/w "
        "--opt filename=Dockerfile --opt platform=linux/amd64 --opt target=final "
        "--opt build-arg:SOURCE_DATE_EPOCH=315532800 --opt build-arg:A=1 --secret id=tok,env=TOKEN "
        "--import-cache type=registry,ref=r.example.com/in --export-cache type=registry,ref=r.example.com/out,mode=max "
        "--output type=oci,dest=/w/image.tar,rewrite-timestamp=true,compression=gzip"
    )


def test_docker_is_told_everything() -> None:
    """The same by buildx, without attestations of its own."""
    assert dockerfile_tools.docker_line(JOB, Path("/w/image.tar")) == _words(
        "docker buildx build --progress plain --provenance=false --sbom=false --file /w/Dockerfile "
        "--platform linux/amd64 --target final --build-arg SOURCE_DATE_EPOCH=315532800 --build-arg A=1 "
        "--secret id=tok,env=TOKEN --cache-from type=registry,ref=r.example.com/in "
        "--cache-to type=registry,ref=r.example.com/out,mode=max "
        "--output type=oci,dest=/w/image.tar,rewrite-timestamp=true,compression=gzip /w/context"
    )


def test_buildah_is_told_everything() -> None:
    """The same by buildah, in a storage of its own."""
    storage = dockerfile_tools.storage_of(Path("/home/cache"), "vfs")
    assert dockerfile_tools.buildah_line(JOB, storage, Path("/w/id"), more=["--authfile", "/a"]) == _words(
        "buildah --storage-driver vfs --root /home/cache/buildah/vfs/root --runroot /home/cache/buildah/vfs/run "
        "build --format oci --layers --identity-label=false --authfile /a --timestamp 315532800 --file /w/Dockerfile "
        "--platform linux/amd64 --target final --build-arg A=1 --secret id=tok,env=TOKEN "
        "--cache-from r.example.com/in --cache-to r.example.com/out --iidfile /w/id /w/context"
    )


def test_what_is_not_asked_for_is_not_said() -> None:
    """Without target, secrets and caches no tool gets an option for them."""
    lines = [
        dockerfile_tools.buildctl_line(LITTLE, Path("/o")),
        dockerfile_tools.docker_line(LITTLE, Path("/o")),
        dockerfile_tools.buildah_line(LITTLE, [], Path("/i"), more=[]),
    ]
    for line in lines:
        assert not any("cache" in word or "secret" in word or "target" in word for word in line)


def test_declared_epoch_replaces_the_times_of_layers_in_buildkit() -> None:
    """The commit's time, when the Dockerfile asks for it, is what BuildKit is told once and only."""
    job = Job(
        dockerfile=Path("/w/D"), context=Path("/w"), platform=AMD64, times=5, arguments={"SOURCE_DATE_EPOCH": "9"}
    )
    assert "build-arg:SOURCE_DATE_EPOCH=9" in dockerfile_tools.buildctl_line(job, Path("/o"))
    assert "build-arg:SOURCE_DATE_EPOCH=5" not in dockerfile_tools.buildctl_line(job, Path("/o"))


# Choosing


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def _choose(tmp_path: Path, builder: str = "auto") -> Tool:
    return dockerfile_tools.choose(
        settings.load({"TIDEWAITER_HOME": str(tmp_path / "home"), "TIDEWAITER_BUILDER": builder})
    )


BUILDCTL = '[ "$1" = --version ] && echo "buildctl github.com/moby/buildkit v0.25.2 abc"; exit 0'
BUILDAH = '[ "$1" = --version ] && echo "buildah version 1.28.2 (image-spec 1.1)"; exit 0'
DOCKER = 'case "$*" in *inspect*) echo "Driver: docker-container";; *version*) echo "x v0.29.1 y";; esac'


def test_order_when_nobody_chose(programs: Path, tmp_path: Path) -> None:
    """buildctl before buildah before docker, each only when it works."""
    _program(programs, "docker", DOCKER)
    assert _choose(tmp_path) == Tool("docker", "0.29.1")
    _program(programs, "buildah", BUILDAH)
    assert _choose(tmp_path) == Tool("buildah", "1.28.2", "overlay")
    _program(programs, "buildctl", BUILDCTL)
    assert _choose(tmp_path) == Tool("buildctl", "0.25.2")
    assert _choose(tmp_path, "docker") == Tool("docker", "0.29.1")
    _program(programs, "buildctl", "echo no daemon >&2; exit 1")
    assert _choose(tmp_path).name == "buildah"


def test_buildah_without_overlay_copies(programs: Path, tmp_path: Path) -> None:
    """Where the kernel allows no overlay, layers are stored as copies."""
    _program(programs, "buildah", f'[ "$2" = overlay ] && exit 125\n{BUILDAH}')
    assert _choose(tmp_path).driver == "vfs"


def test_docker_that_cannot_export_says_so(programs: Path, tmp_path: Path) -> None:
    """Docker's own builder writes no OCI archive unless containerd keeps its images."""
    script = 'case "$*" in *inspect*) echo "Driver: docker";; *version*) echo v1.0;; *info*) echo \'{}\';; esac'
    _program(programs, "docker", script.format("[]"))
    with pytest.raises(MissingToolError, match="cannot export"):
        _choose(tmp_path)
    _program(programs, "docker", script.format('[["driver-type","io.containerd.snapshotter.v1"]]'))
    assert _choose(tmp_path).name == "docker"


def test_reason_of_each_is_told(programs: Path, tmp_path: Path) -> None:
    """When none works, the error says why each does not, and what to install."""
    _program(programs, "buildah", "echo newuidmap is missing >&2; exit 125")
    with pytest.raises(MissingToolError) as caught:
        _choose(tmp_path)
    assert "buildctl: is not installed; buildah: newuidmap is missing; docker: is not installed" in str(caught.value)
    assert "apt-get install buildah" in caught.value.next_step


def test_tool_that_never_answers_is_passed_over(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose daemon hangs does not hang the build."""
    monkeypatch.setattr(limits, "BUILDER_PROBE_SECONDS", 0.2)
    _program(programs, "buildctl", "exec /bin/sleep 30")
    with pytest.raises(MissingToolError, match="buildctl: does not answer"):
        _choose(tmp_path, "buildctl")


def test_only_named_variables_reach_a_tool(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own keys and passwords are not in a builder's environment."""
    monkeypatch.setenv("COSIGN_PASSWORD", "secret")
    monkeypatch.setenv("BUILDKIT_HOST", "unix:///x")
    _program(programs, "buildctl", f"/usr/bin/env > {tmp_path}/seen; echo v1.0")
    _choose(tmp_path, "buildctl")
    seen = (tmp_path / "seen").read_text()
    assert "BUILDKIT_HOST=unix:///x" in seen
    assert "COSIGN_PASSWORD" not in seen
