"""`base list` and `base update`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tidewaiter.assembly import base_lock, recipe
from tidewaiter.assembly.build import lock_base
from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import project as projects
from tidewaiter.core import settings
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Project


def list_bases(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List the recipes that a project can name.

    `[base] use` in tidewaiter.toml takes such a name.

    Args:
        output: text or json.
    """
    own = settings.load().home.recipes
    found = [recipe.load(name, own=own) for name in recipe.names(own)]
    rows = [
        {"name": one.name, "python": one.python, "architecture": one.architecture, "digest": one.digest}
        for one in found
    ]
    if output == "json":
        emit_json({"recipes": rows})
    else:
        console.table(
            ("name", "python", "architecture", "recipe"),
            [(row["name"], row["python"], row["architecture"], row["digest"]) for row in rows],
        )
    return 0


def _versions(project: Project) -> dict[str, str]:
    """Package versions of the lock that is there; none when it is missing or cannot be read."""
    try:
        return {package.name: package.version for package in base_lock.read(project.base_lock).packages}
    except InputError:
        return {}


def update(
    project: Path,
    /,
    *,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Lock the newest Debian packages for a project's base and show what changes.

    Args:
        project: folder that holds tidewaiter.toml.
        output: text or json.
    """
    opened = projects.load(project)
    before = _versions(opened)
    with workshop() as shop:
        locked = lock_base(opened, settings=shop.settings, client=shop.client, progress=shop.progress)
    after = {package.name: package.version for package in locked.packages}
    changes = [
        {"package": name, "before": before.get(name), "after": after.get(name)}
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if output == "json":
        emit_json({"lock": str(opened.base_lock), "digest": locked.digest, "changes": changes})
        return 0
    emit(f"{opened.base_lock}: {len(after)} packages, {len(changes)} changed")
    for change in changes:
        emit(f"  {change['package']}: {change['before'] or 'absent'} -> {change['after'] or 'absent'}")
    return 0
