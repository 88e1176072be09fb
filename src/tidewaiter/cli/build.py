"""`lock` and `build`: from a folder with a commit to an image in the store."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tidewaiter.assembly import source
from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.parameters import Parameter
from tidewaiter.core import project as projects
from tidewaiter.oci.compression import Compression

if TYPE_CHECKING:
    from tidewaiter.assembly.build import Build
    from tidewaiter.assembly.options import Options


def document(made: "Build") -> dict[str, object]:
    """The JSON shape of a finished build."""
    return {
        "reference": made.reference,
        "digest": made.image.digest,
        "layers": [
            {
                "digest": part.info.digest,
                "diff_id": part.info.diff_id,
                "size": part.info.size,
                "kind": part.kind,
                "contents": list(part.contents),
            }
            for part in made.parts
        ],
        "reused_layers": sum(part.reused for part in made.parts),
        "built_layers": sum(not part.reused for part in made.parts),
        "seconds": round(made.seconds, 3),
        "lock_digest": made.locks.digest,
    }


def summary(made: "Build") -> list[str]:
    """What a person wants to know of a build, as lines."""
    total = sum(part.info.size for part in made.parts)
    built = sum(not part.reused for part in made.parts)
    return [
        f"{made.reference}",
        f"  digest  {made.image.digest}",
        f"  layers  {len(made.parts)} ({built} built, {len(made.parts) - built} reused), {size(total)}",
        f"  locks   {made.locks.digest}",
        f"  time    {made.seconds:.1f} s",
    ]


PlatformName = Literal["linux/amd64", "linux/arm64"]


def options(compression: Compression, platform: PlatformName, *, bytecode: bool | None) -> "Options":
    """What the options of `build` and `ci` ask for."""
    from tidewaiter.assembly.options import Options
    from tidewaiter.oci.manifest import Platform

    system, _, architecture = platform.partition("/")
    return Options(compression=compression, platform=Platform(os=system, architecture=architecture), bytecode=bytecode)


def build(
    project: Path,
    /,
    *,
    compression: Compression = "gzip",
    platform: PlatformName = "linux/amd64",
    bytecode: bool | None = None,
    provenance: Path | None = None,
    push: str | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Build the image of a project into the local store.

    Needs neither Docker nor root, and runs nothing of the wheels or the app. Locks that are missing are
    written; a lock that does not fit its inputs is an error.

    With --push the image goes to a registry, too: freely for research, for all else only where a verdict allows it.

    Args:
        project: folder that holds tidewaiter.toml.
        compression: of the layers of wheels, models and app; some old clients cannot read zstd.
        platform: what the image runs on; another one than this machine's needs --no-bytecode.
        bytecode: with or without compiled Python files, recorded in pylock.toml; as the lock says when not given.
        provenance: file to write what the image was made of: SLSA v1 in an in-toto statement, not signed.
        push: HOST/REPO[:TAG] to push the image to as well; without a tag, the image's own.
        output: text or json.
    """
    if push is not None:
        from tidewaiter.cli import build_push

        to = build_push.destination(push)
    opened = projects.load(project)
    with source.reading(opened) as asked:
        # Git looks at the project while all that builds is loaded.
        from tidewaiter.cli.workshop import workshop
        from tidewaiter.pipelines import bounding, building

        with workshop() as shop:
            wanted = options(compression, platform, bytecode=bytecode)
            meanwhile = building.load_recording
            if push is not None:
                build_push.require_own_settings(shop.settings, to)
                meanwhile = partial(build_push.load, shop.settings, to)
            made = building.build(shop, opened, wanted, asked=asked, meanwhile=meanwhile)
            building.list_in_store(shop, made.name, made.tag, made.image)
            if provenance is not None:
                building.write_provenance(made, provenance, pipeline_run=shop.settings.pipeline_run)
            pushed = None if push is None else build_push.push(shop, made, to)
    bounding.keep(shop.settings, made, shop.progress)
    if output == "json":
        emit_json(document(made) if pushed is None else {**document(made), "pushed": build_push.document(pushed)})
        return 0
    for line in summary(made):
        emit(line)
    rows = [
        (part.kind, size(part.info.size), "reused" if part.reused else "built", _short(part.contents))
        for part in made.parts
    ]
    console.table(("layer", "size", "", "contents"), rows)
    if pushed is not None:
        build_push.show(pushed)
    return 0


def _short(contents: tuple[str, ...]) -> str:
    shown = ", ".join(contents[:3])
    return shown if len(contents) <= 3 else f"{shown} and {len(contents) - 3} more"


def lock(
    project: Path,
    /,
    *,
    platform: PlatformName = "linux/amd64",
    bytecode: bool | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Resolve the requirements of a project anew and write pylock.toml.

    The base's lock is written too when there is none; `tidewaiter base update PROJECT` renews it.

    Args:
        project: folder that holds tidewaiter.toml.
        platform: what the image runs on; each has locks of its own.
        bytecode: whether images from this lock have compiled Python files; as the lock said when not given.
        output: text or json.
    """
    from tidewaiter.assembly import python_lock
    from tidewaiter.cli.workshop import workshop
    from tidewaiter.pipelines import building

    opened = projects.load(project)
    with workshop() as shop:
        locked = building.lock(shop, opened, wanted=options("gzip", platform, bytecode=bytecode))
    packages = [{"name": wheel.name, "version": wheel.version, "file": wheel.filename} for wheel in locked.wheels]
    if output == "json":
        emit_json({"lock": str(locked.path), "digest": python_lock.digest(locked), "packages": packages})
        return 0
    emit(f"{locked.path}: {len(packages)} packages, {python_lock.digest(locked)}")
    emit("Commit it together with base.lock.")
    return 0
