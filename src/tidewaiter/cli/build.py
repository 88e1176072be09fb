"""`lock` and `build`: from a folder with a commit to an image in the store."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tidewaiter.assembly import python_lock
from tidewaiter.assembly.build import Build, lock_base, lock_python
from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import project as projects
from tidewaiter.pipelines import building


def document(made: Build) -> dict[str, object]:
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


def summary(made: Build) -> list[str]:
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


def build(
    project: Path,
    /,
    *,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Build the image of a project into the local store.

    Needs neither Docker nor root, and runs nothing of the wheels or the app. Locks that are missing are
    written; a lock that does not fit its inputs is an error.

    Args:
        project: folder that holds tidewaiter.toml.
        output: text or json.
    """
    opened = projects.load(project)
    with workshop() as shop:
        made = building.build(shop, opened)
        building.list_in_store(shop, made)
    if output == "json":
        emit_json(document(made))
        return 0
    for line in summary(made):
        emit(line)
    rows = [
        (part.kind, size(part.info.size), "reused" if part.reused else "built", _short(part.contents))
        for part in made.parts
    ]
    console.table(("layer", "size", "", "contents"), rows)
    return 0


def _short(contents: tuple[str, ...]) -> str:
    shown = ", ".join(contents[:3])
    return shown if len(contents) <= 3 else f"{shown} and {len(contents) - 3} more"


def lock(
    project: Path,
    /,
    *,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Resolve the requirements of a project anew and write pylock.toml.

    The base's lock is written too when there is none; `tidewaiter base update PROJECT` renews it.

    Args:
        project: folder that holds tidewaiter.toml.
        output: text or json.
    """
    opened = projects.load(project)
    with workshop() as shop:
        if not opened.base_lock.exists():
            lock_base(opened, settings=shop.settings, client=shop.client, progress=shop.progress)
        locked = lock_python(opened, settings=shop.settings, progress=shop.progress)
    packages = [{"name": wheel.name, "version": wheel.version, "file": wheel.filename} for wheel in locked.wheels]
    if output == "json":
        emit_json({"lock": str(opened.python_lock), "digest": python_lock.digest(locked), "packages": packages})
        return 0
    emit(f"{opened.python_lock}: {len(packages)} packages, {python_lock.digest(locked)}")
    emit("Commit it together with base.lock.")
    return 0
