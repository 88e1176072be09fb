"""`notice`: who is told in words what happened."""

from typing import Annotated

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import settings
from tidewaiter.pipelines.notices import trying


def list_notices(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List who is told of what, as the settings say, and how many notices wait.

    Args:
        output: text or json.
    """
    with workshop(looking=True) as shop:
        found = trying.listed(shop.catalog, shop.settings)
    if output == "json":
        emit_json({"notices": msgspec.to_builtins(found)})
        return 0
    console.table(
        ("notice", "to", "about", "state", "waiting", "delivered", "given up", "last error"),
        [
            (
                one.told.name,
                one.to,
                ", ".join(one.about),
                f"{one.told.state}: {one.told.reason}" if one.told.reason else one.told.state,
                str(one.told.waiting),
                str(one.told.delivered),
                str(one.told.dead),
                one.told.last_error,
            )
            for one in found
        ],
    )
    return 0


def send_test(notice: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Send a message now that says nothing but that it is a test.

    Exits with 1 when it is not taken.

    Args:
        notice: its name in the settings.
        output: text or json.
    """
    tried = trying.test(settings.load(), notice)
    if output == "json":
        emit_json({"taken": tried.taken, "attempt": msgspec.to_builtins(tried.attempt)})
    elif tried.taken:
        emit(f"taken after {tried.attempt.seconds:.3f} s")
    else:
        emit(f"not taken: {tried.attempt.error}")
    return 0 if tried.taken else 1
