"""`doctor`: what is wrong here, why, and which command mends it."""

from typing import Annotated

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.pipelines.doctor import examine

_CODES = {"ok": 0, "warning": 0, "problem": 1, "unknown": 3}


def doctor(
    *,
    deep: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Look for what is wrong: settings, tools, disk, clock, databases, advisories, keys, images.

    Nothing is changed. Exit code 1: there is a problem. 3: there is none, and something could not be found out.

    Args:
        deep: read every blob of the store instead of a sample.
        output: text or json.
    """
    found = examine.examine(deep=deep, progress=console.progress())
    if output == "json":
        emit_json(msgspec.to_builtins(found))
        return _CODES[found.status]
    for check in found.checks:
        emit(f"{check.status:8} {check.name}: {check.message}")
        if check.remedy:
            emit(f"         {check.remedy}")
    counts = [f"{found.count(status)} {status}" for status in ("problem", "unknown", "warning", "ok")]
    emit(f"{found.home}: {', '.join(counts)}")
    return _CODES[found.status]
