"""`whoami`: as whom the server knows this command line."""

from typing import Annotated

import msgspec

from tidewaiter.cli import remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.core.errors import InputError


class _Identity(msgspec.Struct, frozen=True):
    """Who asks, as the server says it."""

    name: str
    kind: str
    roles: dict[str, tuple[str, ...]]
    scope: tuple[str, ...] | None
    permissions: tuple[str, ...]


def whoami(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show as whom the server knows you: name, roles by project, and what a token is limited to.

    Args:
        output: text or json.
    """
    with remote.opened() as server:
        if server is None:
            raise InputError(
                "no server is named, and a home knows nobody", next_step="Set TIDEWAITER_SERVER and TIDEWAITER_TOKEN."
            )
        found, address = server.get("/whoami", _Identity), server.address
    if output == "json":
        emit_json({"server": address, **msgspec.to_builtins(found)})
        return 0
    emit(f"{found.name} ({found.kind}) at {address}")
    for project, roles in found.roles.items():
        emit(f"  {'everywhere' if project == '*' else project}: {', '.join(roles)}")
    if found.scope is not None:
        emit(f"  limited to: {', '.join(found.scope) or 'nothing'}")
    return 0
