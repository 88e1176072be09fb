"""`environment`: which repositories and namespaces belong to which environment, as settings say."""

from typing import Annotated

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.core import settings
from tidewaiter.core.errors import InputError
from tidewaiter.policy import environments


def list_environments(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List the patterns that say which environment repositories and namespaces belong to.

    Args:
        output: text or json.
    """
    said = environments.said_by(settings.load())
    shadowed = said.shadowed()
    if output == "json":
        emit_json({"environments": said.tables, "default": said.default, "shadowed": shadowed})
        return 0
    rows = [
        (table.name, kind, pattern)
        for table in said.tables
        for kind, patterns in (("repository", table.repositories), ("namespace", table.namespaces))
        for pattern in patterns
    ]
    console.table(("environment", "of", "pattern"), rows)
    emit(f"anything else: {said.default or 'what its project says'}")
    for one in shadowed:
        emit(f"{one.environment} {one.pattern} decides nothing: {one.by} is {one.stricter}")
    return 0


def of(
    name: str,
    /,
    *,
    namespace: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Show which environment a repository or a namespace belongs to.

    Args:
        name: of a repository, with or without its host; with --namespace, CLUSTER/NAMESPACE.
        namespace: it is a namespace.
        output: text or json.
    """
    said = environments.said_by(settings.load())
    cluster, _, inside = name.partition("/")
    if namespace and not (cluster and inside and "/" not in inside):
        raise InputError(f"{name[:100]!r} names no namespace", next_step="Write it as CLUSTER/NAMESPACE.")
    found = said.of_namespace(cluster, inside) if namespace else said.of_repository(name)
    if output == "json":
        emit_json({"name": name, "kind": "namespace" if namespace else "repository", "environment": found})
    else:
        emit(f"{name}: {found or 'what its project says'}")
    return 0
